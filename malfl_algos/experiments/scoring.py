"""Scores of recovered rewards as rows of a table: of the units of a run, or of given files."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from malfl_algos.contract import NOT_JUDGED, Verdict
from malfl_algos.experiments.cell import Recovered
from malfl_algos.experiments.config import ExperimentConfig
from malfl_algos.experiments.games import reachable_states
from malfl_algos.experiments.recovered_files import (
    check_scorable,
    saved_verdict,
    unfit_for_scores,
)
from malfl_algos.experiments.relations import check_stages, known_origins, settings_fault
from malfl_algos.experiments.scale import scale_of
from malfl_algos.ground_truth import GroundTruth
from malfl_algos.scores.inputs import (
    HeldOut,
    Need,
    Reference,
    ScoringInputs,
    reference,
    with_policies,
)
from malfl_algos.scores.registry import score_agent, score_names
from malfl_algos.storage.arrays import read_arrays
from malfl_algos.storage.durable import file_checksum, value_hash
from malfl_algos.storage.origins import Origin, stage_hashes
from malfl_algos.storage.results import posterior_parts
from malfl_algos.trace import LearningTrace
from malfl_algos.trace.matching import in_numbering_of
from malfl_env import MarkovGame
from malfl_env.errors import InputError

__all__ = [
    "OF_A_RUN",
    "TRUTH_ALONE",
    "ScoringFiles",
    "log_scores",
    "read_scoring_files",
    "rows_of_files",
    "scored_rows",
]

FloatArray = NDArray[np.float64]

OF_A_RUN: Sequence[Need] = ("ground_truth", "dynamics", "posterior_covariance")
"""The inputs of scores that a run has: all but stages that the rewards were not recovered from."""
TRUTH_ALONE: Sequence[Need] = ("ground_truth",)
"""The inputs of the scores of the trend and the cross-correlation."""

NEEDS_TRUTH = "needs the ground-truth rewards: --ground-truth FILE"
NEEDS_TRACE = "needs the trace: --trace FILE"
NEEDS_GAME = "needs the game and the settings of the run: --game NAME or --config FILE"


def scored_rows(
    reference: Reference,
    recovered: Recovered,
    available: Sequence[Need] = OF_A_RUN,
    *,
    held_out: HeldOut | None = None,
) -> Iterator[dict[str, Any]]:
    """Rows with `agent`, the scores whose inputs are available, `reasons` and `verdict`.

    `reasons` are those for missing scores, `verdict` is the word of the verdict, None if none was
    made.

    Args:
        reference: the ground truth.
        recovered: by observing agent. The row has the observing agent as `observing`, unless it is
            "" (an external observer).
        available: the inputs that scores may need.
        held_out: stages to predict.
    """
    names = score_names(*available, *(("trace",) if held_out else ()))
    for observing, result in recovered.items():
        inputs = ScoringInputs(
            rewards=result.rewards,
            reference=reference,
            covariance=result.covariance or {},
            sd=result.sd or {},
            held_out=held_out,
            unfit=unfit_for_scores(result.diagnostics),
        )
        for agent in (agent for agent in reference.truth if agent in result.rewards):
            row = {"agent": agent, **score_agent(inputs, agent, names)}
            row["verdict"] = _word(result.verdict, agent)
            yield {"observing": observing, **row} if observing else row


def _word(verdict: Verdict, agent: str) -> str | None:
    return None if verdict == NOT_JUDGED else verdict.of(agent).word


def log_scores(log_dir: str, run: str, rows: Iterable[Mapping[str, Any]]) -> None:
    """Log the scores against the ground-truth rewards for TensorBoard, beside the losses.

    Args:
        log_dir: the log folder of the observer.
        run: name of the folder in it.
        rows: of `scored_rows`, each with `n_stages`, which is the step; undefined scores are
            skipped.

    Raises:
        ModuleNotFoundError: if tensorboard is not installed; it says how to install it.
    """
    from malfl_algos.networks.logging import tensorboard_log

    with tensorboard_log(log_dir, run=run) as log:
        assert log is not None
        for row in rows:
            observing = f"{row['observing']}/" if "observing" in row else ""
            for name in score_names(*TRUTH_ALONE):
                if row[name] is not None:
                    log(f"{observing}{row['agent']}/{name}", row["n_stages"], row[name])


@dataclass(frozen=True, eq=False)
class ScoringFiles:
    """The content of a file of recovered rewards, and of the files to score them with.

    Args:
        rewards: the recovered reward per agent id.
        posterior: `agent_<i>_sd` and `agent_<i>_covariance`; empty without a posterior.
        n_stages: number of stages that the rewards were recovered from; None if it is not known.
        truth: the ground-truth rewards and policies.
        trace: stages; the rewards may have been recovered from the first of them only.
        game: the dynamics; None if they are not known.
        discount, temperature: of the learners; 1 if it is not known, as rewards then are in units
            of it.
        made_from: checksum of each file by its role, for the rows.
        note: a warning that it was not checked whether the files belong together; or empty.
        verdict: the one that was saved with the rewards.
    """

    rewards: Mapping[str, FloatArray]
    posterior: Mapping[str, FloatArray]
    n_stages: int | None
    truth: GroundTruth | None
    trace: LearningTrace | None
    game: MarkovGame | None
    discount: float
    temperature: float
    made_from: Mapping[str, str | None] = field(default_factory=dict)
    note: str = ""
    verdict: Verdict = NOT_JUDGED


def read_scoring_files(
    rewards: Path,
    *,
    ground_truth: Path | None,
    trace: Path | None,
    config: ExperimentConfig,
    config_given: bool,
    related: bool = True,
) -> ScoringFiles:
    """Read a file of rewards and the files to score them with.

    `posterior.npz`, `diagnostics.json` and `result.json` are read if they are in the folder of the
    rewards.

    Args:
        rewards: path of `rewards.npz`.
        ground_truth, trace: paths; at least one of the two is needed.
        config: defines the game.
        config_given: whether the user gave the configuration. If not, a game that does not fit the
            files is ignored, and scores that need the game are missing.
        related: reject files that were not made from each other.

    Raises:
        InputError: a file is missing or damaged, or the files are not of one game or of one run, or
            the rewards are of next states.
    """
    if ground_truth is None and trace is None:
        raise InputError(
            "nothing to score against: give --ground-truth FILE (the ground-truth rewards), "
            "--trace FILE (to predict the agents' actions), or both"
        )
    arrays = read_arrays(rewards)[0]
    check_scorable(rewards)
    truth = None if ground_truth is None else GroundTruth.load(ground_truth)
    seen = None if trace is None else LearningTrace.load(trace)
    game = config.dynamics()
    if game is not None and seen is not None and seen.is_tabular and config_given:
        seen = in_numbering_of(game, seen, name=str(trace))
    if truth is not None:
        _check_agents(rewards, arrays, str(ground_truth), tuple(truth.rewards))
        shapes = [policies.shape[1:] for policies in truth.joint_policies.values()]
        game = _same_game(game, shapes, str(ground_truth), config_given=config_given)
    if seen is not None:
        _check_agents(rewards, arrays, str(trace), seen.agents)
        shapes = [(seen.n_states, n) for n in seen.n_actions]
        game = _same_game(game, shapes, str(trace), config_given=config_given)
        _check_shapes(rewards, arrays, (seen.n_states, *seen.n_actions))
    if truth is not None:
        n_actions = tuple(policies.shape[-1] for policies in truth.joint_policies.values())
        n_states = len(next(iter(truth.rewards.values())))
        _check_shapes(rewards, arrays, (n_states, *n_actions))
    origins, note = known_origins(rewards, ground_truth, truth, related=related)
    if game is not None:
        game = replace(game, agent_names=_agents(truth, seen))
    fault = settings_fault(origins, game, config.discount, config.temperature) if related else ""
    if fault and config_given:
        raise InputError(fault)
    game = None if fault else game
    seen_stages = () if seen is None else stage_hashes(seen)
    if related and seen is not None:
        origins[str(trace)] = Origin(seen_stages, None, None, None)
    check_stages(origins if related else {})
    discount, temperature, unit = scale_of(config, truth, rewards, origins.get(str(rewards)))
    if truth is not None:
        truth = replace(truth, rewards={own: r / unit for own, r in truth.rewards.items()})
    posterior = rewards.with_name("posterior.npz")
    return ScoringFiles(
        rewards=arrays,
        posterior=read_arrays(posterior)[0] if posterior.exists() else {},
        n_stages=_stages_used(rewards.with_name("diagnostics.json"), arrays),
        truth=truth,
        trace=seen,
        game=game,
        discount=discount,
        temperature=temperature,
        made_from={
            "rewards": file_checksum(rewards),
            "ground_truth": None if ground_truth is None else file_checksum(ground_truth),
            "trace": None if seen is None else value_hash(list(seen_stages)),
        },
        note=note,
        verdict=saved_verdict(rewards),
    )


def _agents(truth: GroundTruth | None, trace: LearningTrace | None) -> tuple[str, ...]:
    """Ids of the agents in the files that a score compares with."""
    if trace is not None:
        return tuple(trace.agents)
    return () if truth is None else tuple(truth.rewards)


def rows_of_files(files: ScoringFiles) -> list[dict[str, Any]]:
    """One row per agent with every score; null for missing scores.

    Returns:
        Rows with `agent`, `verdict`, the scores of the registry, `reasons` for missing scores, and
        `prediction`, null if no stage is predicted. It has `stages`, the numbers of the predicted
        stages counted from 0, and `in_sample`: whether the rewards were recovered from these stages
        (assumed if it is not known).

    Raises:
        InputError: the rewards do not fit the other files.
    """
    held_out, reason = _held_out(files)
    inputs = ScoringInputs(
        files.rewards,
        None if files.truth is None else _reference(files.truth, files),
        **posterior_parts(files.posterior),
        held_out=held_out,
        missing={"ground_truth": NEEDS_TRUTH, "dynamics": NEEDS_GAME, "trace": reason},
    )
    prediction = None
    if held_out is not None:
        known, n_stages = files.n_stages, len(held_out.joint_counts)
        stages = list(range(held_out.first_stage, n_stages))
        prediction = {"stages": stages, "in_sample": known is None or known >= n_stages}
    return [
        {
            "agent": agent,
            **score_agent(inputs, agent),
            "verdict": _word(files.verdict, agent),
            "prediction": prediction,
            "made_from": dict(files.made_from),
        }
        for agent in files.rewards
    ]


def _reference(truth: GroundTruth, files: ScoringFiles) -> Reference:
    game = files.game
    if game is None:
        return Reference(truth.rewards)
    base = reference(
        game.with_rewards([truth.rewards[agent] for agent in game.agents]),
        discount=files.discount,
        temperature=files.temperature,
        states=reachable_states(game),
    )
    return with_policies(base, truth.joint_policies)


def _held_out(files: ScoringFiles) -> tuple[HeldOut | None, str]:
    """The stages to predict, or the reason why there are none."""
    trace, game = files.trace, files.game
    if trace is None:
        return None, NEEDS_TRACE
    if game is None:
        return None, NEEDS_GAME
    if trace.n_stages < 2:
        return None, "the trace has one stage, but a stage is predicted from the stage before it"
    holed = [agent for agent, r in files.rewards.items() if not np.all(np.isfinite(r))]
    if holed:
        return None, f"the reward of {holed[0]} has values that are not finite"
    return HeldOut(
        game,
        files.rewards,
        [stage.counts for stage in trace.stages],
        first_stage=min(files.n_stages or trace.n_stages, trace.n_stages - 1),
        discount=files.discount,
        temperature=files.temperature,
    ), ""


def _check_agents(
    rewards: Path, arrays: Mapping[str, FloatArray], other: str, agents: tuple[str, ...]
) -> None:
    if not arrays or not set(arrays) <= set(agents):
        raise InputError(
            f"{rewards} has rewards of {', '.join(arrays) or 'no agent'}, "
            f"but {other} has the agents {', '.join(agents)}"
        )


def _check_shapes(rewards: Path, arrays: Mapping[str, FloatArray], whole: tuple[int, ...]) -> None:
    for agent, reward in arrays.items():
        if reward.shape not in (whole[:1], whole) or reward.dtype != np.float64:
            raise InputError(
                f"{rewards} does not fit: the reward of {agent} must be float64 of shape "
                f"{whole[:1]} or {whole}, got {reward.dtype} {reward.shape}"
            )


def _same_game(
    game: MarkovGame | None, shapes: list[tuple[int, ...]], path: str, *, config_given: bool
) -> MarkovGame | None:
    """The game if it has these (joint states, actions) per agent, the shapes of a file."""
    if game is None or shapes == [(game.n_states, n) for n in game.n_actions]:
        return game
    if config_given:
        raise InputError(
            f"{path} is of a game with {shapes[0][0]} joint states and actions "
            f"{tuple(shape[-1] for shape in shapes)}, the configuration's has {game.n_states} and "
            f"{game.n_actions}"
        )
    return None


def _stages_used(diagnostics: Path, agents: Iterable[str]) -> int | None:
    """Number of stages that the rewards were recovered from, the largest of all agents."""
    try:
        content = json.loads(diagnostics.read_text(encoding="utf-8"))
        return max(int(content[agent]["n_stages"]) for agent in agents)
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None
