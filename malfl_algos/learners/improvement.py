"""The networks of all agents, improved together stage by stage."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from functools import partial
from types import TracebackType
from typing import Any

import numpy as np

from malfl_algos.learners.network_settings import NetworkSettings
from malfl_algos.learners.soft_q import (
    AgentSteps,
    fit_soft_q,
    mean_entropy,
    new_agent,
    project_policy,
    renewed,
)
from malfl_algos.networks.encoding import Encoder
from malfl_algos.networks.logging import Log, tensorboard_log
from malfl_algos.networks.mlp import generator_from

__all__ = ["Improvement"]


class Improvement:
    """Every agent's networks, and what they learn by.

    A context manager: its log is closed at the end.

    Args:
        names: of the agents.
        spaces: what each observes.
        n_actions: of each.
        settings: of networks and training.
        discount: gamma in [0, 1).
        temperature: alpha > 0.
        rng: one seed is drawn from it, here and now.
    """

    def __init__(
        self,
        names: Sequence[str],
        spaces: Sequence[Any],
        n_actions: Sequence[int],
        *,
        settings: NetworkSettings,
        discount: float,
        temperature: float,
        rng: np.random.Generator,
    ) -> None:
        self._names = tuple(names)
        self._settings = settings
        self._rates = {"discount": discount, "temperature": temperature}
        self._generator = generator_from(rng)
        self.agents = [
            new_agent(Encoder(space), n_own, settings, self._generator)
            for space, n_own in zip(spaces, n_actions, strict=True)
        ]
        self._stage = 0
        self._log: Log | None = None
        self._closing = ExitStack()

    def __enter__(self) -> Improvement:
        run = f"seed_{self._generator.initial_seed():016x}"  # several may share the folder
        self._log = self._closing.enter_context(tensorboard_log(self._settings.log_dir, run=run))
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        fault: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._closing.close()

    def improve(self, all_steps: Iterable[AgentSteps]) -> None:
        """Evaluate and improve every agent's policy on the steps of a stage, each agent's in turn.

        All agents learn from steps that were played before any of them improved.
        """
        for index, steps in enumerate(all_steps):
            agent = self.agents[index]
            if self._stage == 0:  # the first policy is uniform, whatever the encoder says
                agent.encoder = agent.encoder.standardised(steps.observations)
            elif not self._settings.warm_start:
                agent.q = renewed(agent, self._settings, self._generator)
            note = None if self._log is None else partial(self._note, self._log, index)
            if note is not None:
                note("return", 0, float(steps.rewards.sum() / max(1, steps.episode_ends.sum())))
                note("entropy", 0, mean_entropy(agent, steps.observations))
            fit_soft_q(
                agent, steps, self._settings, **self._rates, generator=self._generator, log=note
            )
            project_policy(
                agent, steps.observations, self._settings, generator=self._generator, log=note
            )
        self._stage += 1

    def _note(self, log: Log, index: int, name: str, update: int, value: float) -> None:
        """Losses at every so many updates of all stages, others once a stage."""
        per_stage = {
            "soft_bellman_loss": self._settings.q_updates,
            "projection_divergence": self._settings.policy_updates,
        }.get(name, 1)
        log(f"{self._names[index]}/{name}", self._stage * per_stage + update, value)
