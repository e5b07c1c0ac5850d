"""Limits of the host in words: which one was reached, and what to do."""

from __future__ import annotations

import errno
import os
import resource
from typing import Final

_FILES: Final = "may be raised by LimitNOFILE= in a systemd unit, or by ulimit -n"


def in_words(error: OSError) -> str:
    """Say what the kernel refused, and if a limit was reached which one that is and how it is raised."""
    match error.errno:
        case errno.EMFILE:
            most, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
            return f"too many open files: {most} are allowed to this process, which {_FILES}"
        case errno.ENFILE:
            return "too many open files on this machine: the sysctl fs.file-max limits them"
        case errno.EAGAIN if isinstance(error, BlockingIOError):
            return "no more threads or processes: TasksMax= in a systemd unit, or ulimit -u, limits them"
    return error.strerror or str(error)


def inotify_in_words(error: OSError) -> str:
    """Say the same of a refusal of ``inotify_init`` or ``inotify_add_watch``, whose error numbers mean other limits."""
    match error.errno:
        case errno.EMFILE if _may_open_files():
            return (
                "no more inotify instances: raise the sysctl fs.inotify.max_user_instances "
                "(in a user namespace user.max_inotify_instances)"
            )
        case errno.ENOSPC:
            return (
                "no more inotify watches: raise the sysctl fs.inotify.max_user_watches "
                "(in a user namespace user.max_inotify_watches)"
            )
    return in_words(error)


def _may_open_files() -> bool:
    """Tell whether it is not the number of open files that ``EMFILE`` is about: two limits share it."""
    try:
        os.close(os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC))
    except OSError:
        return False
    return True
