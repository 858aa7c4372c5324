"""One agent's soft policy iteration with networks: regression of (5), projection of (6).

Networks speak in units of the temperature: a soft-Q network gives (q - offset) / alpha, so that the
softmax of its output is the improved policy.
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
    "Agent",
    "AgentSteps",
    "Descent",
    "fit_soft_q",
    "follow",
    "log_probabilities",
    "mean_entropy",
    "minimise",
    "new_agent",
    "new_network",
    "probabilities",
    "project_policy",
]

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
_CHECK_EVERY = 100
_ROWS = 1 << 16  # observations of one network call, where there are many


@dataclass(frozen=True)
class Descent:
    """How a network is trained on the steps of a stage.

    Args:
        n_updates: gradient steps.
        learning_rate: of Adam at the first gradient step; it falls to 0 along a cosine.
        batch_size: steps of the stage that a gradient step sees, drawn with replacement.
    """

    n_updates: int
    learning_rate: float
    batch_size: int


@dataclass(frozen=True, eq=False)
class AgentSteps:
    """What one agent learns from in a stage.

    Args:
        observations, next_observations: `(n_steps, ...)`.
        actions: its own, int `(n_steps,)`.
        rewards: its own, `(n_steps,)`.
        episode_ends: bool `(n_steps,)`: cut or ended after this step.
        terminations: bool `(n_steps,)`: no value after this step; None: nowhere.
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
        policy: gives logits.
        q: gives (q - offset) / alpha.
        offset: of q; set when it is first fitted.
    """

    encoder: Encoder
    sizes: tuple[int, ...]
    policy: list[Tensor]
    q: list[Tensor]
    offset: float | None = None

    @property
    def device(self) -> torch.device:
        """Where the networks are."""
        return self.policy[0].device

    def features(self, observations: NDArray[Any]) -> Tensor:
        """What the networks take for observations `(n, ...)`."""
        return torch.from_numpy(self.encoder.encode(observations)).to(self.device)

    def tensor(self, values: FloatArray) -> Tensor:
        """Numbers as the networks give them."""
        return torch.from_numpy(values.astype(np.float32)).to(self.device)


def new_agent(
    encoder: Encoder,
    n_actions: int,
    *,
    hidden: Sequence[int],
    generator: torch.Generator,
    device: torch.device | str = "cpu",
) -> Agent:
    """Fresh networks with these hidden layers; the policy is uniform and q is 0, exactly."""
    sizes = (encoder.width, *hidden, n_actions)
    q, policy = (new_network(sizes, generator, device) for _ in range(2))
    return Agent(encoder, sizes, policy, q)


def new_network(
    sizes: Sequence[int], generator: torch.Generator, device: torch.device | str
) -> list[Tensor]:
    """A network whose output is 0 at first."""
    return mlp.init(generator, sizes, last_scale=0.0, device=device)


def mean_entropy(agent: Agent, observations: NDArray[Any]) -> float:
    """Mean entropy of the agent's policy in nats, over at most 10 000 of the observations."""
    log_policy = log_probabilities(agent, observations[:: 1 + len(observations) // 10_000])
    return float(-(np.exp(log_policy) * log_policy).sum(axis=1).mean())


def log_probabilities(agent: Agent, observations: NDArray[Any]) -> FloatArray:
    """Log of the agent's policy at observations `(n, ...)`: `(n, n_actions)`."""
    blocks = []
    with torch.no_grad():
        for first in range(0, len(observations), _ROWS):
            logits = mlp.apply(agent.policy, agent.features(observations[first : first + _ROWS]))
            blocks.append(log_softmax(logits.double(), dim=-1).cpu().numpy())
    return np.concatenate(blocks)


def probabilities(agent: Agent, observations: NDArray[Any]) -> FloatArray:
    """The agent's policy at observations `(n, ...)`: `(n, n_actions)`, rows sum to 1."""
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

    The target is r + gamma E_b[q'(s', b) - alpha log pi(b | s')] with q' of the target network and
    the expectation over the agent's next action; the others' actions and the next state are those
    that were seen.

    Args:
        agent: its soft-Q network is changed.
        steps: of the stage, played under its present policy.
        descent: how it is trained.
        target_rate: part of the way that the target network follows in each gradient step.
        discount: gamma in [0, 1).
        temperature: alpha > 0.
        generator: draws the mini-batches.
        log: receives the loss, in units of alpha squared.

    Raises:
        RuntimeError: where the loss is not finite any more.
    """
    if agent.offset is None:
        agent.offset = _level(steps, agent.sizes[-1], discount=discount, temperature=temperature)
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
    """Move the agent's policy to the improved one (6): min E[KL(pi || exp(q / alpha) / Z)].

    Args:
        agent: its policy network is changed.
        observations: of the stage, `(n_steps, ...)`.
        descent: how it is trained.
        generator: draws the mini-batches.
        log: receives the divergence, in nats.

    Raises:
        RuntimeError: where it is not finite any more.
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
        loss: of some of the rows, given their numbers.
        parameters: changed in place.
        n_rows: how many rows there are.
        descent: how many updates, how fast.
        generator: draws the mini-batches, on the CPU.
        after: called after every update.
        log: receives update and loss, every 100 updates and at the last.

    Raises:
        RuntimeError: where the loss is not finite.
    """
    optimiser = mlp.adam(parameters, descent.learning_rate)
    for update in range(descent.n_updates):
        for group in optimiser.param_groups:
            group["lr"] = descent.learning_rate * 0.5 * (1.0 + cos(pi * update / descent.n_updates))
        rows = torch.randint(n_rows, (descent.batch_size,), generator=generator, device="cpu")
        value = loss(rows.numpy())
        optimiser.zero_grad(set_to_none=True)
        torch.autograd.backward(value)
        optimiser.step()
        after()
        if update % _CHECK_EVERY == 0 or update == descent.n_updates - 1:
            number = float(value.detach())
            if not isfinite(number):
                raise RuntimeError(
                    f"the loss became {number}: lower the learning rate, raise the batch size, or "
                    "look for rewards or observations of extreme size and scale them down"
                )
            if log is not None:
                log(update, number)


@torch.no_grad()
def follow(target: list[Tensor], network: list[Tensor], rate: float) -> None:
    """Move a target network a part of the way to the network that is trained."""
    for own, leader in zip(target, network, strict=True):
        own.lerp_(leader, rate)


def _level(steps: AgentSteps, n_actions: int, *, discount: float, temperature: float) -> float:
    """About the mean of q under the uniform policy."""
    gone_on = 1.0 if steps.terminations is None else 1.0 - float(np.mean(steps.terminations))
    factor = discount * gone_on
    gain = float(np.mean(steps.rewards)) + factor * temperature * log_of(n_actions)
    return gain / (1.0 - factor)
