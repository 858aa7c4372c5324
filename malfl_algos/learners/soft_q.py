"""One agent's soft policy iteration with networks: regression of (5), projection of (6).

Networks work in units of the temperature: the output of a soft-Q network is (q - offset) / alpha,
and its softmax is the improved policy.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from math import cos, isfinite, pi
from math import log as log_of
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import log_softmax

from malfl_algos.networks import mlp
from malfl_algos.networks.encoding import Encoder
from malfl_algos.networks.logging import Log

__all__ = [
    "CHECK_EVERY",
    "Agent",
    "AgentSteps",
    "Descent",
    "check_finite",
    "fit_soft_q",
    "follow",
    "log_probabilities",
    "mean_entropy",
    "minimise",
    "new_agent",
    "new_network",
    "probabilities",
    "project_policy",
    "rate_of",
    "value_offset",
]

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
CHECK_EVERY = 100
"""Updates between two checks of the loss."""
_ROWS = 1 << 16  # observations per network call, at most


@dataclass(frozen=True)
class Descent:
    """Settings of the training of a network on the steps of a stage.

    Args:
        n_updates: number of gradient steps.
        learning_rate: initial rate of Adam; it falls to 0 along a cosine.
        batch_size: steps of the stage per gradient step, drawn with replacement.
    """

    n_updates: int
    learning_rate: float
    batch_size: int


@dataclass(frozen=True, eq=False)
class AgentSteps:
    """The data from which one agent learns in a stage.

    Args:
        observations, next_observations: `(n_steps, ...)`.
        actions: the agent's own actions, int `(n_steps,)`.
        rewards: the agent's own rewards, `(n_steps,)`.
        episode_ends: bool `(n_steps,)`: the episode is cut or ends after this step.
        terminations: bool `(n_steps,)`: no value follows this step; None: no terminations.
    """

    observations: NDArray[Any]
    actions: NDArray[Any]
    rewards: FloatArray
    next_observations: NDArray[Any]
    episode_ends: NDArray[np.bool_]
    terminations: NDArray[np.bool_] | None = None


@dataclass(eq=False)
class Agent:
    """One agent's networks.

    Args:
        encoder: of its observations.
        sizes: widths of both networks, from features to actions.
        policy: network of logits.
        q: network of (q - offset) / alpha.
        offset: of q; None before the first fit.
    """

    encoder: Encoder
    sizes: tuple[int, ...]
    policy: list[Tensor]
    q: list[Tensor]
    offset: float | None = None

    @property
    def device(self) -> torch.device:
        """Device of the networks."""
        return self.policy[0].device

    def features(self, observations: NDArray[Any]) -> Tensor:
        """Return the inputs of the networks for observations `(n, ...)`."""
        return torch.from_numpy(self.encoder.encode(observations)).to(self.device)

    def tensor(self, values: FloatArray) -> Tensor:
        """Return numbers in the type and on the device of the networks."""
        return torch.from_numpy(values.astype(np.float32)).to(self.device)


def new_agent(
    encoder: Encoder,
    n_actions: int,
    *,
    hidden: Sequence[int],
    generator: torch.Generator,
    device: torch.device | str = "cpu",
) -> Agent:
    """Return an agent with new networks; its policy is uniform and its q is 0, exactly."""
    sizes = (encoder.width, *hidden, n_actions)
    q, policy = (new_network(sizes, generator, device) for _ in range(2))
    return Agent(encoder, sizes, policy, q)


def new_network(
    sizes: Sequence[int], generator: torch.Generator, device: torch.device | str
) -> list[Tensor]:
    """Return a network whose initial output is 0."""
    return mlp.init(generator, sizes, last_scale=0.0, device=device)


def mean_entropy(agent: Agent, observations: NDArray[Any]) -> float:
    """Return the mean entropy of the policy in nats, over at most 10,000 of the observations."""
    log_policy = log_probabilities(agent, observations[:: 1 + len(observations) // 10_000])
    return float(-(np.exp(log_policy) * log_policy).sum(axis=1).mean())


def log_probabilities(agent: Agent, observations: NDArray[Any]) -> FloatArray:
    """Return the agent's log-policy `(n, n_actions)` at observations `(n, ...)`."""
    blocks = []
    with torch.no_grad():
        for first in range(0, len(observations), _ROWS):
            logits = mlp.apply(agent.policy, agent.features(observations[first : first + _ROWS]))
            blocks.append(log_softmax(logits.double(), dim=-1).cpu().numpy())
    return np.concatenate(blocks)


def probabilities(agent: Agent, observations: NDArray[Any]) -> FloatArray:
    """Return the agent's policy `(n, n_actions)` at observations `(n, ...)`; rows sum to 1."""
    return np.asarray(np.exp(log_probabilities(agent, observations)))


def fit_soft_q(
    agent: Agent,
    steps: AgentSteps,
    descent: Descent,
    *,
    target_rate: float,
    discount: float,
    temperature: float,
    generator: torch.Generator,
    log: Log | None = None,
) -> None:
    """Regress the agent's q on (5) along the steps of a stage.

    The target is r + gamma E_b[q'(s', b) - alpha log pi(b | s')]. Here q' is the target network;
    the expectation is over the agent's next action. The others' actions and the next state are the
    sampled ones.

    Args:
        agent: its soft-Q network is changed.
        steps: of the stage, played under its present policy.
        descent: settings of the training.
        target_rate: fraction by which the target network moves in each gradient step.
        discount: gamma in [0, 1).
        temperature: alpha > 0.
        generator: draws the mini-batches.
        log: receives the loss, in units of alpha squared.

    Raises:
        RuntimeError: if the loss is not finite.
    """
    if agent.offset is None:
        agent.offset = value_offset(
            steps, agent.sizes[-1], discount=discount, temperature=temperature
        )
    offset = agent.offset
    target = [tensor.detach().clone() for tensor in agent.q]

    def loss(rows: IntArray) -> Tensor:
        with torch.no_grad():
            following = agent.features(steps.next_observations[rows])
            log_policy = log_softmax(mlp.apply(agent.policy, following), dim=-1)
            value = (log_policy.exp() * (mlp.apply(target, following) - log_policy)).sum(dim=-1)
            factor = np.full(len(rows), discount)
            if steps.terminations is not None:
                factor[steps.terminations[rows]] = 0.0
            constant = (steps.rewards[rows] + (factor - 1.0) * offset) / temperature
            goal = agent.tensor(constant) + agent.tensor(factor) * value
        q = mlp.apply(agent.q, agent.features(steps.observations[rows]))
        chosen = torch.from_numpy(steps.actions[rows].astype(np.int64)).to(agent.device)
        return (q.gather(1, chosen[:, None])[:, 0] - goal).square().mean()

    minimise(
        loss,
        agent.q,
        n_rows=len(steps.actions),
        descent=descent,
        generator=generator,
        after=partial(follow, target, agent.q, target_rate),
        log=None if log is None else partial(log, "soft_bellman_loss"),
    )


def project_policy(
    agent: Agent,
    observations: NDArray[Any],
    descent: Descent,
    *,
    generator: torch.Generator,
    log: Log | None = None,
) -> None:
    """Move the agent's policy to the improved policy (6): min E[KL(pi || exp(q / alpha) / Z)].

    Args:
        agent: its policy network is changed.
        observations: of the stage, `(n_steps, ...)`.
        descent: settings of the training.
        generator: draws the mini-batches.
        log: receives the divergence, in nats.

    Raises:
        RuntimeError: if the divergence is not finite.
    """

    def loss(rows: IntArray) -> Tensor:
        features = agent.features(observations[rows])
        with torch.no_grad():
            wanted = log_softmax(mlp.apply(agent.q, features), dim=-1)
        log_policy = log_softmax(mlp.apply(agent.policy, features), dim=-1)
        return (log_policy.exp() * (log_policy - wanted)).sum(dim=-1).mean()

    minimise(
        loss,
        agent.policy,
        n_rows=len(observations),
        descent=descent,
        generator=generator,
        log=None if log is None else partial(log, "projection_divergence"),
    )


def minimise(
    loss: Callable[[IntArray], Tensor],
    parameters: list[Tensor],
    *,
    n_rows: int,
    descent: Descent,
    generator: torch.Generator,
    after: Callable[[], None] = lambda: None,
    log: Callable[[int, float], None] | None = None,
) -> None:
    """Minimise a loss by Adam on mini-batches.

    Args:
        loss: loss of some rows, given their numbers.
        parameters: changed in place.
        n_rows: number of rows.
        descent: settings of the training.
        generator: draws the mini-batches, on the CPU.
        after: called after every update.
        log: receives update and loss, every 100 updates and at the last.

    Raises:
        RuntimeError: if the loss is not finite.
    """
    optimiser = mlp.adam(parameters, descent.learning_rate)
    for update in range(descent.n_updates):
        mlp.set_rate(optimiser, rate_of(descent, update))
        rows = torch.randint(n_rows, (descent.batch_size,), generator=generator, device="cpu")
        value = loss(rows.numpy())
        optimiser.zero_grad(set_to_none=True)
        torch.autograd.backward(value)
        optimiser.step()
        after()
        if update % CHECK_EVERY == 0 or update == descent.n_updates - 1:
            number = float(value.detach())
            check_finite(number)
            if log is not None:
                log(update, number)


def rate_of(descent: Descent, update: int) -> float:
    """Return the learning rate of an update; it falls to 0 along a cosine."""
    return descent.learning_rate * 0.5 * (1.0 + cos(pi * update / descent.n_updates))


def check_finite(loss: float) -> None:
    """Raise a RuntimeError for a loss that is not finite."""
    if not isfinite(loss):
        raise RuntimeError(
            f"the loss became {loss}: lower the learning rate, raise the batch size, or "
            "look for rewards or observations of extreme size and scale them down"
        )


@torch.no_grad()
def follow(target: list[Tensor], network: list[Tensor], rate: float) -> None:
    """Move a target network by the fraction `rate` towards the trained network."""
    for own, leader in zip(target, network, strict=True):
        own.lerp_(leader, rate)


def value_offset(
    steps: AgentSteps, n_actions: int, *, discount: float, temperature: float
) -> float:
    """Return the approximate mean of q under the uniform policy."""
    gone_on = 1.0 if steps.terminations is None else 1.0 - float(np.mean(steps.terminations))
    factor = discount * gone_on
    gain = float(np.mean(steps.rewards)) + factor * temperature * log_of(n_actions)
    return gain / (1.0 - factor)
