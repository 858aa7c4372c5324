"""(11)-(12) by networks on sampled steps: a reward network and one potential per stage.

With delta = r(o, a) + g_h(o) - gamma g_h(o') - Y_h(o, a, o'), (12) is E[delta | o, a^i] = 0. The
mean of delta squared over sampled steps also contains Var[gamma g_h(o') | o, a]. The others' moves
make this variance large, and minimising it flattens the potentials. The loss is instead

  max over f of E[2 f delta - f^2] = E[ E[delta | o, a]^2 ],

for functions f that are linear in random features of o, for every stage and action. The inner
maximum then has a closed form, m' C^-1 m with m = E[f-features delta]. No saddle point remains that
gradients would circle. One next observation per step is enough; each half of a batch gives one m.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from malfl_algos.networks.checkpoints import Checkpoint
from malfl_algos.networks.dynamics import Probabilities
from malfl_algos.networks.features import acting_agents, random_map, with_actions
from malfl_algos.networks.gathering import Gathered, Steps
from malfl_algos.networks.mlp import Parameters, apply, init
from malfl_algos.networks.options import RewardModel
from malfl_algos.networks.training import TrainingSettings, pieces, train

__all__ = ["Potentials", "fit_potentials"]

DUAL_WIDTH = 128
"""Units of the random layer that f is linear in."""
DUAL_RIDGE = 1e-4
"""Ridge relative to the mean second moment of a feature."""

FloatArray = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Potentials:
    """The fitted networks, in units of alpha.

    Args:
        reward: network of inputs with the acting agents' actions appended.
        potentials: network of inputs, with one output per stage but the last.
        losses: training and held-out loss of every round.
    """

    reward: Parameters
    potentials: Parameters
    losses: list[tuple[float, float]]


@dataclass(frozen=True, eq=False)
class _Items:
    """Steps of all stages but the last, one item each, in units of alpha."""

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
    probabilities: Probabilities,
    *,
    model: RewardModel,
    hidden: Sequence[int],
    discount: float,
    settings: TrainingSettings,
    generator: torch.Generator,
    device: torch.device,
    saver: Checkpoint | None = None,
    log: Callable[[int, float, float], None] | None = None,
) -> Potentials:
    """Fit reward and potentials by mini-batches.

    Args:
        gathered: the distinct observations and steps.
        counts, held_out: per stage, counts of the distinct steps for training, and held out.
        probabilities: the policies of all agents.
        model: the variables that the reward depends on.
        hidden: widths of the hidden layers of each network.
        discount: gamma.
        settings, generator, saver, log: see `train`.
        device: of the networks.
    """
    n_stages = len(gathered.stages) - 1
    acting = acting_agents(model, gathered.agent_index, len(gathered.n_actions))
    items, apart = (
        _items(gathered, kind, probabilities, acting, discount, device)
        for kind in (counts, held_out)
    )
    width = gathered.inputs.shape[1]
    inputs = torch.from_numpy(gathered.inputs).to(device)
    extra = sum(gathered.n_actions[agent] for agent in acting)
    reward = init(generator, [width + extra, *hidden, 1], last_scale=0.0, device=device)
    potentials = init(generator, [width, *hidden, n_stages], last_scale=0.0, device=device)
    dual = _dual(gathered, counts, generator, device)

    def residual(part: _Items, batch: Tensor) -> Tensor:
        at = torch.arange(len(batch), device=device), part.stage[batch]
        g = apply(potentials, inputs[part.here[batch]])[at]
        g_after = apply(potentials, inputs[part.after[batch]])[at]
        r = apply(reward, part.reward_inputs[batch])[:, 0]
        return r + g - discount * part.goes_on[batch] * g_after - part.target[batch]

    def loss(batch: Tensor) -> Tensor:
        weighted = items.weight[batch] * residual(items, batch)
        if len(batch) == len(items.here):
            return dual.norm(items, batch, weighted, weighted)
        order = torch.arange(len(batch), device=device) % 2 == 0
        return dual.norm(items, batch, weighted * order * 2, weighted * ~order * 2)

    @torch.no_grad()
    def held_loss() -> float:
        total = 0.0
        for piece in pieces(torch.arange(len(apart.here), device=device), 1 << 14):
            total += float((apart.weight[piece] * residual(apart, piece) ** 2).sum())
        return total / len(apart.here)

    done = train(
        [*reward, *potentials],
        loss,
        held_loss,
        len(items.here),
        settings=settings,
        generator=generator,
        saver=saver,
        log=log,
    )
    cut = len(reward)
    return Potentials(done.parameters[:cut], done.parameters[cut:], done.history)


@dataclass(frozen=True, eq=False)
class _Dual:
    """The closed form of the maximum over f.

    Args:
        features: of every observation, `(n_observations, k)`.
        inverse: inverse second moments of the features per stage and own action, `(n_stages *
            n_own, k, k)`.
        n_own: number of own actions.
    """

    features: Tensor
    inverse: Tensor
    n_own: int

    def norm(self, items: _Items, batch: Tensor, one: Tensor, other: Tensor) -> Tensor:
        """Return m' C^-1 m; the two m come from two sets of weighted residuals `(n,)`."""
        features = self.features[items.here[batch]]
        place = items.stage[batch] * self.n_own + items.own[batch]
        empty = features.new_zeros((len(self.inverse), features.shape[1]))
        first, second = (
            empty.index_add(0, place, features * values[:, None]) / len(batch)
            for values in (one, other)
        )
        return (first * torch.bmm(self.inverse, second[..., None])[..., 0]).sum()


def _dual(
    gathered: Gathered,
    counts: Sequence[FloatArray],
    generator: torch.Generator,
    device: torch.device,
) -> _Dual:
    features = random_map(
        generator, (DUAL_WIDTH,), gathered.inputs, read=gathered.read, device=device
    )
    table = features(gathered.inputs)
    total = sum(float(count.sum()) for count in counts[:-1])
    inverse = []
    for steps, count in zip(gathered.stages[:-1], counts, strict=False):
        own = steps.joint_actions[:, gathered.agent_index]
        for action in range(gathered.n_own):
            of = own == action
            rows, place = np.unique(steps.here[of], return_inverse=True)
            visits = np.bincount(place, count[of] / total, minlength=len(rows))
            moment = (table[rows] * visits[:, None]).T @ table[rows]
            ridge = DUAL_RIDGE * max(np.trace(moment), 1e-12) / len(moment)
            inverse.append(np.linalg.inv(moment + ridge * np.eye(len(moment))))
    stack = np.stack(inverse).astype(np.float32)
    return _Dual(
        torch.from_numpy(table.astype(np.float32)).to(device),
        torch.from_numpy(stack).to(device),
        gathered.n_own,
    )


def _items(
    gathered: Gathered,
    counts: Sequence[FloatArray],
    probabilities: Probabilities,
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
                _targets(gathered, stage, steps, probabilities, discount)[seen].astype(np.float32),
                weight[seen].astype(np.float32),
            )
        )
    columns = [np.concatenate(column) for column in zip(*parts, strict=True)]
    columns[-1] = columns[-1] / columns[-1].mean()
    return _Items(*(torch.from_numpy(column).to(device) for column in columns))


def _targets(
    gathered: Gathered, stage: int, steps: Steps, probabilities: Probabilities, discount: float
) -> FloatArray:
    """Return the sample of Y / alpha, (11), at every distinct step, before the expectation."""
    rows = np.unique(np.concatenate([steps.here, steps.after]))
    now, later = (
        np.log(np.maximum(probabilities(rows, stage + k)[gathered.agent_index], 1e-30))
        for k in (0, 1)
    )
    divergence = (np.exp(now) * (now - later)).sum(axis=1)
    own = steps.joint_actions[:, gathered.agent_index]
    here, after = np.searchsorted(rows, steps.here), np.searchsorted(rows, steps.after)
    return np.asarray(later[here, own] + discount * steps.goes_on * divergence[after])
