"""How ifagent speaks etcd: the only folder that imports grpc or aetcd.

Of aetcd only the generated stubs are used; its client and its watcher are not. grpc reads its
environment once, when it is first imported, so what it must be told is said here: no fork handlers (they
deadlock a forked child and crash with calls in flight) and no log lines of its own on standard error, nor a traceback
for every answer that cannot be decoded.
"""

from __future__ import annotations

import logging
import os

os.environ["GRPC_ENABLE_FORK_SUPPORT"] = "0"
os.environ.setdefault("GRPC_VERBOSITY", "NONE")
logging.getLogger("grpc._common").setLevel(logging.CRITICAL)
