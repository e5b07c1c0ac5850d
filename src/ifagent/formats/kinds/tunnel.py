"""Tunnels in IPv4 or IPv6 in messages."""

from ifagent.core.kinds import Tunnel
from ifagent.formats.kinds.contract import SettingsForm
from ifagent.formats.pb.ifagent import links

FORM = SettingsForm(Tunnel, field="tunnel", v1=links.Tunnel, v3=links.Tunnel)
