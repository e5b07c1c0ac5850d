"""Macvlans in messages."""

from ifagent.core.kinds import Macvlan
from ifagent.formats.kinds.contract import SettingsForm
from ifagent.formats.pb.ifagent import links

FORM = SettingsForm(Macvlan, field="macvlan", v1=links.Macvlan, v3=links.Macvlan)
