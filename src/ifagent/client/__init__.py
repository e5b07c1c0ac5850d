"""How other programs direct and follow an agent, from any machine that reaches its store.

::

    async with open_store("etcd://10.0.0.1:2379", label="host1") as store:
        await store.put([Interface(name="a", kind=Veth(peer_if_name="b"), enabled=True)])
        await store.states()

    async with aclosing(watch("etcd://10.0.0.1:2379", label="host1")) as events:
        async for event in events:  # what is so, then every change; restarts of etcd and agent are waited out
            ...

A store of files works the same on the agent's own machine. Of the other modules here nothing is promised.
"""

from ifagent.client.stores import Store, default_socket, open_store, watch
from ifagent.etcd.access import Access

__all__ = ["Access", "Store", "default_socket", "open_store", "watch"]
