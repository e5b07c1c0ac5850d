"""VRF devices in messages: ``VrfDevLink`` of v3."""

from ifagent.core.kinds import VrfDevice
from ifagent.formats.kinds.contract import SettingsForm
from ifagent.formats.pb import interfaces as v1
from ifagent.formats.pb.ligato.linux import interfaces as v3

FORM = SettingsForm(VrfDevice, field="vrf_dev", v1=v1.LinuxInterfacesInterfaceVrfDev, v3=v3.VrfDevLink)
