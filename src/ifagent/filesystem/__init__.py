"""Resolving untrusted paths without blocking on a file system that does not respond.

A network or FUSE file system may block a process for ever, and then not even SIGKILL ends it. So a path is walked
component by component, each directory held by a descriptor (:mod:`ifagent.filesystem.walk`). On the kernel's own file
systems and on those on disks this is done in the calling thread; on any other, each step is taken by a helper process
(:mod:`ifagent.filesystem.helpers`), which has a time limit and can be abandoned.
"""
