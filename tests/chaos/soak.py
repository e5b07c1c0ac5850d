"""A soak: the same harness with a calmer mix, first with an agent that is killed, then with one that lives long."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from chaos import resources
from chaos.harness import Account, Harness, Wrong
from chaos.resources import Sample
from chaos.script import Mix, Script
from chaos.stage import Stage

WITH_KILLS = Mix(invalid=2, namespaces=0, processes=0, files=0, containers=0, taps=2, foreign=0, etcd_ends=1.5)
LONG_LIVED = Mix(invalid=2, namespaces=3, processes=3, files=2, containers=1, taps=2, foreign=2, agent_ends=0)
SHARE_WITH_KILLS = 0.4
ROUNDS_BETWEEN_SAMPLES = 2


def soak(real: Stage, seed: int, seconds: float, folder: Path, say: Callable[[str], None]) -> Account:
    """Run both phases; print the tables; return the account of the second. Raises :class:`Wrong`."""
    say("first phase: the agent is killed")
    first = Harness(real, Script(seed, WITH_KILLS), folder / "actions-1.log", say=say)
    first.run(seconds=seconds * SHARE_WITH_KILLS)
    first.act(first.script.clear())
    first.check()
    say(first.account.table())

    say("second phase: one agent lives through everything")
    script = Script(seed + 1, LONG_LIVED, containers=real.docker is not None)
    second = Harness(real, script, folder / "actions-2.log", say=say)
    samples: list[Sample] = []
    began = time.monotonic()
    while time.monotonic() - began < seconds * (1 - SHARE_WITH_KILLS):
        second.run(rounds=ROUNDS_BETWEEN_SAMPLES)
        # Without interfaces there is always the same to do, so that the same must be in use.
        second.act(second.script.clear())
        second.check()
        assert real.agent
        samples.append(Sample.of(real.agent.pid))
    second.run(rounds=1)
    say(resources.table(samples))
    if grown := resources.growth(samples):
        raise Wrong("\n".join(grown))
    return second.account
