"""Bonds in messages."""

from ifagent.core.kinds import Bond
from ifagent.formats.kinds.contract import SettingsForm
from ifagent.formats.pb.ifagent import links

FORM = SettingsForm(Bond, field="bond", v1=links.Bond, v3=links.Bond)
