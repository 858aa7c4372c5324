"""The command `malfl check`: whether to believe the rewards that a trace gives."""

from __future__ import annotations

import argparse
import json
from typing import Any

from malfl_algos.cli.table import (
    argument,
    command,
    config_argument,
    existing,
    picked,
    read_config,
    read_options,
    read_scale,
    scale_arguments,
    tell,
    tell_of_compilation,
)
from malfl_algos.cli.traces import dynamics

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
    config_argument(),
    *scale_arguments(),
    argument(
        "--estimate-dynamics",
        action="store_true",
        help="estimate the game's dynamics from the trace (default: use the dynamics of the "
        "configuration's game)",
    ),
    argument(
        "--option",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="set an option of the observer to a value in YAML; may be repeated",
    ),
    argument("--json", action="store_true", help="print the verdict with all its numbers as JSON"),
    plugin="observer",
)
def check(arguments: argparse.Namespace) -> int:
    """Print the verdict; the exit status is 0 for believe, and 1 for doubt and do not believe."""
    from malfl_algos.experiments.config import PluginConfig
    from malfl_algos.plugins.loading import find_plugin

    config = read_config(arguments.config)
    wanted = picked(arguments.observer, config.observers)
    wanted["options"] = {**wanted["options"], **read_options(arguments.option)}
    plugin = find_plugin("observer", wanted["name"])
    existing(arguments.trace)
    tell_of_compilation()
    from malfl_algos.experiments.cell import make_observer
    from malfl_algos.plugins.results import blaming
    from malfl_algos.trace import LearningTrace

    observer = make_observer(config, PluginConfig(**wanted), seed=config.seeds[0])
    trace = LearningTrace.load(arguments.trace)
    game = None
    if trace.is_tabular and not arguments.estimate_dynamics:
        game = dynamics(config, trace, arguments.trace)
    discount, temperature = read_scale(arguments, config)
    with blaming(plugin):
        verdict = _verdict(observer, trace, game=game, discount=discount, temperature=temperature)
    if arguments.json:
        from malfl_algos.experiments.recovered_files import plain

        tell(json.dumps(plain(verdict.plain()), indent=2))
    else:
        tell(verdict.summary())
    return 0 if verdict.word == "believe" else 1


def _verdict(observer: Any, trace: Any, **given: Any) -> Any:
    """The verdict on what the observer recovers, or on why it can recover nothing."""
    from malfl_algos.experiments.cell import recover
    from malfl_algos.verdict.deciding import contradicted, not_measured
    from malfl_env.errors import Contradiction, TooFewStages

    try:
        return recover(observer, trace, **given)[""].verdict
    except Contradiction as found:
        return contradicted(str(found))
    except TooFewStages as found:
        return not_measured("explained", str(found), "log more stages of learning")
