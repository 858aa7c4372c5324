"""The command `malfl check`: whether to believe the rewards that a trace gives."""

from __future__ import annotations

import argparse
import json
from typing import Any

from malfl_algos.cli.recovery import Recovery, read_recovery, recovery_arguments
from malfl_algos.cli.table import argument, command, log, tell

__all__ = ["check"]


@command(
    "check",
    "Say whether to believe the rewards that an observer recovers from a trace.",
    argument("trace", metavar="TRACE", help="read this trace.npz of malfl learn or reproduce"),
    argument(
        "--observer",
        metavar="NAME",
        default="ma-lfl-bellman",
        help="judge the rewards of this observer, by plugin name or by label in --config (default: "
        "ma-lfl-bellman)",
    ),
    *recovery_arguments(),
    argument("--json", action="store_true", help="print the verdict with all its numbers as JSON"),
    plugin="observer",
)
def check(arguments: argparse.Namespace) -> int:
    """Print the verdict; the exit status is 0 for believe, and 1 for doubt and do not believe."""
    given = read_recovery(arguments)
    from malfl_algos.plugins.results import blaming
    from malfl_algos.work.progress import Progress

    with Progress("checking", None, log=log), blaming(given.plugin):
        verdict = _verdict(given)
    if arguments.json:
        from malfl_algos.storage.results import plain

        tell(json.dumps(plain(verdict.plain()), indent=2))
    else:
        tell(verdict.summary())
        for line in given.defaults():
            log(f"malfl: {line}")
    return 0 if verdict.word == "believe" else 1


def _verdict(given: Recovery) -> Any:
    """The verdict on what the observer recovers, or on why it can recover nothing."""
    from malfl_algos.experiments.cell import recover
    from malfl_algos.verdict.deciding import contradicted, not_measured
    from malfl_env.errors import Contradiction, TooFewStages

    try:
        return recover(given.observer, given.trace, **given.given)[""].verdict
    except Contradiction as found:
        return contradicted(str(found))
    except TooFewStages as found:
        return not_measured("explained", str(found), "log more stages of learning")
