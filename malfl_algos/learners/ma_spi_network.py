"""MA-SPI with networks: soft policy iteration by all agents, also in non-enumerable games."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

import numpy as np
import torch
from gymnasium.spaces import MultiDiscrete
from numpy.typing import NDArray
from pettingzoo import ParallelEnv

from malfl_algos.contract import API_VERSION, LearnedStage, StageTruth
from malfl_algos.learners.soft_q import (
    Agent,
    AgentSteps,
    Descent,
    fit_soft_q,
    log_probabilities,
    mean_entropy,
    new_agent,
    new_network,
    probabilities,
    project_policy,
)
from malfl_algos.learners.soft_q_together import Task, drawn_batches, improve_together
from malfl_algos.networks.encoding import Encoder
from malfl_algos.networks.logging import Log, tensorboard_log
from malfl_algos.networks.mlp import generator_from, torch_device
from malfl_algos.play import (
    Games,
    StageSample,
    games_of,
    joined,
    observed_stage,
    play_stage,
    sample_stage,
    tabular_game,
)
from malfl_env.arguments import Count, typed
from malfl_env.checks import check_count, check_table_bytes
from malfl_env.errors import InputError
from malfl_env.markov_game import MarkovGame
from malfl_env.spaces import narrowed

__all__ = ["MaSpiNetwork"]

FloatArray = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class MaSpiNetwork:
    """Soft policy iteration by all agents at once, each with a policy and a soft-Q network.

    In each stage the agents play `episodes` episodes under their current policies; the first policy
    is uniform. Then each agent regresses the q of its own action on (5) along the steps of that
    stage, and moves its policy to the improved policy (6).

    Args:
        discount: discount factor gamma in [0, 1).
        temperature: weight alpha > 0 of the entropy, the same for all agents.
        episodes: episodes per stage.
        episode_length: steps after which an episode is cut, unless the game ends it earlier.
        keep_transitions: whether a tabular trace keeps the ordered steps.
        hidden: widths of the hidden layers of policy and soft-Q networks.
        q_updates: gradient steps of a soft-Q network per stage.
        q_learning_rate: initial learning rate of Adam in a stage; it falls to 0 along a cosine.
        q_batch_size: size of a mini-batch of the soft-Q network, in steps of the stage.
        target_rate: fraction by which the target network moves in each gradient step, in (0, 1].
        warm_start: whether a stage starts from the last stage's soft-Q network (true) or from a new
            one (false).
        policy_updates: gradient steps of a policy network per stage.
        policy_learning_rate: as `q_learning_rate`, for the policy network.
        policy_batch_size: size of a mini-batch of the policy network, in steps of the stage.
        game_copies: games played side by side, if the environment has no tabular model.
        game_processes: processes that play these games; results do not depend on their number.
        device: device of the networks: cpu, cuda, cuda:1, ...
        log_dir: folder for TensorBoard, with one folder per seed; null: no log.

    Raises:
        InputError: for an option out of its range; the message names it.
    """

    discount: float
    temperature: float
    episodes: int = 3000
    episode_length: int = 1000
    keep_transitions: bool = False
    hidden: tuple[int, ...] = (64, 64)
    q_updates: int = 2000
    q_learning_rate: float = 3e-3
    q_batch_size: int = 512
    target_rate: float = 0.05
    warm_start: bool = True
    policy_updates: int = 500
    policy_learning_rate: float = 3e-3
    policy_batch_size: int = 512
    game_copies: int = 256
    game_processes: int = 1
    device: str = "cpu"
    log_dir: str | None = None

    api_version: ClassVar[tuple[int, int]] = API_VERSION

    def __post_init__(self) -> None:
        if not 0 <= self.discount < 1:
            raise InputError(f"discount must be in [0, 1), got {self.discount}")
        for name in ("episodes", "episode_length", "q_updates", "q_batch_size", "policy_updates"):
            check_count(name, getattr(self, name), minimum=1)
        for name in ("policy_batch_size", "game_copies", "game_processes"):
            check_count(name, getattr(self, name), minimum=1)
        for name in ("temperature", "q_learning_rate", "policy_learning_rate"):
            if not 0 < getattr(self, name) < np.inf:
                raise InputError(f"{name} must be > 0 and finite, got {getattr(self, name)}")
        if not all(width >= 1 for width in self.hidden):
            raise InputError(f"hidden must hold widths >= 1, got {self.hidden}")
        if not 0 < self.target_rate <= 1:
            raise InputError(f"target_rate must be in (0, 1], got {self.target_rate}")

    @typed
    def learn(
        self, env: ParallelEnv[str, Any, Any], *, n_stages: Count, rng: np.random.Generator
    ) -> Iterator[LearnedStage]:
        """Yield the stages of any game; see `malfl_algos.contract.Learner`.

        In a game with a tabular model the stages hold counts, and every agent's networks see the
        digits of the joint state (grid world: rows and columns).

        Args:
            env: a parallel environment with discrete actions, whose agents begin and end together.
                If it has no tabular model it is copied; a function that makes the environment may
                be given instead.
            n_stages: number of stages, >= 1.
            rng: one seed is drawn from it for the networks, then one per stage.

        Raises:
            InputError: at once, for an environment that does not fit, more joint states and actions
                than fit into a table, or a device that does not exist; later, if agents end at
                different times.
            RuntimeError: later, if training diverges.
        """
        torch_device(self.device)
        game = tabular_game(env)
        if game is None:
            copies = min(self.game_copies, self.episodes)
            games = games_of(env, copies, processes=self.game_processes)
            return self._played(games, n_stages, rng)
        check_table_bytes(
            8 * game.n_states * math.prod(game.n_actions),
            f"the visits of {game.n_states} joint states and their joint actions",
        )
        return self._learned(game, n_stages, rng)

    def _learned(
        self, game: MarkovGame, n_stages: Count, rng: np.random.Generator
    ) -> Iterator[LearnedStage]:
        space: Any = MultiDiscrete(list(game.observation_shape))
        digits = narrowed(game.observation(np.arange(game.n_states)), space)

        def play(agents: Sequence[Agent]) -> tuple[LearnedStage, Iterator[AgentSteps]]:
            log_policies = [log_probabilities(agent, digits) for agent in agents]
            sample = sample_stage(
                game,
                log_policies,
                seed=int(rng.integers(2**64, dtype=np.uint64)),
                episodes=self.episodes,
                episode_length=self.episode_length,
                discount=self.discount,
                temperature=self.temperature,
                step_size=0.0,
                keep_steps=True,
            )
            learned = LearnedStage(
                observed_stage(game, sample, keep_transitions=self.keep_transitions, complete=True),
                StageTruth(
                    {a: np.exp(own) for a, own in zip(game.agents, log_policies, strict=True)}
                ),
            )
            return learned, _tabular_steps(game, sample, digits)

        spaces = (space,) * game.n_agents
        return self._stages(game.agents, spaces, game.n_actions, play, n_stages, rng)

    def _played(
        self, games: Games, n_stages: Count, rng: np.random.Generator
    ) -> Iterator[LearnedStage]:
        def play(agents: Sequence[Agent]) -> tuple[LearnedStage, Iterator[AgentSteps]]:
            played = joined(
                play_stage(
                    games,
                    lambda index, seen: probabilities(agents[index], seen),
                    episodes=self.episodes,
                    episode_length=self.episode_length,
                    rng=rng,
                )
            )
            return played, _played_steps(played, games.agents)

        return self._stages(games.agents, games.spaces, games.n_actions, play, n_stages, rng)

    def _stages(
        self,
        names: Sequence[str],
        spaces: Sequence[Any],
        n_actions: Sequence[int],
        play: Callable[[Sequence[Agent]], tuple[LearnedStage, Iterable[AgentSteps]]],
        n_stages: Count,
        rng: np.random.Generator,
    ) -> Iterator[LearnedStage]:
        """Play a stage and improve all agents' policies on its steps, in turn."""
        generator = generator_from(rng)
        agents = [
            new_agent(
                Encoder(space), n, hidden=self.hidden, generator=generator, device=self.device
            )
            for space, n in zip(spaces, n_actions, strict=True)
        ]
        # several learners may share the folder
        run = f"seed_{generator.initial_seed():016x}"
        with tensorboard_log(self.log_dir, run=run) as log:
            for stage in range(n_stages):
                learned, all_steps = play(agents)
                yield learned
                if stage == n_stages - 1:
                    return
                tasks = []
                for name, agent, steps in zip(names, agents, all_steps, strict=True):
                    note = None if log is None else partial(self._note, log, name, stage)
                    self._begin(agent, steps, stage, generator, note)
                    if torch_device(self.device).type == "cpu":
                        self._improve(agent, steps, generator, note)
                    else:
                        tasks.append(self._task(agent, steps, generator, note))
                if tasks:
                    improve_together(
                        tasks,
                        self._q_descent,
                        self._policy_descent,
                        target_rate=self.target_rate,
                        discount=self.discount,
                        temperature=self.temperature,
                    )

    @property
    def _q_descent(self) -> Descent:
        return Descent(self.q_updates, self.q_learning_rate, self.q_batch_size)

    @property
    def _policy_descent(self) -> Descent:
        return Descent(self.policy_updates, self.policy_learning_rate, self.policy_batch_size)

    def _begin(
        self,
        agent: Agent,
        steps: AgentSteps,
        stage: int,
        generator: torch.Generator,
        log: Log | None,
    ) -> None:
        """Prepare an agent for the training in a stage, and log what it starts from."""
        if stage == 0:  # the first policy is uniform with any encoder
            agent.encoder = agent.encoder.standardised(steps.observations)
        elif not self.warm_start:
            agent.q = new_network(agent.sizes, generator, self.device)
        if log is not None:
            log("return", 0, float(steps.rewards.sum() / max(1, steps.episode_ends.sum())))
            log("entropy", 0, mean_entropy(agent, steps.observations))

    def _task(
        self, agent: Agent, steps: AgentSteps, generator: torch.Generator, log: Log | None
    ) -> Task:
        """Draw an agent's mini-batches, as `_improve` would."""
        n = len(steps.actions)
        q_batches = drawn_batches(n, self._q_descent, generator)
        return Task(agent, steps, q_batches, drawn_batches(n, self._policy_descent, generator), log)

    def _improve(
        self, agent: Agent, steps: AgentSteps, generator: torch.Generator, log: Log | None
    ) -> None:
        """Evaluate and improve one agent's policy on the steps of a stage."""
        fit_soft_q(
            agent,
            steps,
            self._q_descent,
            target_rate=self.target_rate,
            discount=self.discount,
            temperature=self.temperature,
            generator=generator,
            log=log,
        )
        project_policy(
            agent,
            steps.observations,
            self._policy_descent,
            generator=generator,
            log=log,
        )

    def _note(self, log: Log, agent: str, stage: int, name: str, update: int, value: float) -> None:
        """Log a loss at the update's number over all stages, any other value once per stage."""
        per_stage = {
            "soft_bellman_loss": self.q_updates,
            "projection_divergence": self.policy_updates,
        }.get(name, 1)
        log(f"{agent}/{name}", stage * per_stage + update, value)


def _tabular_steps(
    game: MarkovGame, sample: StageSample, digits: NDArray[Any]
) -> Iterator[AgentSteps]:
    assert sample.steps is not None
    states, joint_actions, next_states, episode_ends = sample.steps
    own_actions = np.unravel_index(joint_actions, game.n_actions)
    observations, next_observations = digits[states], digits[next_states]
    for index, actions in enumerate(own_actions):
        table = game.reward(index)
        rewards = (
            table[states]
            if table.ndim == 1
            else table.reshape(game.n_states, -1)[states, joint_actions]
        )
        yield AgentSteps(observations, actions, rewards, next_observations, episode_ends)


def _played_steps(played: LearnedStage, agents: Sequence[str]) -> Iterator[AgentSteps]:
    steps, rewards = played.observed.transitions, played.truth.rewards
    assert steps is not None
    assert rewards is not None
    assert steps.observations is not None
    assert steps.next_observations is not None
    for index, agent in enumerate(agents):
        yield AgentSteps(
            steps.observations[agent],
            steps.joint_actions[:, index],
            rewards[agent],
            steps.next_observations[agent],
            steps.episode_ends,
            steps.terminations,
        )
