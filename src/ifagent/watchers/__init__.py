"""Which namespaces there are: those of processes, at paths, and of containers. They know neither each other nor stores.

Named namespaces are followed by the kernel side itself, in :mod:`ifagent.kernel.named_namespaces`.
"""
