"""The etcd store: the only folder that imports grpc or aetcd.

Of aetcd only the generated stubs are used, not its client or watcher. grpc reads its environment once, when it is
first imported, so it is configured here: no fork handlers (they deadlock a forked child and crash with calls in
flight), no log lines of its own on standard error, and no traceback for every answer that cannot be decoded.
"""

from __future__ import annotations

import logging
import os

os.environ["GRPC_ENABLE_FORK_SUPPORT"] = "0"
os.environ.setdefault("GRPC_VERBOSITY", "NONE")
logging.getLogger("grpc._common").setLevel(logging.CRITICAL)
