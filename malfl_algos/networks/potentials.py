"""(11)-(12) by networks on sampled steps: a reward network and one potential per stage.

With delta = r(o, a) + g_h(o) - gamma g_h(o') - Y_h(o, a, o'), (12) says E[delta | o, a^i] = 0. The
mean of delta squared over sampled steps is more than that: it pays for Var[gamma g_h(o') | o, a],
too, which the others' moves make large, and flattens the potentials. So a third network f learns
the conditional mean, and the others descend E[2 f delta - f^2], whose maximum over f is the mean of
E[delta | o, a]^2: one next observation per step is enough.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from malfl_algos.networks.action_values import RewardModel, acting_agents
from malfl_algos.networks.checkpoints import Checkpoint
from malfl_algos.networks.dynamics import Chances
from malfl_algos.networks.feature_maps import with_actions
from malfl_algos.networks.gathering import Gathered, Steps
from malfl_algos.networks.mlp import Parameters, apply, init
from malfl_algos.networks.training import TrainingSettings, train

__all__ = ["Potentials", "fit_potentials"]

FloatArray = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Potentials:
    """What was fitted.

    Args:
        reward: network of inputs with the acting agents' actions behind them, in units of alpha.
        potentials: network of inputs, one output per stage but the last, likewise.
        losses: training and held-out loss of every round.
    """

    reward: Parameters
    potentials: Parameters
    losses: list[tuple[float, float]]


@dataclass(frozen=True, eq=False)
class _Items:
    """Steps of all stages but the last, an item each, everything in units of alpha."""

    reward_inputs: Tensor
    here: Tensor
    after: Tensor
    stage: Tensor
    own: Tensor
    goes_on: Tensor
    target: Tensor
    weight: Tensor


def fit_potentials(
    gathered: Gathered,
    counts: Sequence[FloatArray],
    held_out: Sequence[FloatArray],
    chances: Chances,
    *,
    model: RewardModel,
    hidden: Sequence[int],
    discount: float,
    settings: TrainingSettings,
    generator: torch.Generator,
    device: torch.device,
    conditional_mean: bool = True,
    saver: Checkpoint | None = None,
    log: Callable[[int, float, float], None] | None = None,
) -> Potentials:
    """Fit reward and potentials by mini-batches.

    Args:
        gathered: the distinct observations and steps.
        counts, held_out: per stage, of the distinct steps to train on, and to stop by.
        chances: everyone's policies.
        model: what the reward depends on.
        hidden: widths of the hidden layers of each network.
        discount: gamma.
        settings, generator, saver, log: as `train` takes them.
        device: of the networks.
        conditional_mean: False: descend the mean of delta squared, which is wrong (see above).
    """
    n_stages, n_own = len(gathered.stages) - 1, gathered.n_own
    acting = acting_agents(model, gathered.agent_index, len(gathered.n_actions))
    items, apart = (
        _items(gathered, kind, chances, acting, discount, device) for kind in (counts, held_out)
    )
    width = gathered.inputs.shape[1]
    inputs = torch.from_numpy(gathered.inputs).to(device)
    extra = sum(gathered.n_actions[agent] for agent in acting)
    reward = init(generator, [width + extra, *hidden, 1], last_scale=0.0, device=device)
    potentials = init(generator, [width, *hidden, n_stages], last_scale=0.0, device=device)
    mean = init(generator, [width, *hidden, n_stages * n_own], last_scale=0.0, device=device)

    def terms(part: _Items, batch: Tensor) -> tuple[Tensor, Tensor]:
        at = torch.arange(len(batch), device=device), part.stage[batch]
        here = inputs[part.here[batch]]
        g = apply(potentials, here)[0][at]
        g_after = apply(potentials, inputs[part.after[batch]])[0][at]
        r = apply(reward, part.reward_inputs[batch])[0, :, 0]
        delta = r + g - discount * part.goes_on[batch] * g_after - part.target[batch]
        f = apply(mean, here)[0].reshape(len(batch), n_stages, n_own)
        return delta, f[(*at, part.own[batch])]

    def loss(batch: Tensor) -> Tensor:
        delta, f = terms(items, batch)
        weight = items.weight[batch]
        if not conditional_mean:
            return (weight * delta**2).mean()
        descended = 2 * f.detach() * delta  # the reward and the potentials descend it
        regressed = (f - delta.detach()) ** 2
        return (weight * (descended + regressed)).mean()

    @torch.no_grad()
    def held_loss() -> float:
        total = 0.0
        for piece in torch.arange(len(apart.here)).split(1 << 14):
            delta, f = terms(apart, piece)
            value = 2 * f * delta - f**2 if conditional_mean else delta**2
            total += float((apart.weight[piece] * value).sum())
        return total / len(apart.here)

    done = train(
        [*reward, *potentials, *mean],
        loss,
        held_loss,
        len(items.here),
        settings=settings,
        generator=generator,
        saver=saver,
        log=log,
    )
    cut = len(reward), len(reward) + len(potentials)
    return Potentials(done.parameters[: cut[0]], done.parameters[cut[0] : cut[1]], done.history)


def _items(
    gathered: Gathered,
    counts: Sequence[FloatArray],
    chances: Chances,
    acting: Sequence[int],
    discount: float,
    device: torch.device,
) -> _Items:
    parts = []
    for stage, (steps, weight) in enumerate(zip(gathered.stages[:-1], counts, strict=False)):
        seen = weight > 0
        own = steps.joint_actions[seen, gathered.agent_index]
        sizes = [gathered.n_actions[agent] for agent in acting]
        actions = steps.joint_actions[seen][:, list(acting)]
        parts.append(
            (
                with_actions(gathered.inputs[steps.here[seen]], actions, sizes),
                steps.here[seen],
                steps.after[seen],
                np.full(len(own), stage),
                own,
                steps.goes_on[seen].astype(np.float32),
                _targets(gathered, stage, steps, chances, discount)[seen].astype(np.float32),
                weight[seen].astype(np.float32),
            )
        )
    columns = [np.concatenate(column) for column in zip(*parts, strict=True)]
    columns[-1] = columns[-1] / columns[-1].mean()
    return _Items(*(torch.from_numpy(column).to(device) for column in columns))


def _targets(
    gathered: Gathered, stage: int, steps: Steps, chances: Chances, discount: float
) -> FloatArray:
    """Y of (11) at every distinct step, over alpha, its expectation yet to be taken."""
    rows = np.unique(np.concatenate([steps.here, steps.after]))
    now, later = (
        np.log(np.maximum(chances(rows, stage + k)[gathered.agent_index], 1e-30)) for k in (0, 1)
    )
    divergence = (np.exp(now) * (now - later)).sum(axis=1)
    own = steps.joint_actions[:, gathered.agent_index]
    here, after = np.searchsorted(rows, steps.here), np.searchsorted(rows, steps.after)
    return np.asarray(later[here, own] + discount * steps.goes_on * divergence[after])
