"""The pure core: values, the index, the planner and the retry book.

No module here awaits, reads a clock, opens a file or a socket, or knows of netlink or etcd.
"""
