"""The settings that tunnels of several kinds have when they are new."""

from typing import Final

from ifagent.core.link import LinkData

_ENDS: Final[LinkData] = (("local", ""), ("remote", ""))
_IPV4: Final[LinkData] = (("ttl", 0), ("tos", 0), ("pmtudisc", True))
_IPV6: Final[LinkData] = (
    ("hop_limit", 0),
    ("tos", 0),
    ("flow_label", 0),
    ("encap_limit", 0),
    ("ignore_encap_limit", False),
)
_GRE: Final[LinkData] = (("input_key", 0), ("output_key", 0), ("csum", False), ("seq", False))
_MARK: Final[LinkData] = (("fwmark", 0),)

GRE_IN_IPV4: Final = (*_ENDS, *_IPV4, *_GRE, *_MARK)
GRE_IN_IPV6: Final = (*_ENDS, *_IPV6, *_GRE, *_MARK)
IN_IPV4: Final = (*_ENDS, *_IPV4, *_MARK)
IN_IPV6: Final = (*_ENDS, *_IPV6, ("protocol", "any"), *_MARK)
