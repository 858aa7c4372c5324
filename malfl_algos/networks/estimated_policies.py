"""Policies of all stages as one network: the stages share a trunk, and each has its own head.

Equation (10): maximum likelihood of the played actions, with an entropy bonus and early stopping on
held-out episodes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from malfl_algos.networks.checkpoints import Checkpoint
from malfl_algos.networks.encoding import Features
from malfl_algos.networks.gathering import Gathered
from malfl_algos.networks.mlp import Parameters, apply, init
from malfl_algos.networks.training import TrainingSettings, pieces, train

__all__ = ["EstimatedPolicies", "estimate_policies"]

FloatArray = NDArray[np.float64]

PIECE = 1 << 15
"""Observations evaluated at a time."""


@dataclass(frozen=True, eq=False)
class EstimatedPolicies:
    """The policies of all agents in all stages, as functions of one agent's observations.

    Args:
        parameters: of the network, which has one output per stage and action of every agent.
        n_stages: number of stages.
        n_actions: of every agent.
        losses: training and held-out loss of every round.
    """

    parameters: Parameters
    n_stages: int
    n_actions: tuple[int, ...]
    losses: list[tuple[float, float]]

    def log_policies(self, inputs: Features, stage: int) -> list[FloatArray]:
        """Return per agent the log-policy `(n, n_actions)` of a stage at inputs `(n, width)`."""
        rows = torch.from_numpy(inputs).to(self.parameters[0].device)
        with torch.no_grad():
            found = [
                _by_agent(self.parameters, piece, stage, self.n_stages, self.n_actions)
                for piece in pieces(rows, PIECE)
            ]
        return [torch.cat(parts).double().cpu().numpy() for parts in zip(*found, strict=True)]


def _by_agent(
    parameters: Sequence[Tensor],
    inputs: Tensor,
    stages: Tensor | int,
    n_stages: int,
    n_actions: tuple[int, ...],
) -> list[Tensor]:
    """Return the log-probabilities of every agent's actions, each input in its stage."""
    out = apply(parameters, inputs).reshape(len(inputs), n_stages, sum(n_actions))
    if isinstance(stages, int):
        logits = out[:, stages]
    else:
        own = stages[:, None, None].expand(-1, 1, out.shape[2])
        logits = out.gather(1, own)[:, 0]
    ends = [sum(n_actions[: agent + 1]) for agent in range(len(n_actions))]
    return [
        torch.log_softmax(logits[:, end - n_own : end], dim=-1)
        for end, n_own in zip(ends, n_actions, strict=True)
    ]


def estimate_policies(
    gathered: Gathered,
    counts: Sequence[FloatArray],
    held_out: Sequence[FloatArray],
    *,
    hidden: Sequence[int],
    entropy_coefficient: float,
    settings: TrainingSettings,
    generator: torch.Generator,
    device: torch.device,
    saver: Checkpoint | None = None,
    log: Callable[[int, float, float], None] | None = None,
) -> EstimatedPolicies:
    """Maximise mean log pi(a | o) + lambda H(pi(o)) over the steps of all stages.

    Args:
        gathered: the distinct observations and steps.
        counts: per stage, counts of the distinct steps for training.
        held_out: per stage, counts of the held-out steps, for early stopping.
        hidden: widths of the hidden layers.
        entropy_coefficient: lambda >= 0; it biases the estimate towards uniform.
        settings, generator, saver, log: see `train`.
        device: of the network.
    """
    n_stages, n_actions = len(gathered.stages), gathered.n_actions
    sizes = [gathered.inputs.shape[1], *hidden, n_stages * sum(n_actions)]
    parameters = init(generator, sizes, last_scale=0.0, device=device)
    inputs = torch.from_numpy(gathered.inputs).to(device)
    training, apart = (_table(gathered, kind, device) for kind in (counts, held_out))

    def objective(part: _Table, batch: Tensor, coefficient: float) -> Tensor:
        rows = part.rows[batch]
        found = _by_agent(parameters, inputs[rows], part.stages[batch], n_stages, n_actions)
        value = -(part.played[batch] * torch.cat(found, dim=-1)).sum()
        if coefficient > 0:
            entropy = -sum((own.exp() * own).sum(dim=-1) for own in found)
            value = value - coefficient * (part.weight[batch] * entropy).sum()
        return value / len(batch)

    @torch.no_grad()
    def held_loss() -> float:
        batches = pieces(torch.arange(len(apart.rows), device=device), PIECE)
        total = sum(float(objective(apart, batch, 0.0)) * len(batch) for batch in batches)
        return total / len(apart.rows)

    done = train(
        parameters,
        lambda batch: objective(training, batch, entropy_coefficient),
        held_loss,
        len(training.rows),
        settings=settings,
        generator=generator,
        saver=saver,
        log=log,
        recorded=True,
    )
    return EstimatedPolicies(done.parameters, n_stages, n_actions, done.history)


@dataclass(frozen=True, eq=False)
class _Table:
    """Per item: observation, stage, weight (mean 1), and the actions of all agents."""

    rows: Tensor
    stages: Tensor
    weight: Tensor
    played: Tensor


def _table(gathered: Gathered, counts: Sequence[FloatArray], device: torch.device) -> _Table:
    rows, stages, played = [], [], []
    for stage, own in enumerate(counts):
        seen = [
            gathered.action_counts(stage, own, agent) for agent in range(len(gathered.n_actions))
        ]
        rows.append(seen[0][0])
        stages.append(np.full(len(seen[0][0]), stage))
        played.append(np.concatenate([table for _, table in seen], axis=1))
    table = np.concatenate(played)
    visits = table[:, : gathered.n_actions[0]].sum(axis=1)
    arrays = (
        np.concatenate(rows),
        np.concatenate(stages),
        (visits / visits.mean()).astype(np.float32),
        (table / visits.mean()).astype(np.float32),
    )
    return _Table(*(torch.from_numpy(array).to(device) for array in arrays))
