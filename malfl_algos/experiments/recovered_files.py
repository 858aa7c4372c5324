"""The files of recovered rewards, in a unit of a run and from `malfl recover`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from malfl_algos.contract import NOT_JUDGED, Verdict
from malfl_algos.experiments.cell import Recovered
from malfl_algos.experiments.config import PluginConfig
from malfl_algos.plugins.loading import find_plugin
from malfl_algos.plugins.options import naming
from malfl_algos.storage.origins import RESULT_NAME, Origin, read_result, write_result
from malfl_algos.storage.results import plain, saves_itself, write_parts, write_source
from malfl_algos.verdict.words import verdict_from
from malfl_env.errors import InputError

__all__ = [
    "check_scorable",
    "saved_reward_models",
    "saved_verdict",
    "unfit_for_scores",
    "write_recovered",
]


def write_recovered(
    recovered: Recovered,
    folder: Path,
    *,
    origin: Origin,
    observer: PluginConfig,
    asked: Mapping[str, Any] | None = None,
) -> list[Path]:
    """Write `rewards.npz`, `diagnostics.json`, the optional arrays of the method, `result.json`.

    Several results go into one folder per observing agent. Rewards that are functions of
    observations go into `reward_functions.npz`, by the result's own method `save`.

    Args:
        recovered: by observing agent.
        folder: where to write.
        origin: what the rewards were recovered from.
        observer: what recovered them.
        asked: what the user asked for, to be kept in `result.json`, if the result stands alone: it
            then also has `source.npz`. In a run, the trace and `run.json` are beside it.

    Returns:
        The files of the rewards.

    Raises:
        InputError: for functions without a method to save them.
    """
    written = []
    for observing, result in recovered.items():
        place = folder / observing
        path = write_parts(result, place)
        if path is None:
            path = place / "reward_functions.npz"
            if not saves_itself(result):
                raise InputError(
                    f"the observer returned reward functions as a {type(result).__name__}, which "
                    "has no method save(path): call the observer from Python"
                )
            result.save(path)
        written.append(path)
        if asked is not None and result.source is not None:
            write_source(replace(result.source, observer=observer.label), place)
        options = plain(observer.options)
        about = {**find_plugin("observer", observer.name).identity, "options": options}
        verdict = plain(result.verdict.plain())
        further = {"observer": about, "observing": observing, "verdict": verdict}
        write_result(place, origin, **further, **(asked or {}))
    return written


def saved_reward_models(rewards: Path) -> dict[str, dict[str, Any]]:
    """The diagnostics `reward_model` beside a file of rewards, by agent; empty without any."""
    try:
        text = rewards.with_name("diagnostics.json").read_text(encoding="utf-8")
        content = json.loads(text)
        return {agent: {"reward_model": own.get("reward_model")} for agent, own in content.items()}
    except (OSError, ValueError, AttributeError, RecursionError):
        return {}


def unfit_for_scores(diagnostics: Mapping[str, Mapping[str, Any]]) -> str:
    """Why rewards with these diagnostics cannot be scored; empty: they can.

    A ground truth and a prediction need r(s) or r(s, a); r(s') has the shape of r(s).
    """
    found = [a for a, own in diagnostics.items() if own.get("reward_model") == "next_state"]
    if not found:
        return ""
    return (
        f"the reward of {found[0]} is of the next state, r(s'), which cannot be scored as r(s) or "
        "r(s, a): recover with reward_model state, own_action or joint, or compare its values with "
        "a ground truth of next states in Python"
    )


def check_scorable(rewards: Path) -> None:
    """Reject a file of rewards that cannot be scored.

    Raises:
        InputError: naming the file, with the reason of `unfit_for_scores`.
    """
    reason = unfit_for_scores(saved_reward_models(rewards))
    if reason:
        raise InputError(f"{rewards}: {reason}")


def saved_verdict(rewards: Path) -> Verdict:
    """The verdict beside a file of rewards; without one, the verdict that none was made.

    Raises:
        InputError: naming the file that is damaged.
    """
    path = rewards.with_name(RESULT_NAME)
    content = (read_result(path) or {}).get("verdict")
    if content is None:
        return NOT_JUDGED
    with naming(str(path)):
        return verdict_from(content)
