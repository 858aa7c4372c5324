"""`malfl import`: a learning trace from a log in a file."""

from __future__ import annotations

import argparse
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from malfl_algos.cli.table import argument, command, existing, tell, whole_argument
from malfl_env.errors import InputError
from malfl_env.labels import Label, label_text

if TYPE_CHECKING:
    from malfl_algos.logs.files import Log
    from malfl_algos.trace import LearningTrace
    from malfl_env import MarkovGame

__all__ = ["import_log"]

_FILE_NAME = re.compile(r"\w[\w.-]*")
_STAGES = {
    "stage": "stage",
    "stages": "n_stages",
    "episodes_per_stage": "episodes_per_stage",
    "steps_per_stage": "steps_per_stage",
    "change_points": "change_points",
}
"""Options that cut time into stages, and their arguments of `LearningTrace.from_table`."""
_COLUMNS = (
    "state",
    "agent",
    "action",
    "episode",
    "step",
    "subject",
    "next_state",
    "terminated",
)
"""Options that name columns, besides `--actions` and `--stage`."""


@command(
    "import",
    "Make a trace from a log: CSV, Parquet, NPZ, JSON lines, or a data set of Minari.",
    argument(
        "log",
        metavar="LOG",
        help="read this file (.csv, .tsv, .txt, .parquet, .npz, .jsonl, .json; CSV also .gz) or "
        "folder (Minari); an export of malfl needs no further option but --output",
    ),
    argument(
        "--output",
        metavar="TRACE.npz",
        required=True,
        help="write the trace here; with --separate a folder with a trace of each subject",
    ),
    argument(
        "--state",
        nargs="+",
        metavar="COL",
        help="the column of the joint state, or several columns (default: state)",
    ),
    argument(
        "--actions",
        nargs="+",
        metavar="AGENT=COL",
        help="each agent and the column of its action, for logs with one row per step (default: "
        "the columns action/AGENT)",
    ),
    argument(
        "--agent",
        metavar="COL",
        help="the column of the agent, for logs with one row per agent and step (default: agent)",
    ),
    argument("--action", metavar="COL", help="the column of that agent's action (default: action)"),
    argument("--episode", metavar="COL", help="the column of the episode (default: episode)"),
    argument("--step", metavar="COL", help="the column of the step (default: step)"),
    argument("--stage", metavar="COL", help="the column of the stage (default: stage)"),
    whole_argument("--stages", "cut time into N stages with about equally many steps"),
    whole_argument("--episodes-per-stage", "begin a stage after N episodes"),
    whole_argument("--steps-per-stage", "begin a stage after N steps"),
    argument(
        "--change-points",
        action="store_true",
        help="begin a stage where the policies change, found by the evidence",
    ),
    argument("--subject", metavar="COL", help="the column of the subject; all are pooled"),
    argument(
        "--separate",
        action="store_true",
        help="write a trace of each subject instead of pooling them",
    ),
    argument(
        "--next-state",
        nargs="+",
        metavar="COL",
        help="the columns of the next state (default: next_state, or else the state of the "
        "following row)",
    ),
    argument(
        "--terminated",
        metavar="COL",
        help="the column that says whether the game terminated (default: terminated)",
    ),
    argument(
        "--game",
        metavar="NAME",
        help="use the numbers and names of states and actions of this game, FILE.npz or "
        "MODULE:FACTORY (its code is run); the agents are those of the game in this order "
        "(default: those of the log)",
    ),
    argument(
        "--own-state",
        action="store_true",
        help="in logs with one row per agent and step: the state is that of the agent alone, and "
        "the joint state is those of all agents",
    ),
    whole_argument(
        "--memory",
        "the joint actions of N steps before are the state, or a part of it beside --state, as in "
        "repeated games (0 without --state: one state)",
    ),
    argument(
        "--compact",
        action="store_true",
        help="number only the states that occur, also where they are whole numbers",
    ),
    whole_argument("--n-states", "number of joint states (default: the largest in the log + 1)"),
    argument(
        "--n-actions",
        nargs="+",
        metavar="AGENT=N",
        help="numbers of actions, by agent, or N for all (default: those in the log)",
    ),
    argument(
        "--gaps",
        choices=("error", "split"),
        default="error",
        help="where steps are missing: stop with an error, or end the episode (default: error)",
    ),
    argument("--encoding", metavar="NAME", help="the encoding of a CSV (default: UTF-8)"),
    argument("--overwrite", action="store_true", help="replace an existing output"),
)
def import_log(arguments: argparse.Namespace) -> int:
    """Import one log."""
    existing(arguments.log)
    output = Path(arguments.output)
    if output.exists() and not arguments.overwrite:
        raise InputError(f"{output} exists: choose another name, or add --overwrite")
    if arguments.separate and arguments.subject is None:
        raise InputError("--separate needs --subject COL")
    from malfl_algos.experiments.folder import check_writable
    from malfl_algos.logs.exported import is_export, trace_of_export
    from malfl_algos.logs.files import open_log
    from malfl_algos.plugins.options import naming
    from malfl_algos.trace import LearningTrace

    check_writable(output if arguments.separate else output.absolute().parent)
    with naming(arguments.log):
        log = open_log(Path(arguments.log), encoding=arguments.encoding)
        traces: dict[str, LearningTrace]
        if is_export(log) and not _roles_given(arguments):
            traces = {"": trace_of_export(log)}
            notes: tuple[str, ...] = ("the trace that malfl export wrote",)
        else:
            roles = _roles(arguments, log)
            if arguments.game not in (None, "none"):
                roles["game"] = _game(arguments.game)
            frame = log.read(_columns(roles))
            if arguments.separate:
                traces = LearningTrace.from_subjects(frame, **roles)
            else:
                traces = {"": LearningTrace.from_table(frame, **roles)}
            notes = (*log.notes, f"columns: {_told(roles)}")
    _write(traces, output)
    for name, trace in traces.items():
        _tell(name, trace, output, notes)
    return 0


def _game(name: str) -> MarkovGame:
    from malfl_algos.experiments.named_games import check_name, named_game

    return named_game(check_name(name))


def _roles_given(arguments: argparse.Namespace) -> bool:
    more = ("actions", "game", "compact", "own_state", "memory", "n_states", "n_actions")
    names = (*_COLUMNS, *more, *_STAGES)
    return any(_is_given(getattr(arguments, name)) for name in names)


def _is_given(value: Any) -> bool:
    return value is not None and value is not False


def _roles(arguments: argparse.Namespace, log: Log) -> dict[str, Any]:
    """Arguments of `LearningTrace.from_table`: those given, and columns of the usual names."""
    also = ("n_states", "gaps", "compact", "own_state", "memory")
    given = {name: getattr(arguments, name) for name in (*_COLUMNS, *also)}
    given |= {keyword: getattr(arguments, name) for name, keyword in _STAGES.items()}
    roles = {name: own for name, own in given.items() if _is_given(own)}
    if arguments.actions is not None:
        roles["actions"] = _pairs("--actions", arguments.actions)
    elif not roles.keys() & {"agent", "action"}:
        roles |= _usual_actions(log)
    if arguments.n_actions is not None:
        roles["n_actions"] = _numbers_of_actions(arguments.n_actions)
    usual = ["state", "episode", "step", "terminated"]
    cuts = [name for name, keyword in _STAGES.items() if keyword in roles]
    if not cuts and "stage" in log.names:
        usual.append("stage")
    elif len(cuts) != 1:
        words = " and ".join(f"--{name.replace('_', '-')}" for name in cuts) or "none"
        raise InputError(
            "say how time is cut into stages by one of --stage COL, --stages N, "
            f"--episodes-per-stage N, --steps-per-stage N, --change-points; got {words}"
        )
    needed = ["state", "episode", "step"]
    if arguments.memory is not None:
        needed.remove("state")
        usual.remove("state")
    elif roles.get("state", "state") in ("state", ["state"]):
        usual.append("next_state")
    roles = {**{name: name for name in usual if name in log.names}, **roles}
    for name in needed:
        if name not in roles:
            raise InputError(
                f"--{name} COL is needed: which column is it? (columns: "
                f"{', '.join(map(repr, log.names[:30]))})"
            )
    return roles


def _usual_actions(log: Log) -> dict[str, Any]:
    agents = {
        name.removeprefix("action/"): name for name in log.names if name.startswith("action/")
    }
    if agents:
        return {"actions": agents}
    if {"agent", "action"} <= {*log.names}:
        return {"agent": "agent", "action": "action"}
    if "action" in log.names:
        return {"actions": {"agent_0": "action"}}
    raise InputError(
        "--actions AGENT=COL ... (one row per step) or --agent COL --action COL (one row per agent "
        f"and step) is needed (columns: {', '.join(map(repr, log.names[:30]))})"
    )


def _numbers_of_actions(given: Sequence[str]) -> int | dict[str, int]:
    if len(given) == 1 and given[0].isdecimal():
        return int(given[0])
    numbers = _pairs("--n-actions", given)
    wrong = next((own for own in numbers.values() if not own.isdecimal()), None)
    if wrong is not None:
        raise InputError(f"--n-actions must be AGENT=N or N, got {wrong!r}")
    return {agent: int(number) for agent, number in numbers.items()}


def _pairs(option: str, texts: Sequence[str]) -> dict[str, str]:
    pairs: dict[str, str] = {}
    for text in texts:
        name, sign, value = text.partition("=")
        if not (name and sign and value):
            raise InputError(f"{option} must be AGENT=VALUE, got {text!r}")
        if name in pairs:
            raise InputError(f"{option} names the agent {name!r} twice")
        pairs[name] = value
    return pairs


def _columns(roles: Mapping[str, Any]) -> list[str]:
    """Names of all columns that are read."""
    names: list[str] = []
    for role in (*_COLUMNS, "stage"):
        own = roles.get(role, [])
        names += [own] if isinstance(own, str) else own
    return [*names, *roles.get("actions", {}).values()]


def _told(roles: Mapping[str, Any]) -> str:
    parts = []
    for role in (*_COLUMNS, "actions", "stage"):
        own = roles.get(role)
        if isinstance(own, Mapping):
            own = [f"{agent}={name}" for agent, name in own.items()]
        if own is not None:
            parts.append(f"{role} {own if isinstance(own, str) else ' '.join(own)}")
    return ", ".join(parts)


def _write(traces: Mapping[str, LearningTrace], output: Path) -> None:
    if "" in traces:
        if traces[""].is_tabular and output.is_dir():
            raise InputError(f"{output} is a folder: --output must name a file, as trace.npz")
        traces[""].save(output)
        return
    from malfl_algos.storage.origins import files_together

    wrong = next((name for name in traces if not _FILE_NAME.fullmatch(name)), None)
    if wrong is not None:
        raise InputError(
            f"subject {wrong!r} cannot name a file: only letters, digits, '_', '-' and '.' can"
        )
    with files_together(output) as place:
        for name, trace in traces.items():
            trace.save(place / f"{name}.npz")


def _tell(name: str, trace: LearningTrace, output: Path, notes: Sequence[str]) -> None:
    sizes = [stage.n_steps for stage in trace.stages]
    shown = ", ".join(map(str, sizes[:10])) + (", ..." if len(sizes) > 10 else "")
    tell(f"{output / f'{name}.npz' if name else output}: {len(sizes)} stages of {shown} steps")
    if trace.is_tabular:
        visited = np.logical_or.reduce([stage.state_counts > 0 for stage in trace.stages]).sum()
        ends = () if trace.states is None else (trace.states[0], trace.states[-1])
        labels = f", labelled {_line(ends[0])} to {_line(ends[1])}" if ends else ""
        tell(f"  states: {trace.n_states}, {visited} of them visited{labels}")
    for index, (agent, number) in enumerate(zip(trace.agents, trace.n_actions, strict=True)):
        own = range(number) if trace.actions is None else trace.actions[index]
        some = ", ".join(map(_line, own[:8])) + (", ..." if number > 8 else "")
        tell(f"  agent {agent}: {number} actions ({some})")
    for note in (*notes, *trace.notes):
        tell(f"  {note}")
    if trace.n_stages == 1:
        tell("  one stage shows no learning: observers need two or more")


def _line(label: Label) -> str:
    return " ".join(label_text(label).split())
