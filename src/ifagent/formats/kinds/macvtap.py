"""Macvtaps in messages."""

from ifagent.core.kinds import Macvtap
from ifagent.formats.kinds.contract import SettingsForm
from ifagent.formats.pb.ifagent import links

FORM = SettingsForm(Macvtap, field="macvtap", v1=links.Macvlan, v3=links.Macvlan)
