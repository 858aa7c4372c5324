"""Fit one member of the ensemble: a feature map, and weights on its features.

The weights are inferred from the actions of the following stages. With `form: potentials` features
and weights are trained by gradients instead.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import prod
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from malfl_algos.ma_lfl.posterior import Given
from malfl_algos.networks.action_values import StageRows, ValueModel, retained_rows, soft_rows
from malfl_algos.networks.checkpoints import Checkpoints
from malfl_algos.networks.dynamics import Dynamics, parts_of
from malfl_algos.networks.estimated_policies import EstimatedPolicies
from malfl_algos.networks.features import (
    FeatureMap,
    RewardFeatures,
    acting_agents,
    digit_groups,
    kernel_map,
    random_map,
    trained_map,
    with_actions,
)
from malfl_algos.networks.gathering import Gathered, IntArray
from malfl_algos.networks.kept import Kept, search_kept
from malfl_algos.networks.last_layer import LastLayer, fit_last_layer, prediction
from malfl_algos.networks.logging import Log
from malfl_algos.networks.moved_members import fit_moved
from malfl_algos.networks.options import FitOptions
from malfl_algos.networks.potentials import Potentials, fit_potentials
from malfl_algos.networks.recovered_functions import Member
from malfl_algos.networks.tables import Table, fetched, like
from malfl_algos.networks.training import TrainingSettings

__all__ = ["Counts", "Details", "Fitting", "MemberFit", "fit_member", "value_model"]

FloatArray = NDArray[np.float64]
Details = dict[str, Any]

LENGTHS = (0.9, 1.3, 1.9)
"""Length scales of a kernel that the evidence compares."""
MOST_JOINT = 25
"""Up to this number, every joint action has its own dynamics, learned from all stages."""


@dataclass(frozen=True, eq=False)
class Fitting:
    """What the fits of all agents share.

    Args:
        options: of the fit.
        discount: gamma.
        temperature: alpha.
        device: of the networks.
        checkpoints: where finished parts are saved.
        log: receives the losses.
        policies: the policies estimated so far, by view and member.
        lengths: the length scales of kernels chosen so far, by agent.
    """

    options: FitOptions
    discount: float
    temperature: float
    device: torch.device
    checkpoints: Checkpoints
    log: Log | None = None
    policies: dict[tuple[int, int], EstimatedPolicies] = field(default_factory=dict)
    lengths: dict[int, float] = field(default_factory=dict)

    def sequence(self, *key: int) -> np.random.SeedSequence:
        """Return the source of randomness of a part of the fit."""
        return np.random.SeedSequence(self.options.seed, spawn_key=key)

    def training(self, name: str, *key: int, steady: bool = False) -> dict[str, Any]:
        """Return the arguments of a training; `name` labels its files, `key` its random numbers."""
        options, log = self.options, self.log

        def note(step: int, training: float, held_out: float) -> None:
            assert log is not None
            log(f"{name}/training", step, training)
            log(f"{name}/held_out", step, held_out)

        return {
            "hidden": options.hidden,
            "settings": TrainingSettings(
                options.epochs, options.batch_size, options.learning_rate, steady=steady
            ),
            "generator": self.generator(*key),
            "device": self.device,
            "saver": self.checkpoints.named(name),
            "log": None if log is None else note,
        }

    def generator(self, *key: int) -> torch.Generator:
        """Return torch's generator of a part of the fit."""
        seed = int(self.sequence(*key).generate_state(1)[0])
        return torch.Generator("cpu").manual_seed(seed)


@dataclass(frozen=True, eq=False)
class Counts:
    """Per stage, counts of the distinct steps: all, the training part, and the held-out part."""

    everything: list[FloatArray]
    training: list[FloatArray]
    held_out: list[FloatArray]


@dataclass(frozen=True, eq=False)
class MemberFit:
    """The data and settings of one member.

    Args:
        gathered: the steps as the agent observes them.
        fitting: settings shared by all agents.
        counts: of the steps.
        policies: estimated policies of all agents.
        known: policies that are known exactly, by agent index.
        number: of the member.
        chosen: details of the member whose noise, prior and learning rule are used again; None:
            they are chosen anew.
        last: whether no fit to other policies follows; its predictions are scored.
    """

    gathered: Gathered
    fitting: Fitting
    counts: Counts
    policies: EstimatedPolicies
    known: Mapping[int, FloatArray]
    number: int
    chosen: Details | None
    last: bool = True

    @property
    def options(self) -> FitOptions:
        return self.fitting.options

    @property
    def key(self) -> tuple[int, int]:
        """Key of the member's random numbers."""
        return self.gathered.agent_index, self.number

    def probabilities(self, rows: IntArray, stage: int) -> list[FloatArray]:
        """Return the policies of all agents: the known ones, and estimates of the others."""
        found = [
            np.exp(own) for own in self.policies.log_policies(self.gathered.inputs[rows], stage)
        ]
        return [
            self.known[agent][stage, rows] if agent in self.known else own
            for agent, own in enumerate(found)
        ]

    def reward(self, features: FeatureMap) -> RewardFeatures:
        return RewardFeatures(
            self.options.reward_model,
            features,
            self.gathered.n_actions,
            self.gathered.agent_index,
        )


def fit_member(fit: MemberFit) -> tuple[Member, Details]:
    """Fit one member; return it and the details of its fit, as JSON values."""
    potentials = None
    if "potentials" in (fit.options.form, fit.options.trunk):
        potentials = _fit_potentials(fit)
        if fit.options.form == "potentials":
            return _potentials_member(fit, potentials)
    if fit.options.form == "moves":
        generator = fit.fitting.generator(*fit.key, 3)
        return fit_moved(fit, _trunk(fit, potentials, generator, _lengths(fit)[0]))
    found = [_inferred(fit, potentials, length) for length in _lengths(fit)]
    best = max(found, key=lambda one: one.layer.evidence.log_evidence or -np.inf)
    reward, layer, model = best.model.reward, best.layer, best.model
    detail = {**_details(layer), **best.kept.details()}
    if best.length is not None:
        detail["length_scale"] = fit.fitting.lengths[fit.gathered.agent_index] = best.length
    if fit.number == 0 and fit.last:
        detail["prediction"] = _prediction(fit, best.rows, model.dynamics, layer.step_size)
    centre = _centre(fit, reward, model.features)
    return Member(reward, layer.mean, layer.covariance, centre), detail


@dataclass(frozen=True, eq=False)
class _Inferred:
    """A member whose last layer is inferred, and what it is inferred from."""

    length: float | None
    model: ValueModel
    kept: Kept
    rows: list[StageRows]
    layer: LastLayer


def _inferred(fit: MemberFit, potentials: Potentials | None, length: float | None) -> _Inferred:
    """Infer the last layer on features of this length scale; None: on other features."""
    generator = fit.fitting.generator(*fit.key, 3)
    trunk = _trunk(fit, potentials, generator, length)
    reward = fit.reward(trunk)
    if fit.options.reward_model != "state":
        reward = fit.reward(_action_map(fit, reward.acting, generator))
    model = value_model(fit, trunk.table(fit.gathered.inputs), reward)
    kept = _kept(fit, model)
    rows = _rows(fit, model, kept.retained)
    layer = _last_layer(fit, rows, model.dynamics, kept.retained)
    return _Inferred(length, model, kept, rows, layer)


def _lengths(fit: MemberFit) -> Sequence[float | None]:
    """Return the candidate length scales of a kernel; None: the features have no kernel."""
    if fit.options.trunk != "kernel":
        return [None]
    if fit.options.length_scale is not None:
        return [fit.options.length_scale]
    if fit.chosen is not None:
        return [float(fit.chosen["length_scale"])]
    known = fit.fitting.lengths.get(fit.gathered.agent_index)
    return LENGTHS if known is None else [known]


def _rows(fit: MemberFit, model: ValueModel, retained: float) -> list[StageRows]:
    shared: dict[str, Any] = {
        "temperature": fit.fitting.temperature,
        "max_rows": fit.options.max_rows,
        "rng": np.random.default_rng(fit.fitting.sequence(*fit.key, 4)),
    }
    return (
        retained_rows(model, retained=retained, **shared)
        if retained
        else soft_rows(model, **shared)
    )


def _kept(fit: MemberFit, model: ValueModel) -> Kept:
    """Return the share rho that is given, was chosen before, or has the largest evidence."""
    given = fit.options.retained
    if given is not None:
        return Kept(given)
    if fit.chosen is not None:
        return Kept(float(fit.chosen["improvement"]))
    return search_kept(
        model,
        _rules(fit, 0.0),
        temperature=fit.fitting.temperature,
        max_rows=fit.options.max_rows,
        seed=fit.fitting.sequence(*fit.key, 6),
    )


def _fit_potentials(fit: MemberFit) -> Potentials:
    name = f"agent_{fit.gathered.agent_index}_potentials_{fit.number}"
    return fit_potentials(
        fit.gathered,
        fit.counts.training,
        fit.counts.held_out,
        fit.probabilities,
        model=fit.options.reward_model,
        discount=fit.fitting.discount,
        **fit.fitting.training(name, *fit.key, 5, steady=True),
    )


def _potentials_member(fit: MemberFit, found: Potentials) -> tuple[Member, Details]:
    """Return the reward network itself as a member, without a posterior."""
    gathered = fit.gathered
    acting = acting_agents(fit.options.reward_model, gathered.agent_index, len(gathered.n_actions))
    extra = sum(gathered.n_actions[agent] for agent in acting)
    n_units, n_inputs = found.reward[-2].shape[0], gathered.inputs.shape[1] + extra
    weights = found.reward[-2].detach().double().cpu().numpy()[:, 0]
    level = float(found.reward[-1].detach()[0])
    scale = np.concatenate([np.ones(n_units), np.zeros(n_inputs)])
    features = FeatureMap([p.detach() for p in found.reward[:-2]], np.zeros(len(scale)), scale)
    reward = fit.reward(features)
    mean = fit.fitting.temperature * np.concatenate([weights, np.zeros(n_inputs), [level]])
    detail = {"loss": found.losses[-1][0], "rounds": len(found.losses)}
    return Member(reward, mean, None, _centre(fit, reward)), detail


def _trunk(
    fit: MemberFit,
    potentials: Potentials | None,
    generator: torch.Generator,
    length: float | None,
) -> FeatureMap:
    """Return the features of observations, for values and for rewards of states."""
    gathered = fit.gathered
    if length is not None:
        return kernel_map(
            generator,
            fit.options.widths[-1] // 2 * 2,
            length,
            gathered.inputs,
            read=gathered.read,
            groups=digit_groups(gathered.encoder, fit.options.grouped_digits),
            device=fit.fitting.device,
        )
    if fit.options.trunk == "policies":
        return trained_map(fit.policies.parameters[:-2], gathered.inputs)
    if potentials is not None:
        return trained_map(potentials.potentials[:-2], gathered.inputs)
    return random_map(
        generator,
        fit.options.widths,
        gathered.inputs,
        read=gathered.read,
        device=fit.fitting.device,
    )


def _action_map(fit: MemberFit, acting: Sequence[int], generator: torch.Generator) -> FeatureMap:
    """Return features of observations and actions, standardised over the first stage."""
    gathered, steps = fit.gathered, fit.gathered.stages[0]
    sizes = [gathered.n_actions[agent] for agent in acting]
    actions = steps.joint_actions[:, list(acting)]
    return random_map(
        generator,
        fit.options.widths,
        with_actions(gathered.inputs[steps.here], actions, sizes),
        read=np.append(gathered.read, np.ones(sum(sizes), dtype=np.bool_)),
        device=fit.fitting.device,
    )


def value_model(fit: MemberFit, features: Table, reward: RewardFeatures) -> ValueModel:
    """Return the inputs of the action values.

    Args:
        fit: data and policies.
        features: Z of all observations.
        reward: phi.
    """
    kind, gathered = fit.options.dynamics, fit.gathered
    joint = kind == "joint" or (kind == "auto" and prod(gathered.n_actions) <= MOST_JOINT)
    counts, probabilities = fit.counts.everything, fit.probabilities
    dynamics = Dynamics(gathered, features, counts, probabilities, joint=joint)
    return ValueModel(
        gathered,
        counts,
        features,
        reward,
        dynamics,
        probabilities,
        fit.fitting.discount,
        everywhere=fit.options.values == "model",
        moves=fit.options.first_moves,
    )


def _centre(fit: MemberFit, reward: RewardFeatures, features: Table | None = None) -> FloatArray:
    """Return the mean features over all steps; `features` as in `value_model`."""
    if isinstance(features, Tensor) and reward.model == "state":  # phi is Z, which is there
        visits = np.zeros(len(features))
        for steps, count in zip(fit.gathered.stages, fit.counts.everything, strict=True):
            visits += np.bincount(steps.here, count, minlength=len(visits))
        return fetched(like(features, visits / visits.sum()) @ features)
    total, sums = 0.0, np.zeros(reward.map.n_features)
    for steps, count in zip(fit.gathered.stages, fit.counts.everything, strict=True):
        for part in parts_of(len(count)):
            inputs = fit.gathered.inputs[steps.here[part]]
            sums += count[part] @ reward(inputs, steps.joint_actions[part])
        total += float(count.sum())
    return np.asarray(sums / total)


def _last_layer(
    fit: MemberFit, rows: Sequence[StageRows], dynamics: Dynamics, retained: float
) -> LastLayer:
    """Infer the last layer, under the chosen learning rule or that of largest evidence."""
    options, temperature = fit.options, fit.fitting.temperature

    def fitted(rule: float | None, given: Given | None) -> LastLayer:
        return fit_last_layer(rows, dynamics, temperature=temperature, step_size=rule, given=given)

    if fit.chosen is not None:
        noise, scale, prior = (
            float(fit.chosen[name]) for name in ("noise_variance", "noise_scale", "prior_variance")
        )
        return fitted(fit.chosen["step_size"], Given(noise, scale, prior))
    best = max(
        (fitted(rule, None) for rule in _rules(fit, retained)),
        key=lambda one: one.evidence.log_evidence or -np.inf,
    )
    if options.prior_variance is None:
        return best
    noise, scale = best.evidence.noise_variance, best.evidence.noise_scale
    given = Given(noise, scale, options.prior_variance * temperature**2)
    return fitted(best.step_size, given)


def _rules(fit: MemberFit, retained: float) -> list[float | None]:
    """Return the candidate learning rules; see the step size of `fit_last_layer`."""
    options = fit.options
    if options.learner == "exact" or retained:
        return [None]
    if options.learner == "td":
        return [options.step_size]
    return [None, options.step_size] if fit.gathered.repeats else [None]


def _details(layer: LastLayer) -> Details:
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
    fit: MemberFit, rows: Sequence[StageRows], dynamics: Dynamics, step_size: float | None
) -> dict[str, float] | None:
    """Score the held-out prediction of the last stage: the log-likelihood per step of its actions.

    The reward is recovered from the other stages. None if there are not enough stages.
    """
    if len(rows) < 2:
        return None
    last, agent = rows[-1], fit.gathered.agent_index
    shared: dict[str, Any] = {"temperature": fit.fitting.temperature, "step_size": step_size}
    layer = fit_last_layer(rows[:-1], dynamics, **shared)
    before = np.log(np.maximum(fit.probabilities(last.rows, last.stage)[agent], 1e-300))
    return {
        "stage": last.stage + 1,
        "log_likelihood": prediction(last, layer.mean, **shared),
        "no_change": float((last.counts * before).sum() / last.counts.sum()),
        "uniform": -float(np.log(fit.gathered.n_own)),
    }
