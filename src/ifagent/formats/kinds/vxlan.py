"""VXLAN tunnels in messages."""

from ifagent.core.kinds import Vxlan
from ifagent.formats.kinds.contract import SettingsForm
from ifagent.formats.pb.ifagent import links

FORM = SettingsForm(Vxlan, field="vxlan", v1=links.Vxlan, v3=links.Vxlan)
