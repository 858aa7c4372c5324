"""MA-SPI: agents that improve by soft policy iteration, all at once (the paper's Algorithm 1)."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pettingzoo import ParallelEnv

from malfl_algos.contract import API_VERSION, LearnedStage, PlayedStage
from malfl_algos.learners.network_settings import NetworkSettings
from malfl_algos.play.tabular import observed_stage, sample_stage
from malfl_algos.plugins.options import coerce_options, naming
from malfl_algos.soft.evaluation import log_soft_improvement, soft_evaluation
from malfl_env import markov_game
from malfl_env.checks import check_table_bytes
from malfl_env.errors import InputError
from malfl_env.markov_game import MarkovGame

__all__ = ["MaSpi"]

FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class MaSpi:
    """Soft policy iteration by every agent at once, from the uniform policy.

    Each stage the agents play `episodes` episodes under their current policies, evaluate the joint
    policy by (5), each with the others averaged out, and improve by (6).

    Args:
        discount: gamma in [0, 1).
        temperature: alpha > 0, shared by all agents.
        evaluation: `td`, the paper's protocol: sampled updates of q, 0 at the start of every stage,
            along the stage's episodes; `exact`: a linear solve (the episodes are played all the
            same, for the observer); or `network`: networks trained on the stage's steps, as by
            the learner `ma-spi-network`, which also plays games without a table.
        episodes: episodes a stage.
        episode_length: steps an episode; there is no other end.
        step_size: beta in (0, 1] of the td update.
        keep_transitions: whether the trace keeps the steps in their order.
        network: settings of the networks, the fields of
            `malfl_algos.learners.network_settings.NetworkSettings`.

    Raises:
        InputError: for an option out of its range; the message names it.
    """

    discount: float
    temperature: float
    evaluation: Literal["td", "exact", "network"] = "td"
    episodes: int = 3000
    episode_length: int = 1000
    step_size: float = 0.1
    keep_transitions: bool = False
    network: Mapping[str, Any] | None = None

    api_version: ClassVar[tuple[int, int]] = API_VERSION

    def __post_init__(self) -> None:
        if not 0 <= self.discount < 1:
            raise InputError(f"discount must be in [0, 1), got {self.discount}")
        if not 0 < self.temperature < np.inf:
            raise InputError(f"temperature must be > 0 and finite, got {self.temperature}")
        if self.evaluation not in ("td", "exact", "network"):
            raise InputError(
                f"evaluation must be 'td', 'exact' or 'network', got {self.evaluation!r}"
            )
        self._network_settings()
        for name in ("episodes", "episode_length"):
            if getattr(self, name) < 1:
                raise InputError(f"{name} must be >= 1, got {getattr(self, name)}")
        if not 0 < self.step_size <= 1:
            raise InputError(f"step_size must be in (0, 1], got {self.step_size}")

    def learn(
        self, env: ParallelEnv[str, Any, Any], *, n_stages: int, rng: np.random.Generator
    ) -> Iterator[LearnedStage]:
        """Yield stages; see `malfl_algos.contract.Learner`.

        Args:
            env: a grid world, or any environment that `malfl_env.markov_game` knows.
            n_stages: how many stages, >= 1.
            rng: one 64-bit seed is drawn from it per stage.

        Raises:
            InputError: at once, for an environment without a tabular model: continuous actions,
                joint states that cannot be listed, agents that end apart; or with more joint
                states and actions than can be counted.
        """
        if self.evaluation == "network":
            learned: Iterator[LearnedStage] = self._networks().learn(
                env, n_stages=n_stages, rng=rng
            )
            return learned
        game = markov_game(env)
        check_table_bytes(
            8 * game.n_states * math.prod(game.n_actions),
            f"the visits of {game.n_states} joint states and their joint actions",
        )
        return self._stages(game, n_stages, rng)

    def play(
        self, env: ParallelEnv[str, Any, Any], *, n_stages: int, rng: np.random.Generator
    ) -> Iterator[PlayedStage]:
        """Yield stages of a game without a table, with `evaluation` "network" only.

        See `malfl_algos.learners.ma_spi_network.MaSpiNetwork.play`.
        """
        if self.evaluation != "network":
            raise InputError(
                f"evaluation {self.evaluation!r} needs a table of the game; set it to 'network'"
            )
        played: Iterator[PlayedStage] = self._networks().play(env, n_stages=n_stages, rng=rng)
        return played

    def _network_settings(self) -> dict[str, Any]:
        """The settings given, each checked.

        Raises:
            InputError: naming the one at fault.
        """
        if self.network is None:
            return {}
        if self.evaluation != "network":
            raise InputError(
                f"network is for evaluation 'network', the evaluation is {self.evaluation!r}"
            )
        if not isinstance(self.network, Mapping):
            raise InputError(f"network must be a mapping of settings, got {self.network!r}")
        given = coerce_options(NetworkSettings, self.network, where="network")
        with naming("network"):
            NetworkSettings(**given)
        return given

    def _networks(self) -> Any:
        try:
            from malfl_algos.learners.ma_spi_network import MaSpiNetwork
        except ModuleNotFoundError as fault:
            raise ModuleNotFoundError(
                f"evaluation 'network' needs the module {fault.name!r}: "
                'pip install "malfl-env[torch]"'
            ) from fault
        return MaSpiNetwork(
            discount=self.discount,
            temperature=self.temperature,
            episodes=self.episodes,
            episode_length=self.episode_length,
            keep_transitions=self.keep_transitions,
            **self._network_settings(),
        )

    def _stages(
        self, game: MarkovGame, n_stages: int, rng: np.random.Generator
    ) -> Iterator[LearnedStage]:
        log_policies = [np.full((game.n_states, n), -np.log(n)) for n in game.n_actions]
        for _ in range(n_stages):
            joint_policy = [np.exp(log_policy) for log_policy in log_policies]
            sample = sample_stage(
                game,
                log_policies,
                seed=int(rng.integers(2**64, dtype=np.uint64)),
                episodes=self.episodes,
                episode_length=self.episode_length,
                discount=self.discount,
                temperature=self.temperature,
                step_size=self.step_size if self.evaluation == "td" else 0.0,
                keep_steps=self.keep_transitions or not game.deterministic,
            )
            yield LearnedStage(
                observed_stage(game, sample, keep_transitions=self.keep_transitions, complete=True),
                {
                    agent: policy.copy()
                    for agent, policy in zip(game.agents, joint_policy, strict=True)
                },
            )
            q = sample.q if self.evaluation == "td" else self._exact_q(game, joint_policy)
            log_policies = [log_soft_improvement(own, temperature=self.temperature) for own in q]

    def _exact_q(self, game: MarkovGame, joint_policy: Sequence[FloatArray]) -> list[FloatArray]:
        return [
            soft_evaluation(
                game, joint_policy, index, discount=self.discount, temperature=self.temperature
            )[0]
            for index in range(game.n_agents)
        ]
