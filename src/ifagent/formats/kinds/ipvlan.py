"""Ipvlans in messages."""

from ifagent.core.kinds import Ipvlan
from ifagent.formats.kinds.contract import SettingsForm
from ifagent.formats.pb.ifagent import links

FORM = SettingsForm(Ipvlan, field="ipvlan", v1=links.Ipvlan, v3=links.Ipvlan)
