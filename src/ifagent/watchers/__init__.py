"""Watchers find network namespaces: of processes, at paths, and of containers. They are independent of each other.

Named namespaces are watched in :mod:`ifagent.kernel.named_namespaces`.
"""
