"""What would the agent do? The planner is a pure function: ask it, and nothing happens."""

from __future__ import annotations

from ipaddress import ip_interface

from ifagent import Desired, Interface, Observed, Veth, named, plan
from ifagent.core.link import NsId
from ifagent.core.ownership import Owner

OWN = NsId(4026531840)


def main() -> None:
    """Plan a pair and a lonely end in a kernel that has nothing yet."""
    interfaces = [
        Interface(name="a", kind=Veth(peer_if_name="b"), namespace=named("ns1"), enabled=True, mtu=1400),
        Interface(name="b", kind=Veth(peer_if_name="a"), ip_addresses=(ip_interface("10.0.0.2/24"),)),
        Interface(name="c", kind=Veth(peer_if_name="d")),
    ]
    nothing = Observed(own=OWN, namespaces={}, links={OWN: {}})
    print(plan(Desired({interface.name: interface for interface in interfaces}), nothing, Owner("example")))


if __name__ == "__main__":
    main()
