"""Looking at paths that others chose, without ever waiting for a file system that does not answer.

A network or FUSE file system may keep whoever touches it for ever, and then not even SIGKILL ends the process. So a
path is walked name by name, each directory held by a descriptor (:mod:`ifagent.filesystem.walk`): as long as the
way leads over file systems of the kernel's own or on disks, in the calling thread; each step on any other is taken by
a helper process (:mod:`ifagent.filesystem.helpers`), which is given some time and can be left behind.
"""
