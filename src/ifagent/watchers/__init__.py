"""Which namespaces there are: those of processes, at paths, and of containers. They know neither each other nor stores.

Named namespaces are found by the kernel's own listening, in :mod:`ifagent.kernel.names`.
"""
