"""Training in the study of continuous games: PPO on the game's reward, and retrained agents.

Every purpose has its own seed, so that no part of the study changes another part.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from malfl_sb3.copies import CopiesTraining
from malfl_sb3.learners import Sb3Ppo
from malfl_sb3.playing import played_stage
from numpy.typing import NDArray
from particle_games import GAMES, MAX_CYCLES, ParticleGames

from malfl_algos import LearningTrace, Stage
from malfl_algos.contract import LearnedStage
from malfl_algos.play import joined, play_stage
from malfl_algos.play.games import Moved
from malfl_algos.storage.arrays import read_arrays, write_arrays
from malfl_env.checks import check_count
from malfl_env.errors import InputError

__all__ = [
    "HeldOut",
    "NextReward",
    "Rewards",
    "Settings",
    "fresh_returns",
    "learned_stages",
    "mean_return",
    "random_stream",
    "split_stages",
    "uniform_return",
]

FloatArray = NDArray[np.float64]
NextReward = Callable[[NDArray[Any]], FloatArray]
"""Maps an agent's observations after the step `(n, ...)` to its rewards `(n,)`."""

PURPOSES = ("learners", "observer", "prediction", "uniform", "fresh")
PLAYED = 500
"""Games of which stages are played side by side."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Settings of a study; one folder holds one study.

    Args:
        game: `simple_spread` or `simple_adversary`.
        stages: number of stages.
        timesteps: steps from which each agent learns between two stages.
        episodes: episodes per stage, shown to the observer.
        held_out: held-out episodes per stage, for scoring alone.
        fresh_stages: retrained agents learn for `fresh_stages * timesteps` steps.
        n_steps: steps of a rollout of PPO, over all copies of the game.
        copies: games in which the agents act side by side while they learn.
        batch_size, n_epochs, learning_rate, entropy_weight: of PPO.
        discount: of PPO and of the observer.
    """

    game: str = "simple_spread"
    stages: int = 8
    timesteps: int = 60_000
    episodes: int = 1000
    held_out: int = 100
    fresh_stages: int = 2
    n_steps: int = 20_000
    copies: int = 400
    batch_size: int = 5000
    n_epochs: int = 6
    learning_rate: float = 2e-3
    entropy_weight: float = 0.1
    discount: float = 0.9

    def __post_init__(self) -> None:
        if self.game not in GAMES:
            raise InputError(f"game must be one of {', '.join(GAMES)}, got {self.game!r}")
        for name, minimum in (("stages", 3), ("held_out", 1), ("fresh_stages", 1), ("copies", 1)):
            check_count(name, getattr(self, name), minimum=minimum)
        if self.n_steps % self.copies:
            raise InputError(f"n_steps must be a multiple of copies, got {self.n_steps}")
        self.learner()  # rejects options that do not fit

    def learner(self) -> Sb3Ppo:
        """Return PPO, for copies that act side by side."""
        own = asdict(self)
        names = ("batch_size", "n_epochs", "learning_rate", "entropy_weight", "discount")
        return Sb3Ppo(
            **{name: own[name] for name in names},
            timesteps=self.timesteps // self.copies,
            n_steps=self.n_steps // self.copies,
            episodes=self.episodes + self.held_out,
            episode_length=MAX_CYCLES,
        )

    def games(self, n_games: int) -> ParticleGames:
        """Return copies of the game."""
        return ParticleGames(GAMES[self.game], n_games)


@dataclass(frozen=True, eq=False)
class HeldOut:
    """Held-out steps of one stage, with the ground truth.

    Args:
        observations: before the steps, per agent `(n, width)`.
        next_observations: after the steps, likewise.
        joint_actions: `(n, n_agents)`.
        policies: per agent, ground-truth probabilities `(n, n_actions)`.
        rewards: per agent, ground-truth rewards `(n,)`.
    """

    observations: Mapping[str, NDArray[Any]]
    next_observations: Mapping[str, NDArray[Any]]
    joint_actions: NDArray[Any]
    policies: Mapping[str, FloatArray]
    rewards: Mapping[str, FloatArray]

    def save(self, path: Path) -> None:
        """Write one npz."""
        arrays = {"joint_actions": self.joint_actions}
        for kind in ("observations", "next_observations", "policies", "rewards"):
            arrays |= {f"{kind}/{agent}": own for agent, own in getattr(self, kind).items()}
        write_arrays(path, arrays)

    @classmethod
    def load(cls, path: Path) -> HeldOut:
        """Read a file that `save` wrote."""
        arrays, _ = read_arrays(path)

        def of_agents(kind: str) -> dict[str, NDArray[Any]]:
            prefix = f"{kind}/"
            return {
                name.removeprefix(prefix): own
                for name, own in arrays.items()
                if name.startswith(prefix)
            }

        return cls(
            of_agents("observations"),
            of_agents("next_observations"),
            arrays["joint_actions"],
            of_agents("policies"),
            of_agents("rewards"),
        )


def random_stream(seed: int, purpose: str, *more: int) -> np.random.Generator:
    """Return the generator of one purpose; `more` distinguishes several generators of it."""
    return np.random.default_rng([seed, PURPOSES.index(purpose), *more])


def learned_stages(settings: Settings, seed: int) -> Iterator[LearnedStage]:
    """Yield the stages of PPO on the game's own reward."""
    played = settings.games(PLAYED)
    rng = random_stream(seed, "learners")
    with _training(settings, settings.games(settings.copies), settings.stages - 1, rng) as training:
        for stage in range(settings.stages):
            if stage:
                training.advance(settings.timesteps)
            yield played_stage(
                played,
                training.models,
                episodes=settings.episodes + settings.held_out,
                episode_length=MAX_CYCLES,
                rng=np.random.default_rng(int(rng.integers(2**63))),
            )


def _training(
    settings: Settings, games: ParticleGames, rounds: int, rng: np.random.Generator
) -> CopiesTraining:
    return CopiesTraining(
        games,
        dict.fromkeys(games.agents, settings.learner().model),
        total_timesteps=rounds * settings.timesteps,
        rng=rng,
    )


def split_stages(
    stages: list[LearnedStage], settings: Settings
) -> tuple[LearningTrace, list[HeldOut]]:
    """Return the trace and the held-out steps of all stages."""
    games = settings.games(1)
    shown, held_out = [], []
    for stage in stages:
        steps = stage.observed.transitions
        assert steps is not None
        assert stage.truth.rewards is not None
        episode: NDArray[np.int64] = np.cumsum(steps.episode_ends) - steps.episode_ends
        cut = int(np.searchsorted(episode, settings.episodes))
        shown.append(Stage(transitions=steps.slice(0, cut)))
        later = steps.slice(cut, steps.n_steps)
        assert later.observations is not None
        assert later.next_observations is not None
        held_out.append(
            HeldOut(
                later.observations,
                later.next_observations,
                later.joint_actions,
                {agent: own[cut:] for agent, own in stage.truth.policies.items()},
                {agent: own[cut:] for agent, own in stage.truth.rewards.items()},
            )
        )
    return LearningTrace(tuple(shown), games.agents, games.n_actions, games.spaces), held_out


Rewards = Mapping[str, NextReward] | Mapping[str, tuple[float, float]]
"""Per agent: a reward, or mean and standard deviation that the game's own reward is scaled by."""


class _Rewarded(ParticleGames):
    """The games with other rewards."""

    rewards: Rewards

    def step(self, numbers: NDArray[np.int64], actions: NDArray[np.int64]) -> Moved:
        moved = super().step(numbers, actions)
        paid = []
        for index, agent in enumerate(self.agents):
            own = self.rewards[agent]
            if callable(own):
                paid.append(own(moved.observations[index]))
            else:
                paid.append((moved.rewards[:, index] - own[0]) / own[1])
        return Moved(moved.observations, np.stack(paid, axis=1), moved.terminated, moved.truncated)


def fresh_returns(settings: Settings, seed: int, rewards: Rewards) -> list[dict[str, float]]:
    """Train new agents for `fresh_stages * timesteps` steps.

    Args:
        settings: of the learners.
        seed: of the study.
        rewards: that they learn from.

    Returns:
        Per agent, the game's own return of an episode, before learning and after every `timesteps`,
        each a mean over `episodes` episodes.
    """
    learning = _Rewarded(GAMES[settings.game], settings.copies)
    learning.rewards = rewards
    played, returns = settings.games(PLAYED), []
    rng = random_stream(seed, "fresh")
    with _training(settings, learning, settings.fresh_stages, rng) as training:
        for stage in range(settings.fresh_stages + 1):
            if stage:
                training.advance(settings.timesteps)
            found = played_stage(
                played,
                training.models,
                episodes=settings.episodes,
                episode_length=MAX_CYCLES,
                rng=random_stream(seed, "fresh", stage + 1),
            )
            returns.append(mean_return(found))
    return returns


def uniform_return(settings: Settings, seed: int) -> dict[str, float]:
    """Return the return of an episode of uniform play, per agent."""
    games = settings.games(PLAYED)
    played = joined(
        play_stage(
            games,
            lambda index, seen: np.full((len(seen), games.n_actions[index]), 0.2),
            episodes=settings.episodes,
            episode_length=MAX_CYCLES,
            rng=random_stream(seed, "uniform"),
        )
    )
    return mean_return(played)


def mean_return(stage: LearnedStage) -> dict[str, float]:
    """Return the undiscounted return of an episode, per agent, averaged over episodes."""
    assert stage.observed.transitions is not None
    assert stage.truth.rewards is not None
    n_episodes = int(stage.observed.transitions.episode_ends.sum())
    return {agent: float(own.sum() / n_episodes) for agent, own in stage.truth.rewards.items()}
