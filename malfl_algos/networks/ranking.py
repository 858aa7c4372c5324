"""Rewards of observations from the ranking of stages (T-REX), linear in random units."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse as sp
import torch
from numpy.typing import NDArray

from malfl_algos.baselines.ranking import RankingFit, fit_ranking, pairs_of_steps
from malfl_algos.contract import Diagnostics, RecoveredRewards
from malfl_algos.networks.encoding import Encoder, input_features
from malfl_algos.networks.features import RewardFeatures, random_map, with_actions
from malfl_algos.networks.gathering import Gathered, gather
from malfl_algos.networks.options import RewardModel
from malfl_algos.networks.recovered_functions import Member, member_arrays, member_from_arrays
from malfl_algos.storage.arrays import check_manifest, read_arrays, write_arrays
from malfl_algos.trace import LearningTrace
from malfl_env.errors import InputError

__all__ = ["RankedReward", "RankedRewards", "ranked_rewards"]

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

KIND, VERSION = "malfl ranked rewards", 1
PIECE = 1 << 14


@dataclass(frozen=True, eq=False)
class RankedReward:
    """The reward of one agent as a function of its observations.

    Args:
        encoder: of the observations.
        member: features and weights; the mean reward over the data is 0.
    """

    encoder: Encoder
    member: Member

    def __call__(self, observations: NDArray[Any], joint_actions: IntArray) -> FloatArray:
        """Return the reward `(n,)` at observations `(n, ...)` and joint actions `(n, n_agents)`."""
        inputs = input_features(self.encoder, np.asarray(observations))
        actions = np.asarray(joint_actions, dtype=np.int64)
        found = [np.zeros(0)]
        for begin in range(0, len(inputs), PIECE):
            piece = slice(begin, begin + PIECE)
            phi = self.member.features(inputs[piece], actions[piece])
            found.append((phi - self.member.centre) @ self.member.mean)
        return np.concatenate(found)


@dataclass(frozen=True, eq=False, repr=False)
class RankedRewards(RecoveredRewards):
    """Every agent's reward as a function of its observations, with its own file format.

    Args:
        functions: per agent id, in agent order.
        fits: per agent id.
    """

    functions: Mapping[str, RankedReward] = field(default_factory=dict)
    fits: Mapping[str, RankingFit] = field(default_factory=dict)

    def with_diagnostics(self, diagnostics: Mapping[str, Any]) -> RankedRewards:
        """The same rewards with these diagnostics."""
        return replace(self, diagnostics=diagnostics)

    def save(self, path: str | Path) -> None:
        """Write one npz with a JSON manifest, atomically and without pickle."""
        arrays: dict[str, NDArray[Any]] = {}
        content = {}
        for agent, own in self.functions.items():
            arrays |= {f"{agent}/{name}": a for name, a in member_arrays(own.member).items()}
            features = own.member.features
            content[agent] = {
                "encoder": own.encoder.to_json(),
                "reward_model": features.model,
                "n_actions": list(features.n_actions),
                "agent_index": features.agent_index,
            }
        manifest = {
            "format": KIND,
            "version": VERSION,
            "functions": content,
            "diagnostics": {agent: dict(own) for agent, own in self.diagnostics.items()},
        }
        write_arrays(Path(path), arrays, manifest=manifest)

    @classmethod
    def load(cls, path: str | Path) -> RankedRewards:
        """Read a file that `save` wrote.

        Raises:
            InputError: if the file is missing, damaged or of another kind; the message names it.
        """
        arrays, manifest = read_arrays(Path(path))
        check_manifest(Path(path), manifest, KIND, version=VERSION)
        try:
            functions = {
                agent: _function(own, agent, arrays) for agent, own in manifest["functions"].items()
            }
            diagnostics = {a: Diagnostics.of(d) for a, d in manifest["diagnostics"].items()}
        except (KeyError, IndexError, TypeError, ValueError, RuntimeError, AttributeError) as fault:
            raise InputError(f"{path}: not ranked rewards: {fault}") from fault
        return cls(functions=functions, diagnostics=diagnostics)


def _function(
    content: Mapping[str, Any], agent: str, arrays: Mapping[str, NDArray[Any]]
) -> RankedReward:
    start = f"{agent}/"
    own = {name.removeprefix(start): a for name, a in arrays.items() if name.startswith(start)}
    model: RewardModel = content["reward_model"]
    if model not in ("state", "own_action"):
        raise InputError(f"invalid reward model {model!r} (allowed: state, own_action)")
    n_actions = tuple(int(n) for n in content["n_actions"])
    member = member_from_arrays(own, model, n_actions, int(content["agent_index"]))
    return RankedReward(Encoder.from_json(content["encoder"]), member)


def ranked_rewards(
    trace: LearningTrace,
    *,
    model: RewardModel,
    snippet_length: int,
    n_pairs: int,
    ridge: float,
    hidden: Sequence[int],
    seed: int,
) -> RankedRewards:
    """Rewards of all agents by which later stages are better; see `malfl_algos.baselines.ranking`.

    Args:
        trace: of observations.
        model: `state` or `own_action`.
        snippet_length, n_pairs: of the pairs.
        ridge: > 0.
        hidden: widths of the layers of random units; the reward is linear in the last layer and in
            the inputs.
        seed: of pairs and units. Agents with the same observations have the same ones.
    """
    ends = [
        np.asarray(stage.transitions.episode_ends)
        for stage in trace.stages
        if stage.transitions is not None
    ]
    functions, fits = {}, {}
    for agent, view in zip(trace.agents, gather(trace), strict=True):
        functions[agent], fits[agent] = _ranked(
            view, ends, model, (snippet_length, n_pairs), ridge, tuple(hidden), seed
        )
    return RankedRewards(functions=functions, fits=fits)


def _ranked(
    view: Gathered,
    episode_ends: Sequence[NDArray[np.bool_]],
    model: RewardModel,
    size: tuple[int, int],
    ridge: float,
    hidden: tuple[int, ...],
    seed: int,
) -> tuple[RankedReward, RankingFit]:
    """The reward of one agent."""
    rows = [steps.here[steps.which] for steps in view.stages]
    here, actions, read = np.arange(len(view.inputs)), np.zeros((0, 0), np.int64), view.read
    inputs = view.inputs
    if model == "own_action":
        n_own = view.n_own
        played = [steps.joint_actions[steps.which, view.agent_index] for steps in view.stages]
        keys = [own * n_own + action for own, action in zip(rows, played, strict=True)]
        distinct, numbers = np.unique(np.concatenate(keys), return_inverse=True)
        rows = np.split(numbers, np.cumsum([len(own) for own in keys])[:-1])
        here, own_actions = np.divmod(distinct, n_own)
        actions = own_actions[:, None]
        read = np.concatenate([read, np.ones(n_own, dtype=bool)])
        inputs = with_actions(view.inputs[here], actions, [n_own])
    rng = np.random.default_rng(seed)
    generator = torch.Generator("cpu").manual_seed(seed)
    features = random_map(generator, hidden, inputs, read=read, device=torch.device("cpu"))
    pairs = pairs_of_steps(
        rows, episode_ends, n_rows=len(inputs), n_pairs=size[1], length=size[0], rng=rng
    )
    visits = np.bincount(np.concatenate(rows), minlength=len(inputs)).astype(np.float64)
    design, centre = np.zeros((pairs.shape[0], features.n_features)), np.zeros(features.n_features)
    by_row = sp.csc_array(pairs)
    for begin in range(0, len(inputs), PIECE):
        piece = slice(begin, begin + PIECE)
        phi = features(inputs[piece])
        design += by_row[:, piece] @ phi
        centre += visits[piece] @ phi
    fit = fit_ranking(design, ridge=ridge)
    own = RewardFeatures(model, features, view.n_actions, view.agent_index)
    member = Member(own, fit.weights, None, centre / visits.sum())
    return RankedReward(view.encoder, member), fit
