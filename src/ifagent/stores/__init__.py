"""Stores: where interfaces are declared, and where states may be published.

A kind of store is a folder here, with up to four things: a *source* from which the agent learns what should be, a
*store* by which other programs declare interfaces and read states, an *outlet* that publishes states, and a *backend*
(:class:`ifagent.stores.contract.StoreBackend`) that makes them for a URL and says what options they need. A new kind
is such a folder and a word in :data:`ifagent.stores.registry.BACKENDS`. Kinds know neither each other nor the agent.

Beside them are what any kind may use, :mod:`ifagent.stores.last_known` and :mod:`ifagent.stores.to_publish`, and
:mod:`ifagent.stores.memory`, a source without a URL: what a program declares itself.
"""
