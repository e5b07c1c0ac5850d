"""Bridges in messages."""

from ifagent.core.kinds import Bridge
from ifagent.formats.kinds.contract import SettingsForm
from ifagent.formats.pb.ifagent import links

FORM = SettingsForm(Bridge, field="bridge", v1=links.Bridge, v3=links.Bridge)
