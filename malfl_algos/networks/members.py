"""A member of the ensemble: a feature map, and a last layer inferred on top of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from math import prod
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from malfl_algos.ma_lfl.inference import Given
from malfl_algos.networks.action_values import (
    RewardFeatures,
    StageRows,
    acting_agents,
    stage_rows,
)
from malfl_algos.networks.dynamics import Chances, Dynamics, JointDynamics, OwnDynamics
from malfl_algos.networks.estimated_policies import EstimatedPolicies
from malfl_algos.networks.feature_maps import FeatureMap, random_map, trained_map, with_actions
from malfl_algos.networks.fitting import Counts, Fitting
from malfl_algos.networks.gathering import Gathered
from malfl_algos.networks.potentials import Potentials, fit_potentials
from malfl_algos.networks.proximal import proximal_rows
from malfl_algos.networks.recovered_functions import Member
from malfl_algos.networks.reward_fit import LastLayer, fit_last_layer, prediction

__all__ = ["fit_member"]

FloatArray = NDArray[np.float64]

NOISE = ("noise_variance", "noise_scale", "prior_variance")
MOST_JOINT = 25
"""Up to so many joint actions, each has dynamics of its own, learned from all stages."""


def fit_member(
    gathered: Gathered,
    fitting: Fitting,
    data: Counts,
    chances: Chances,
    policies: EstimatedPolicies,
    number: int,
    chosen: Mapping[str, Any] | None,
) -> tuple[Member, dict[str, Any]]:
    """Fit a member.

    Args:
        gathered: the steps as the agent sees them.
        fitting: how.
        data: counts.
        chances: everyone's policies.
        policies: their network.
        number: of the member.
        chosen: what was said of an earlier member, whose noise, prior and rule this one takes.

    Returns:
        The member, and what to say of it.
    """
    generator = fitting.generator(gathered.agent_index, number, 3)
    potentials = None
    if fitting.form == "potentials" or fitting.trunk == "potentials":
        potentials = _potentials(gathered, fitting, data, chances, number)
    if fitting.form == "potentials":
        assert potentials is not None
        return _of_potentials(gathered, fitting, data, potentials)
    trunk = _trunk(gathered, fitting, policies, potentials, generator)
    reward = RewardFeatures(fitting.reward_model, trunk, gathered.n_actions, gathered.agent_index)
    if fitting.reward_model != "state":
        acting = [gathered.n_actions[agent] for agent in reward.acting]
        some = _sample_inputs(gathered, reward, acting)
        read = np.append(gathered.read, np.ones(sum(acting), dtype=np.bool_))
        phi = random_map(generator, fitting.widths, some, read=read, device=fitting.device)
        reward = RewardFeatures(fitting.reward_model, phi, gathered.n_actions, gathered.agent_index)
    features = trunk(gathered.inputs)
    dynamics = _dynamics(gathered, fitting, features, data, chances)
    rng = np.random.default_rng(fitting.sequence(gathered.agent_index, number, 4))
    rows = _rows(gathered, fitting, data, features, reward, dynamics, chances, rng=rng)
    layer = _layer(gathered, fitting, rows, dynamics, chosen)
    detail = _said(layer)
    if number == 0:
        detail["prediction"] = _prediction(rows, dynamics, chances, gathered, fitting, layer)
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
    return random_map(
        generator, fitting.widths, gathered.inputs, read=gathered.read, device=fitting.device
    )


def _dynamics(
    gathered: Gathered, fitting: Fitting, features: FloatArray, data: Counts, chances: Chances
) -> Dynamics:
    few = prod(gathered.n_actions) <= MOST_JOINT
    if fitting.dynamics == "joint" or (fitting.dynamics == "auto" and few):
        return JointDynamics(gathered, features, data.everything, chances)
    return OwnDynamics(gathered, features, data.everything)


def _rows(
    gathered: Gathered,
    fitting: Fitting,
    data: Counts,
    features: FloatArray,
    reward: RewardFeatures,
    dynamics: Dynamics,
    chances: Chances,
    *,
    rng: np.random.Generator,
) -> list[StageRows]:
    """What every stage says of the reward, under the learners' way of improving."""
    what = (data.everything, features, reward, dynamics, chances)
    how: dict[str, Any] = {
        "discount": fitting.discount,
        "temperature": fitting.temperature,
        "max_rows": fitting.max_rows,
        "rng": rng,
    }
    if fitting.improvement == "proximal":
        return proximal_rows(gathered, *what, **how)
    return [stage_rows(gathered, stage, *what, **how) for stage in range(len(gathered.stages) - 1)]


def _potentials(
    gathered: Gathered, fitting: Fitting, data: Counts, chances: Chances, number: int
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
        settings=replace(fitting.training, steady=True),
        generator=fitting.generator(gathered.agent_index, number, 5),
        device=fitting.device,
        saver=fitting.checkpoints.named(name),
        log=fitting.logging(name),
    )


def _of_potentials(
    gathered: Gathered, fitting: Fitting, data: Counts, found: Potentials
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


def _centre(gathered: Gathered, data: Counts, reward: RewardFeatures) -> FloatArray:
    """Mean features over all steps."""
    total, sums = 0.0, np.zeros(reward.map.n_features)
    for steps, count in zip(gathered.stages, data.everything, strict=True):
        for piece in np.array_split(np.arange(len(count)), len(count) // 65536 + 1):
            phi = reward(gathered.inputs[steps.here[piece]], steps.joint_actions[piece])
            sums += count[piece] @ phi
        total += float(count.sum())
    return np.asarray(sums / total)


def _layer(
    gathered: Gathered,
    fitting: Fitting,
    rows: Sequence[StageRows],
    dynamics: Dynamics,
    chosen: Mapping[str, Any] | None,
) -> LastLayer:
    """The last layer, under the learners' rule that was chosen or explains the data better."""
    if chosen is not None:
        given = Given(*(float(chosen[name]) for name in NOISE))
        rules = [None if chosen["step_size"] is None else float(chosen["step_size"])]
    else:
        given, rules = None, [None, fitting.step_size]
        exact = fitting.learner == "exact" or fitting.improvement == "proximal"
        if exact or (fitting.learner == "auto" and not gathered.repeats):
            rules = [None]
        elif fitting.learner == "td":
            rules = [fitting.step_size]
    fits = [
        fit_last_layer(rows, dynamics, temperature=fitting.temperature, step_size=rule, given=given)
        for rule in rules
    ]
    best = max(fits, key=lambda one: one.evidence.log_evidence or -np.inf)
    if fitting.prior_variance is None or chosen is not None:
        return best
    noise = best.evidence.noise_variance, best.evidence.noise_scale
    return fit_last_layer(
        rows,
        dynamics,
        temperature=fitting.temperature,
        step_size=best.step_size,
        given=Given(*noise, fitting.prior_variance * fitting.temperature**2),
    )


def _said(layer: LastLayer) -> dict[str, Any]:
    chosen = layer.evidence
    return {
        "log_evidence": chosen.log_evidence,
        "noise_variance": chosen.noise_variance,
        "noise_scale": chosen.noise_scale,
        "prior_variance": chosen.prior_variance,
        "bounds_hit": list(chosen.bounds_hit),
        "learner": "exact" if layer.step_size is None else "td",
        "step_size": layer.step_size,
        "rank": layer.rank,
        "n_features": len(layer.mean),
    }


def _prediction(
    rows: Sequence[StageRows],
    dynamics: Dynamics,
    chances: Chances,
    gathered: Gathered,
    fitting: Fitting,
    whole: LastLayer,
) -> dict[str, float] | None:
    """Log likelihood per step of the last stage's actions, the reward recovered without it."""
    if len(rows) < 2:
        return None
    last, agent = rows[-1], gathered.agent_index
    shared: dict[str, Any] = {"temperature": fitting.temperature, "step_size": whole.step_size}
    layer = fit_last_layer(rows[:-1], dynamics, **shared)
    before = np.log(np.maximum(chances(last.rows, last.stage)[agent], 1e-300))
    return {
        "stage": last.stage + 1,
        "log_likelihood": prediction(last, layer.mean, **shared),
        "no_change": float((last.counts * before).sum() / last.counts.sum()),
        "uniform": -float(np.log(gathered.n_own)),
    }
