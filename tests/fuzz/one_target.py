"""Run one target under libFuzzer: ``python -m fuzz.one_target NAME [libFuzzer's options and folders]``."""

from __future__ import annotations

import logging
import sys
import warnings

import atheris

_INSTRUMENTED = [
    "ifagent.core",
    "ifagent.formats",
    "ifagent.kernel",
    "ifagent.stores",
    "ifagent.watchers",
]


def main() -> None:
    """Fuzz in this process, which ends with it."""
    name = sys.argv.pop(1)
    # What guides the fuzzer is put into modules when they are loaded, so nothing of them may be loaded before.
    with atheris.instrument_imports(include=[*_INSTRUMENTED, *(["ruamel.yaml"] if name == "yaml" else [])]):
        from fuzz.targets import TARGETS
    logging.getLogger("ifagent").setLevel(logging.CRITICAL)
    warnings.simplefilter("error")
    atheris.Setup(sys.argv, TARGETS[name].check)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
