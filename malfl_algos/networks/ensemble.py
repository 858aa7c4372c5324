"""One agent's reward network: an ensemble of feature maps, each with an inferred last layer."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from math import prod
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from malfl_algos.ma_lfl.inference import Given
from malfl_algos.networks.action_values import (
    RewardFeatures,
    RewardModel,
    StageRows,
    acting_agents,
    stage_rows,
)
from malfl_algos.networks.checkpoints import Checkpoints
from malfl_algos.networks.dynamics import Chances, Dynamics, JointDynamics, OwnDynamics
from malfl_algos.networks.estimated_policies import EstimatedPolicies, estimate_policies
from malfl_algos.networks.feature_maps import FeatureMap, random_map, trained_map, with_actions
from malfl_algos.networks.gathering import Gathered, IntArray
from malfl_algos.networks.logging import Log
from malfl_algos.networks.potentials import Potentials, fit_potentials
from malfl_algos.networks.recovered_functions import Member, member_arrays, member_from_arrays
from malfl_algos.networks.reward_fit import LastLayer, fit_last_layer, prediction
from malfl_algos.networks.training import TrainingSettings

__all__ = ["Fitted", "Fitting", "fit_agent"]

FloatArray = NDArray[np.float64]

HELD_OUT = 0.1
"""Share of every stage's episodes by which training stops."""
MOST_JOINT = 25
"""Up to so many joint actions, each has dynamics of its own, learned from all stages."""


@dataclass(frozen=True, eq=False)
class Fitting:
    """How a fit is made; see `MaLflNetwork` for the options."""

    form: Literal["bellman", "potentials"]
    reward_model: RewardModel
    trunk: Literal["random", "policies", "potentials"]
    dynamics: Literal["auto", "joint", "own"]
    widths: tuple[int, ...]
    hidden: tuple[int, ...]
    ensemble: int
    bootstrap: bool
    entropy_coefficient: float
    training: TrainingSettings
    max_rows: int
    seed: int
    discount: float
    temperature: float
    device: torch.device
    checkpoints: Checkpoints
    log: Log | None = None
    policies: dict[tuple[int, int], EstimatedPolicies] = field(default_factory=dict)

    def sequence(self, *key: int) -> np.random.SeedSequence:
        """A source of randomness of its own for a part of the fit."""
        return np.random.SeedSequence(self.seed, spawn_key=key)

    def generator(self, *key: int) -> torch.Generator:
        """Likewise for torch."""
        return torch.Generator().manual_seed(int(self.sequence(*key).generate_state(1)[0]))

    def logging(self, name: str) -> Callable[[int, float, float], None] | None:
        """A log of training and held-out loss."""
        log = self.log
        if log is None:
            return None

        def note(step: int, training: float, held_out: float) -> None:
            log(f"{name}/training", step, training)
            log(f"{name}/held_out", step, held_out)

        return note


@dataclass(frozen=True, eq=False)
class Fitted:
    """What came of it.

    Args:
        members: of the ensemble.
        policies: everyone's, as functions of what the agent observes.
        diagnostics: for JSON.
    """

    members: tuple[Member, ...]
    policies: EstimatedPolicies
    diagnostics: dict[str, Any]


@dataclass(frozen=True, eq=False)
class _Data:
    """What a member is fitted to: counts of the distinct steps per stage, and those apart."""

    counts: list[FloatArray]
    training: list[FloatArray]
    held_out: list[FloatArray]


def fit_agent(
    gathered: Gathered, fitting: Fitting, known: Mapping[int, FloatArray] | None = None
) -> Fitted:
    """Fit one agent.

    Args:
        gathered: the steps as it sees them.
        fitting: how.
        known: policies known for certain, by agent index, `(n_stages, n_observations, n_actions)`.
    """
    members: list[Member] = []
    details: list[dict[str, Any]] = []
    policies: EstimatedPolicies | None = None
    given: Given | None = None
    for number in range(fitting.ensemble):
        data = _data(gathered, fitting, number)
        estimated = _policies(gathered, fitting, data, number)
        policies = policies or estimated
        saver = fitting.checkpoints.named(
            f"agent_{gathered.agent_index}_member_{number}", n_inputs=gathered.inputs.shape[1]
        )
        found = None if saver is None else saver.load()
        if found is not None and saver is not None:
            try:
                one = member_from_arrays(
                    found[0],
                    fitting.reward_model,
                    gathered.n_actions,
                    gathered.agent_index,
                    fitting.device,
                )
                detail = found[1]
            except (KeyError, TypeError, ValueError, RuntimeError) as fault:
                raise saver.broken(fault) from fault
        else:
            chances = _chances(gathered, estimated, known or {})
            one, detail = _member(gathered, fitting, data, chances, estimated, number, given)
            if saver is not None:
                saver.save(member_arrays(one), detail)
        members.append(one)
        details.append(detail)
        given = given or _chosen(detail)
    assert policies is not None
    return Fitted(tuple(members), policies, _diagnostics(gathered, fitting, policies, details))


def _data(gathered: Gathered, fitting: Fitting, number: int) -> _Data:
    apart = np.random.default_rng(fitting.sequence(gathered.view, 0))
    drawn = np.random.default_rng(fitting.sequence(gathered.view, 1, number))
    counts, training, held_out = [], [], []
    for steps in gathered.stages:
        kept = np.ones(steps.n_blocks)
        kept[apart.permutation(steps.n_blocks)[: max(1, round(HELD_OUT * steps.n_blocks))]] = 0.0
        weights = np.ones(steps.n_blocks)
        if fitting.bootstrap:
            share = np.full(steps.n_blocks, 1 / steps.n_blocks)
            weights = drawn.multinomial(steps.n_blocks, share).astype(np.float64)
        parts = [steps.counts(w) for w in (weights, weights * kept, weights * (1 - kept))]
        # of a stage with a single block, or none drawn, all of it serves both ends
        parts = [part if part.any() else parts[0] for part in parts]
        for kind, part in zip((counts, training, held_out), parts, strict=True):
            kind.append(part)
    return _Data(counts, training, held_out)


def _policies(
    gathered: Gathered, fitting: Fitting, data: _Data, number: int
) -> EstimatedPolicies:
    """The policies that a member takes, trained at most once."""
    key = gathered.view, number if fitting.bootstrap else 0
    if key not in fitting.policies:
        name = f"policies_{key[0]}_{key[1]}"
        fitting.policies[key] = estimate_policies(
            gathered,
            data.training,
            data.held_out,
            hidden=fitting.hidden,
            entropy_coefficient=fitting.entropy_coefficient,
            settings=fitting.training,
            generator=fitting.generator(*key, 2),
            device=fitting.device,
            saver=fitting.checkpoints.named(name),
            log=fitting.logging(name),
        )
    return fitting.policies[key]


def _chances(
    gathered: Gathered, policies: EstimatedPolicies, known: Mapping[int, FloatArray]
) -> Chances:
    def chances(rows: IntArray, stage: int) -> list[FloatArray]:
        found = [np.exp(own) for own in policies.log_policies(gathered.inputs[rows], stage)]
        return [
            known[agent][stage, rows] if agent in known else own for agent, own in enumerate(found)
        ]

    return chances


def _member(
    gathered: Gathered,
    fitting: Fitting,
    data: _Data,
    chances: Chances,
    policies: EstimatedPolicies,
    number: int,
    given: Given | None,
) -> tuple[Member, dict[str, Any]]:
    generator = fitting.generator(gathered.agent_index, number, 3)
    potentials = None
    if fitting.form == "potentials" or fitting.trunk == "potentials":
        potentials = _potentials(gathered, fitting, data, chances, number)
    if fitting.form == "potentials":
        assert potentials is not None
        return _of_potentials(gathered, fitting, data, potentials)
    trunk = _trunk(gathered, fitting, policies, potentials, generator)
    reward = RewardFeatures(
        fitting.reward_model, trunk, gathered.n_actions, gathered.agent_index
    )
    if fitting.reward_model != "state":
        acting = [gathered.n_actions[agent] for agent in reward.acting]
        some = _sample_inputs(gathered, reward, acting)
        phi = random_map(generator, fitting.widths, some, device=fitting.device)
        reward = RewardFeatures(
            fitting.reward_model, phi, gathered.n_actions, gathered.agent_index
        )
    features = trunk(gathered.inputs)
    dynamics = _dynamics(gathered, fitting, features, data, chances)
    rng = np.random.default_rng(fitting.sequence(gathered.agent_index, number, 4))
    rows = [
        stage_rows(
            gathered,
            stage,
            data.counts,
            features,
            reward,
            dynamics,
            chances,
            discount=fitting.discount,
            temperature=fitting.temperature,
            max_rows=fitting.max_rows,
            rng=rng,
        )
        for stage in range(len(gathered.stages) - 1)
    ]
    layer = fit_last_layer(rows, dynamics, temperature=fitting.temperature, given=given)
    detail = _said(layer)
    if number == 0:
        detail["prediction"] = _prediction(rows, dynamics, chances, gathered, fitting)
    centre = _centre(gathered, data, reward)
    return Member(reward, layer.mean, layer.covariance, centre), detail


def _trunk(
    gathered: Gathered,
    fitting: Fitting,
    policies: EstimatedPolicies,
    potentials: Potentials | None,
    generator: torch.Generator,
) -> FeatureMap:
    if fitting.trunk == "policies":
        return trained_map(policies.parameters[:-2], gathered.inputs)
    if fitting.trunk == "potentials":
        assert potentials is not None
        return trained_map(potentials.potentials[:-2], gathered.inputs)
    return random_map(generator, fitting.widths, gathered.inputs, device=fitting.device)


def _dynamics(
    gathered: Gathered, fitting: Fitting, features: FloatArray, data: _Data, chances: Chances
) -> Dynamics:
    few = prod(gathered.n_actions) <= MOST_JOINT
    if fitting.dynamics == "joint" or (fitting.dynamics == "auto" and few):
        return JointDynamics(gathered, features, data.counts, chances)
    return OwnDynamics(gathered, features, data.counts)


def _potentials(
    gathered: Gathered, fitting: Fitting, data: _Data, chances: Chances, number: int
) -> Potentials:
    name = f"agent_{gathered.agent_index}_potentials_{number}"
    return fit_potentials(
        gathered,
        data.training,
        data.held_out,
        chances,
        model=fitting.reward_model,
        hidden=fitting.hidden,
        discount=fitting.discount,
        settings=fitting.training,
        generator=fitting.generator(gathered.agent_index, number, 5),
        device=fitting.device,
        saver=fitting.checkpoints.named(name),
        log=fitting.logging(name),
    )


def _of_potentials(
    gathered: Gathered, fitting: Fitting, data: _Data, found: Potentials
) -> tuple[Member, dict[str, Any]]:
    """The reward network itself as a member: its hidden layers, its last layer, no posterior."""
    acting = acting_agents(fitting.reward_model, gathered.agent_index, len(gathered.n_actions))
    extra = sum(gathered.n_actions[agent] for agent in acting)
    n_units, n_inputs = found.reward[-2].shape[1], gathered.inputs.shape[1] + extra
    weights = found.reward[-2].detach().double().cpu().numpy()[0, :, 0]
    level = float(found.reward[-1].detach().cpu().numpy()[0, 0, 0])
    scale = np.concatenate([np.ones(n_units), np.zeros(n_inputs)])
    features = FeatureMap([p.detach() for p in found.reward[:-2]], np.zeros(len(scale)), scale)
    reward = RewardFeatures(
        fitting.reward_model, features, gathered.n_actions, gathered.agent_index
    )
    mean = fitting.temperature * np.concatenate([weights, np.zeros(n_inputs), [level]])
    detail = {"loss": found.losses[-1][0], "rounds": len(found.losses)}
    return Member(reward, mean, None, _centre(gathered, data, reward)), detail


def _sample_inputs(
    gathered: Gathered, reward: RewardFeatures, sizes: Sequence[int]
) -> NDArray[np.float32]:
    """Inputs with actions, as they were played in the first stage, to standardise features by."""
    steps = gathered.stages[0]
    actions = steps.joint_actions[:, list(reward.acting)]
    return with_actions(gathered.inputs[steps.here], actions, sizes)


def _centre(gathered: Gathered, data: _Data, reward: RewardFeatures) -> FloatArray:
    """Mean features over all steps."""
    total, sums = 0.0, np.zeros(reward.map.n_features)
    for steps, count in zip(gathered.stages, data.counts, strict=True):
        for piece in np.array_split(np.arange(len(count)), len(count) // 65536 + 1):
            phi = reward(gathered.inputs[steps.here[piece]], steps.joint_actions[piece])
            sums += count[piece] @ phi
        total += float(count.sum())
    return np.asarray(sums / total)


def _said(layer: LastLayer) -> dict[str, Any]:
    chosen = layer.evidence
    return {
        "log_evidence": chosen.log_evidence,
        "noise_variance": chosen.noise_variance,
        "noise_scale": chosen.noise_scale,
        "prior_variance": chosen.prior_variance,
        "bounds_hit": list(chosen.bounds_hit),
        "rank": layer.rank,
        "n_features": len(layer.mean),
    }


def _chosen(detail: Mapping[str, Any]) -> Given | None:
    if "noise_variance" not in detail:
        return None
    return Given(
        float(detail["noise_variance"]),
        float(detail["noise_scale"]),
        float(detail["prior_variance"]),
    )


def _prediction(
    rows: Sequence[StageRows],
    dynamics: Dynamics,
    chances: Chances,
    gathered: Gathered,
    fitting: Fitting,
) -> dict[str, float] | None:
    """Log likelihood per step of the last stage's actions, the reward recovered without it."""
    if len(rows) < 2:
        return None
    last, agent = rows[-1], gathered.agent_index
    layer = fit_last_layer(rows[:-1], dynamics, temperature=fitting.temperature)
    before = np.log(np.maximum(chances(last.rows, last.stage)[agent], 1e-300))
    return {
        "stage": last.stage + 1,
        "log_likelihood": prediction(last, layer.mean, temperature=fitting.temperature),
        "no_change": float((last.counts * before).sum() / last.counts.sum()),
        "uniform": -float(np.log(gathered.n_own)),
    }


def _diagnostics(
    gathered: Gathered,
    fitting: Fitting,
    policies: EstimatedPolicies,
    details: Sequence[dict[str, Any]],
) -> dict[str, Any]:
    return {
        "form": fitting.form,
        "reward_model": fitting.reward_model,
        "discount": fitting.discount,
        "n_observations": len(gathered.inputs),
        "n_distinct_steps": sum(len(steps.here) for steps in gathered.stages),
        "policy_loss": policies.losses[-1][1] if policies.losses else None,
        "policy_rounds": len(policies.losses),
        "prediction": details[0].get("prediction"),
        "members": [{k: v for k, v in one.items() if k != "prediction"} for one in details],
        "representative": "mean of the members' posterior means, mean removed",
    }
