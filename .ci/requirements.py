"""Print what installing and testing ifagent needs, one requirement a line, for ``pip wheel --requirement``."""

import sys
import tomllib
from pathlib import Path

project = tomllib.loads(Path("pyproject.toml").read_text())
groups = project["dependency-groups"]
optional = {"fuzz"}  # in no session that a change has to pass
wanted = [
    *project["build-system"]["requires"],
    *project["project"]["dependencies"],
    *(each for name, group in groups.items() if name not in optional for each in group if isinstance(each, str)),
    # Building an editable package needs this of hatchling.
    "editables",
    "virtualenv",
]
sys.stdout.write("\n".join(dict.fromkeys(wanted)) + "\n")
