"""How long tests wait: what an idle machine does in milliseconds takes longer where everything is slow.

The variable ``IFAGENT_TEST_PATIENCE`` says how many times as long; every deadline of the tests is multiplied by it.
"""

from __future__ import annotations

import os
from typing import Final

PATIENCE: Final = float(os.environ.get("IFAGENT_TEST_PATIENCE", "1"))
