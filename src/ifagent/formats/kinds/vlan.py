"""VLANs in messages."""

from ifagent.core.kinds import Vlan
from ifagent.formats.kinds.contract import SettingsForm
from ifagent.formats.pb.ifagent import links

FORM = SettingsForm(Vlan, field="vlan", v1=links.Vlan, v3=links.Vlan)
