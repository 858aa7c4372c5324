"""Rewards, with posterior standard deviations, and policies as functions of observations; files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from malfl_algos.contract import Diagnostics, RecoveredRewards
from malfl_algos.networks.encoding import Encoder, input_features
from malfl_algos.networks.estimated_policies import EstimatedPolicies
from malfl_algos.networks.features import FeatureMap, RewardFeatures
from malfl_algos.networks.mlp import from_arrays, to_arrays
from malfl_algos.networks.options import RewardModel
from malfl_algos.storage.arrays import check_manifest, read_arrays, write_arrays
from malfl_env.checks import check_table_bytes
from malfl_env.errors import InputError

__all__ = ["AgentFunctions", "Member", "RecoveredFunctions", "centred"]

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

KIND, VERSION = "malfl recovered functions", 1
PIECE = 1 << 14


@dataclass(frozen=True, eq=False)
class Member:
    """One member of an ensemble.

    Args:
        features: of its reward.
        mean: of the last layer, `(k,)`.
        covariance: of it, `(k, k)`; None where the fit gives none.
        centre: mean features over the data, where the mean reward is set to 0.
    """

    features: RewardFeatures
    mean: FloatArray
    covariance: FloatArray | None
    centre: FloatArray


def centred(
    members: Sequence[Member], phis: Sequence[FloatArray], centres: Sequence[FloatArray]
) -> tuple[FloatArray, FloatArray]:
    """Return the mean and the posterior standard deviation of an ensemble's reward, `(n,)` each.

    The variance is the mean variance of the members' posteriors plus the variance of their means.
    The standard deviation is NaN for a single member without a posterior.

    Args:
        members: of the ensemble.
        phis: features `(n, k)` of each.
        centres: per member, the features at which its reward is 0.
    """
    gaps = [phi - centre for phi, centre in zip(phis, centres, strict=True)]
    means = np.stack([gap @ one.mean for gap, one in zip(gaps, members, strict=True)])
    within = [
        ((gap @ one.covariance) * gap).sum(axis=1)
        for gap, one in zip(gaps, members, strict=True)
        if one.covariance is not None
    ]
    parts = [np.maximum(np.mean(within, axis=0), 0)] if within else []
    if len(members) > 1:
        parts.append(means.var(axis=0, ddof=1))
    mean = means.mean(axis=0)
    sd = np.sqrt(sum(parts, np.zeros(len(mean)))) if parts else np.full(len(mean), np.nan)
    return mean, sd


@dataclass(frozen=True, eq=False)
class AgentFunctions:
    """The recovered reward and policies of one agent, as functions.

    Args:
        encoder: of its observations.
        members: of the ensemble.
        policies: of all agents, as functions of this agent's observations.
    """

    encoder: Encoder
    members: tuple[Member, ...]
    policies: EstimatedPolicies

    def __call__(self, observations: NDArray[Any], joint_actions: IntArray) -> FloatArray:
        """Return the posterior mean of the reward, `(n,)`."""
        return self.reward(observations, joint_actions)[0]

    def reward(
        self, observations: NDArray[Any], joint_actions: IntArray
    ) -> tuple[FloatArray, FloatArray]:
        """Return the posterior mean and standard deviation of the reward, `(n,)` each.

        The mean reward over the data is 0. The standard deviation is NaN for a single member
        without a posterior.
        """
        inputs = input_features(self.encoder, np.asarray(observations))
        actions = np.asarray(joint_actions, dtype=np.int64)
        centres = [one.centre for one in self.members]
        found = [(np.zeros(0), np.zeros(0))]
        for begin in range(0, len(inputs), PIECE):
            piece = slice(begin, begin + PIECE)
            phis = [one.features(inputs[piece], actions[piece]) for one in self.members]
            found.append(centred(self.members, phis, centres))
        means, sds = zip(*found, strict=True)
        return np.concatenate(means), np.concatenate(sds)

    def table(self, observations: NDArray[Any]) -> tuple[FloatArray, FloatArray]:
        """Return posterior mean and standard deviation at every observation (and joint action).

        Args:
            observations: of all joint states, `(n_states, ...)`.

        Returns:
            `(n_states,)` each, or `(n_states, *n_actions)` if the reward depends on actions. The
            mean over the table is 0.
        """
        inputs = input_features(self.encoder, observations)
        n_actions = self.policies.n_actions
        sizes = () if self.members[0].features.model == "state" else n_actions
        shape = (len(inputs), *sizes)
        check_table_bytes(
            8 * prod(shape) * sum(len(one.mean) for one in self.members),
            f"the features of {prod(shape)} reward values",
        )
        numbers = np.indices(shape).reshape(len(shape), -1)
        actions = np.zeros((prod(shape), len(n_actions)), dtype=np.int64)
        actions[:, : len(sizes)] = numbers[1:].T
        phis = [one.features(inputs[numbers[0]], actions) for one in self.members]
        mean, sd = centred(self.members, phis, [phi.mean(axis=0) for phi in phis])
        return mean.reshape(shape), sd.reshape(shape)


@dataclass(frozen=True, eq=False, repr=False)
class RecoveredFunctions(RecoveredRewards):
    """Every agent's reward as a function of networks, with its own file format.

    Args:
        functions: per agent id, in agent order.
    """

    functions: Mapping[str, AgentFunctions] = field(default_factory=dict)

    def reward_and_sd(
        self, agent: str, observations: NDArray[Any], joint_actions: IntArray
    ) -> tuple[FloatArray, FloatArray]:
        """Return the reward of one agent, with its posterior standard deviation.

        Args:
            agent: id of the agent.
            observations: its own observations, `(n, ...)`.
            joint_actions: int `(n, n_agents)`; used if the reward depends on actions.

        Returns:
            Posterior mean and standard deviation, `(n,)` each. The mean over the data is 0, since
            the offset of a reward is not identified.
        """
        return self.functions[agent].reward(observations, joint_actions)

    def log_policy(self, agent: str, observations: NDArray[Any], stage: int) -> FloatArray:
        """Return the estimated log-policy of an agent in a stage, `(n, n_actions)`."""
        own = self.functions[agent]
        inputs = input_features(own.encoder, np.asarray(observations))
        return own.policies.log_policies(inputs, stage)[self.agents.index(agent)]

    def save(self, path: str | Path) -> None:
        """Write one npz with a JSON manifest, atomically and without pickle."""
        arrays: dict[str, NDArray[Any]] = {}
        content: dict[str, Any] = {}
        for agent, own in self.functions.items():
            content[agent] = _pack(own, f"{agent}/", arrays)
        manifest: dict[str, Any] = {"format": KIND, "version": VERSION, "agents": list(self.agents)}
        manifest |= {
            "functions": content,
            "diagnostics": {a: dict(d) for a, d in self.diagnostics.items()},
        }
        write_arrays(Path(path), arrays, manifest=manifest)

    @classmethod
    def load(cls, path: str | Path) -> RecoveredFunctions:
        """Read a file that `save` wrote; the networks are on the CPU.

        Raises:
            InputError: if the file is missing, damaged or of another kind; the message names it.
        """
        arrays, manifest = read_arrays(Path(path))
        check_manifest(Path(path), manifest, KIND, version=VERSION)
        for name, array in arrays.items():
            if array.dtype.kind != "f" or not np.all(np.isfinite(array)):
                raise InputError(f"{path}: {name!r} must be finite numbers")
        try:
            functions = {
                agent: _unpack(manifest["functions"][agent], f"{agent}/", arrays)
                for agent in manifest["agents"]
            }
            diagnostics = {a: Diagnostics.of(d) for a, d in manifest["diagnostics"].items()}
            found = cls(functions=functions, diagnostics=diagnostics)
            for own in functions.values():
                _check(own)
            return found
        except (KeyError, IndexError, TypeError, ValueError, RuntimeError) as fault:
            raise InputError(f"{path}: not recovered functions: {fault}") from fault


def _pack(own: AgentFunctions, prefix: str, arrays: dict[str, NDArray[Any]]) -> dict[str, Any]:
    for number, array in enumerate(to_arrays(own.policies.parameters)):
        arrays[f"{prefix}policies/{number}"] = array
    for index, one in enumerate(own.members):
        arrays |= {f"{prefix}member_{index}/{n}": a for n, a in member_arrays(one).items()}
    features = own.members[0].features
    return {
        "encoder": own.encoder.to_json(),
        "n_stages": own.policies.n_stages,
        "n_actions": list(own.policies.n_actions),
        "agent_index": features.agent_index,
        "reward_model": features.model,
        "n_members": len(own.members),
        "n_policy_arrays": len(own.policies.parameters),
    }


def _unpack(
    content: Mapping[str, Any], prefix: str, arrays: Mapping[str, NDArray[Any]]
) -> AgentFunctions:
    n_actions = tuple(int(n) for n in content["n_actions"])
    parameters = from_arrays(
        [arrays[f"{prefix}policies/{number}"] for number in range(int(content["n_policy_arrays"]))]
    )
    model: RewardModel = content["reward_model"]
    if model not in ("state", "own_action", "joint"):
        raise InputError(f"invalid reward model {model!r} (allowed: state, own_action, joint)")
    members = []
    for index in range(int(content["n_members"])):
        start = f"{prefix}member_{index}/"
        own = {n.removeprefix(start): a for n, a in arrays.items() if n.startswith(start)}
        members.append(member_from_arrays(own, model, n_actions, int(content["agent_index"])))
    if not members:
        raise InputError("there are no members")
    policies = EstimatedPolicies(parameters, int(content["n_stages"]), n_actions, [])
    return AgentFunctions(Encoder.from_json(content["encoder"]), tuple(members), policies)


def _check(own: AgentFunctions) -> None:
    """Evaluate everything once, so that arrays that do not fit each other fail here, not later."""
    space = own.encoder.space
    one = np.asarray(space.sample())[None]
    if space.dtype is not None and space.dtype.kind == "f":
        one = np.zeros_like(one)
    own.reward(one, np.zeros((1, len(own.policies.n_actions)), dtype=np.int64))
    own.policies.log_policies(input_features(own.encoder, one), own.policies.n_stages - 1)


def member_arrays(one: Member) -> dict[str, NDArray[Any]]:
    """Return a member as arrays for a file."""
    features = one.features.map
    arrays = {f"hidden/{number}": a for number, a in enumerate(to_arrays(features.hidden))}
    arrays |= {"shift": features.shift, "scale": features.scale}
    arrays |= {"mean": one.mean, "centre": one.centre}
    if features.waves:
        arrays["waves"] = np.array(float(features.waves))
    return arrays if one.covariance is None else {**arrays, "covariance": one.covariance}


def member_from_arrays(
    arrays: Mapping[str, NDArray[Any]],
    model: RewardModel,
    n_actions: tuple[int, ...],
    agent_index: int,
    device: torch.device | str = "cpu",
) -> Member:
    """Return the member that `member_arrays` wrote."""
    n_hidden = sum(name.startswith("hidden/") for name in arrays)
    hidden = from_arrays([arrays[f"hidden/{number}"] for number in range(n_hidden)], device)
    waves = int(arrays["waves"]) if "waves" in arrays else 0
    units = hidden[-1].shape[-1] if hidden else 0
    if not 0 <= waves <= units:
        raise InputError(f"waves is {waves}, must be 0 to {units}")
    features = FeatureMap(hidden, arrays["shift"], arrays["scale"], waves)
    k = features.n_features
    wanted = {"mean": (k,), "centre": (k,), "covariance": (k, k), "scale": (k - 1,)}
    for name, shape in wanted.items():
        if name in arrays and arrays[name].shape != shape:
            raise InputError(f"{name} has shape {arrays[name].shape}, must have {shape}")
    return Member(
        RewardFeatures(model, features, n_actions, agent_index),
        arrays["mean"],
        arrays.get("covariance"),
        arrays["centre"],
    )
