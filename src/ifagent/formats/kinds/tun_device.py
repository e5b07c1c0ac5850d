"""TUNs that the agent makes in messages."""

from ifagent.core.kinds import TunDevice
from ifagent.formats.kinds.contract import SettingsForm
from ifagent.formats.pb.ifagent import links

FORM = SettingsForm(TunDevice, field="tun_device", v1=links.TunDevice, v3=links.TunDevice)
