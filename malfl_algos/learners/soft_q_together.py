"""All agents' networks trained at once, in few large calls; for devices with slow single calls.

The result is that of `fit_soft_q` and `project_policy` for one agent after the other, with the same
mini-batches, up to rounding. The networks of agents of equal sizes are stacked. What does not
change within a training is computed once for all steps of the stage. On a GPU one update is
recorded as a CUDA graph and replayed, so that it costs one launch.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import log_softmax, one_hot

from malfl_algos.learners.soft_q import (
    CHECK_EVERY,
    Agent,
    AgentSteps,
    Descent,
    check_finite,
    rate_of,
    value_offset,
)
from malfl_algos.networks import mlp
from malfl_algos.networks.logging import Log
from malfl_algos.networks.recording import Recorded

__all__ = ["Task", "drawn_batches", "improve_together"]

_ROWS = 1 << 20  # rows per network call over all steps of a stage, at most


@dataclass(frozen=True, eq=False)
class Task:
    """One agent's part of the training in a stage.

    Args:
        agent: its networks are changed.
        steps: of the stage, played under its present policy.
        q_batches, policy_batches: `(n_updates, batch_size)`, see `drawn_batches`.
        log: receives the losses.
    """

    agent: Agent
    steps: AgentSteps
    q_batches: Tensor
    policy_batches: Tensor
    log: Log | None = None


def drawn_batches(n_rows: int, descent: Descent, generator: torch.Generator) -> Tensor:
    """Return the numbers of the steps of every mini-batch, `(n_updates, batch_size)`.

    They are those that `minimise` would draw.
    """
    shape = (descent.n_updates, descent.batch_size)
    return torch.randint(n_rows, shape, generator=generator, device="cpu")


def improve_together(
    tasks: Sequence[Task],
    q_descent: Descent,
    policy_descent: Descent,
    *,
    target_rate: float,
    discount: float,
    temperature: float,
) -> None:
    """Regress all agents' q on (5) and project all policies on (6); see `fit_soft_q`.

    Args:
        tasks: of all agents, with the same number of steps.
        q_descent, policy_descent: settings of both trainings.
        target_rate, discount, temperature: as in `fit_soft_q`.

    Raises:
        RuntimeError: if a loss is not finite.
    """
    for sizes in dict.fromkeys(task.agent.sizes for task in tasks):
        group = [task for task in tasks if task.agent.sizes == sizes]
        seen = [_features(task.agent, task.steps.observations) for task in group]
        q = _stacked([task.agent.q for task in group])
        rates = {"discount": discount, "temperature": temperature}
        _fit(group, seen, q, q_descent, target_rate=target_rate, **rates)
        policy = _stacked([task.agent.policy for task in group])
        _project(group, seen, q, policy, policy_descent)
        for place, task in enumerate(group):
            task.agent.q, task.agent.policy = (_taken(own, place) for own in (q, policy))


def _fit(
    group: Sequence[Task],
    seen: Sequence[Tensor],
    q: list[Tensor],
    descent: Descent,
    *,
    target_rate: float,
    discount: float,
    temperature: float,
) -> None:
    table = torch.cat(
        [
            torch.cat([own, _targets(task, discount=discount, temperature=temperature)], dim=1)
            for own, task in zip(seen, group, strict=True)
        ]
    )
    width, n_actions = group[0].agent.sizes[0], group[0].agent.sizes[-1]
    ends = [width, width, n_actions, n_actions, 1]
    target = [tensor.detach().clone() for tensor in q]

    def loss(batch: Tensor) -> Tensor:
        here, after, weights, played, constant = table[batch].split(ends, dim=-1)
        with torch.no_grad():
            goal = constant[..., 0] + (weights * mlp.apply(target, after)).sum(dim=-1)
        chosen = (played * mlp.apply(q, here)).sum(dim=-1)
        return (chosen - goal).square().mean(dim=-1)

    def after() -> None:
        torch._foreach_lerp_(target, q, target_rate)

    batches = _batches([task.q_batches for task in group], len(seen[0]), table.device)
    logs = [_named(task.log, "soft_bellman_loss") for task in group]
    _descend(loss, q, batches, descent, logs, after=after)


def _project(
    group: Sequence[Task],
    seen: Sequence[Tensor],
    q: list[Tensor],
    policy: list[Tensor],
    descent: Descent,
) -> None:
    wanted = [_log_softmax(_taken(q, place), own) for place, own in enumerate(seen)]
    table = torch.cat([torch.cat(both, dim=1) for both in zip(seen, wanted, strict=True)])
    ends = [seen[0].shape[1], wanted[0].shape[1]]

    def loss(batch: Tensor) -> Tensor:
        features, goal = table[batch].split(ends, dim=-1)
        log_policy = log_softmax(mlp.apply(policy, features), dim=-1)
        return (log_policy.exp() * (log_policy - goal)).sum(dim=-1).mean(dim=-1)

    batches = _batches([task.policy_batches for task in group], len(seen[0]), table.device)
    logs = [_named(task.log, "projection_divergence") for task in group]
    _descend(loss, policy, batches, descent, logs)


def _targets(task: Task, *, discount: float, temperature: float) -> Tensor:
    """Return per step what the target of (5) consists of.

    The columns are the features of the next observation, gamma times the policy there, the own
    action (one-hot), and reward plus entropy bonus in units of the temperature.
    """
    agent, steps = task.agent, task.steps
    if agent.offset is None:
        agent.offset = value_offset(
            steps, agent.sizes[-1], discount=discount, temperature=temperature
        )
    factor = np.full(len(steps.actions), discount)
    if steps.terminations is not None:
        factor[steps.terminations] = 0.0
    constant = agent.tensor((steps.rewards + (factor - 1.0) * agent.offset) / temperature)
    weights = agent.tensor(factor)
    after = _features(agent, steps.next_observations)
    log_policy = _log_softmax(agent.policy, after)
    policy = log_policy.exp()
    constant = constant - weights * (policy * log_policy).sum(dim=-1)
    actions = torch.from_numpy(steps.actions.astype(np.int64)).to(agent.device)
    played = one_hot(actions, agent.sizes[-1]).to(after)
    return torch.cat([after, weights[:, None] * policy, played, constant[:, None]], dim=1)


def _descend(
    loss: Callable[[Tensor], Tensor],
    parameters: list[Tensor],
    batches: Tensor,
    descent: Descent,
    logs: Sequence[Callable[[int, float], None] | None],
    *,
    after: Callable[[], None] = lambda: None,
) -> None:
    """Minimise the sum of the agents' losses by Adam on given mini-batches, `(n, m, batch)`."""
    device = batches.device
    update = torch.zeros(1, dtype=torch.int64, device=device)
    schedule = [rate_of(descent, number) for number in range(descent.n_updates)]
    rates = torch.tensor(schedule, dtype=torch.float32, device=device)
    losses = torch.zeros((descent.n_updates, batches.shape[1]), dtype=torch.float32, device=device)
    optimiser = mlp.adam(parameters, descent.learning_rate)

    def step() -> None:
        mlp.set_rate(optimiser, rates.index_select(0, update)[0])
        value = loss(batches.index_select(0, update)[0])
        gradients = torch.autograd.grad(value.sum(), parameters)
        for parameter, gradient in zip(parameters, gradients, strict=True):
            parameter.grad = gradient
        optimiser.step()
        after()
        losses.index_copy_(0, update, value.detach()[None])
        update.add_(1)

    repeated = Recorded(step, device)
    for _ in range(descent.n_updates):
        repeated()
    found = losses.cpu().numpy()
    for number in sorted({*range(0, len(found), CHECK_EVERY), len(found) - 1}):
        for own, value in zip(logs, found[number].tolist(), strict=True):
            check_finite(value)
            if own is not None:
                own(number, value)


def _stacked(networks: Sequence[Sequence[Tensor]]) -> list[Tensor]:
    """Return networks of equal sizes as one, with a first axis of networks."""
    found = []
    for tensors in zip(*networks, strict=True):
        whole = torch.stack([tensor.detach() for tensor in tensors])
        whole = whole[:, None] if whole.dim() == 2 else whole  # biases are added to every row
        found.append(whole.clone().requires_grad_(True))
    return found


def _taken(stack: Sequence[Tensor], place: int) -> list[Tensor]:
    """Return one network of a stack."""
    return [
        (tensor[place, 0] if layer % 2 else tensor[place]).detach().clone().requires_grad_(True)
        for layer, tensor in enumerate(stack)
    ]


def _features(agent: Agent, observations: Any) -> Tensor:
    return torch.cat(
        [
            agent.features(observations[first : first + _ROWS])
            for first in range(0, len(observations), _ROWS)
        ]
    )


@torch.no_grad()
def _log_softmax(network: Sequence[Tensor], features: Tensor) -> Tensor:
    parts = [log_softmax(mlp.apply(network, part), dim=-1) for part in features.split(_ROWS)]
    return torch.cat(parts)


def _batches(batches: Sequence[Tensor], n_rows: int, device: torch.device) -> Tensor:
    """Return the rows of all agents' mini-batches in the agents' joint table."""
    moved = [own + place * n_rows for place, own in enumerate(batches)]
    return torch.stack(moved, dim=1).to(device)


def _named(log: Log | None, name: str) -> Callable[[int, float], None] | None:
    return None if log is None else partial(log, name)
