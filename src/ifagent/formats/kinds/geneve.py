"""Geneve tunnels in messages."""

from ifagent.core.kinds import Geneve
from ifagent.formats.kinds.contract import SettingsForm
from ifagent.formats.pb.ifagent import links

FORM = SettingsForm(Geneve, field="geneve", v1=links.Geneve, v3=links.Geneve)
