"""TAPs that the agent makes in messages."""

from ifagent.core.kinds import TapDevice
from ifagent.formats.kinds.contract import SettingsForm
from ifagent.formats.pb.ifagent import links

FORM = SettingsForm(TapDevice, field="tap_device", v1=links.TunDevice, v3=links.TunDevice)
