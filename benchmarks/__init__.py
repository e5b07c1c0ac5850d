"""Benchmarks: ``python -m benchmarks --help``, or ``nox -s bench``.

Everything is measured in private namespaces with a real etcd, as the tests have them, and every comparison is a ratio
of two things that were measured in turn (A B A B ...) in one run.
"""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parents[1] / "tests"))  # private.py, etcd_server.py
