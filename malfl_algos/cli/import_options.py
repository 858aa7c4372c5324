"""The options of `malfl import`, and the arguments of `LearningTrace.from_table` that they are."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from malfl_algos.cli.import_texts import quoted
from malfl_algos.cli.table import Argument, argument, whole_argument
from malfl_env.errors import InputError

if TYPE_CHECKING:
    from malfl_algos.logs.files import Log
    from malfl_env import MarkovGame

__all__ = ["columns_of", "import_arguments", "named_game_of", "read_roles", "roles_given", "told"]

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


def import_arguments() -> Iterator[Argument]:
    """The arguments that `read_roles` reads, and some of the command's own."""
    yield argument(
        "--state",
        nargs="+",
        metavar="COL",
        help="read the joint state from this column, or from several (default: state)",
    )
    yield argument(
        "--actions",
        nargs="+",
        metavar="AGENT=COL",
        help="read each agent's action from its column, in logs with one row per step (default: "
        "the columns action/AGENT)",
    )
    yield argument(
        "--agent",
        metavar="COL",
        help="read the agent from this column, in logs with one row per agent and step "
        "(default: agent)",
    )
    yield argument(
        "--action",
        metavar="COL",
        help="read that agent's action from this column (default: action)",
    )
    yield argument(
        "--episode", metavar="COL", help="read the episode from this column (default: episode)"
    )
    yield argument("--step", metavar="COL", help="read the step from this column (default: step)")
    yield argument(
        "--stage", metavar="COL", help="read the stage from this column (default: stage)"
    )
    yield whole_argument("--stages", "cut time into N stages with about equally many steps")
    yield whole_argument("--episodes-per-stage", "begin a stage after N episodes")
    yield whole_argument("--steps-per-stage", "begin a stage after N steps")
    yield argument(
        "--change-points",
        action="store_true",
        help="begin a stage where the policies change, found by the evidence",
    )
    yield argument(
        "--subject", metavar="COL", help="read the subject from this column, and pool all"
    )
    yield argument(
        "--separate",
        action="store_true",
        help="write a trace of each subject instead of pooling them",
    )
    yield argument(
        "--next-state",
        nargs="+",
        metavar="COL",
        help="read the next state from these columns (default: next_state, or else the state of "
        "the following row)",
    )
    yield argument(
        "--terminated",
        metavar="COL",
        help="read from this column whether the game terminated (default: terminated)",
    )
    yield argument(
        "--game",
        metavar="NAME",
        help="use the numbers and names of states and actions of this game, FILE.npz or "
        "MODULE:FACTORY (its code is run); the agents are those of the game in this order "
        "(default: those of the log)",
    )
    yield argument(
        "--own-state",
        action="store_true",
        help="take the state of a row as that of its agent alone, in logs with one row per agent "
        "and step; the joint state is those of all agents",
    )
    yield whole_argument(
        "--memory",
        "make the joint actions of N steps before the state, or a part of it beside --state, as in "
        "repeated games (0 without --state: one state)",
    )
    yield argument(
        "--compact",
        action="store_true",
        help="number only the states that occur, also where they are whole numbers",
    )
    yield whole_argument(
        "--n-states", "set the number of joint states (default: the largest in the log + 1)"
    )
    yield argument(
        "--n-actions",
        nargs="+",
        metavar="AGENT=N",
        help="set the numbers of actions, by agent, or N for all (default: those in the log)",
    )
    yield argument(
        "--gaps",
        choices=("error", "split"),
        default="error",
        help="stop with an error where steps are missing, or split the episode (default: error)",
    )
    yield argument(
        "--encoding", metavar="NAME", help="read a CSV in this encoding (default: UTF-8)"
    )


def named_game_of(name: str) -> MarkovGame:
    """The game of `--game`; errors as `named_game`."""
    from malfl_algos.experiments.named_games import check_name, named_game

    return named_game(check_name(name))


def roles_given(arguments: argparse.Namespace) -> bool:
    """Whether any option says how to read the log."""
    more = ("actions", "game", "compact", "own_state", "memory", "n_states", "n_actions")
    names = (*_COLUMNS, *more, *_STAGES)
    return any(_is_given(getattr(arguments, name)) for name in names)


def _is_given(value: Any) -> bool:
    return value is not None and value is not False


def read_roles(arguments: argparse.Namespace, log: Log) -> dict[str, Any]:
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


def columns_of(roles: Mapping[str, Any]) -> list[str]:
    """Names of all columns that are read."""
    names: list[str] = []
    for role in (*_COLUMNS, "stage"):
        own = roles.get(role, [])
        names += [own] if isinstance(own, str) else own
    return [*names, *roles.get("actions", {}).values()]


def told(roles: Mapping[str, Any]) -> str:
    """What every column is read as, in words."""
    parts = []
    for role in (*_COLUMNS, "actions", "stage"):
        own = roles.get(role)
        if isinstance(own, Mapping):
            own = [f"{agent}={name}" for agent, name in own.items()]
        elif isinstance(own, str):
            own = [own]
        if own is not None:
            parts.append(f"{role} {' '.join(map(quoted, own))}")
    return ", ".join(parts)
