"""Training in the study of simple spread: PPO on the ground-truth reward, and retrained agents.

Every purpose has its own seed, so that no part of the study changes another part.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from malfl_sb3 import IndependentTraining
from malfl_sb3.learners import Sb3Ppo
from malfl_sb3.playing import played_stage
from malfl_sb3.rewarded import Rewarded, RewardFunction
from mpe2 import simple_spread_v3
from numpy.typing import NDArray

from malfl_algos import LearningTrace, Stage
from malfl_algos.contract import LearnedStage
from malfl_algos.play import action_counts, games_of, joined, observation_spaces, play_stage
from malfl_algos.storage.arrays import read_arrays, write_arrays
from malfl_env.checks import check_count

__all__ = [
    "HeldOut",
    "Settings",
    "environment",
    "fresh_returns",
    "learned_stages",
    "mean_return",
    "random_stream",
    "split_stages",
    "true_rewards",
    "uniform_return",
]

FloatArray = NDArray[np.float64]

MAX_CYCLES = 25
STEP = 0.1  # of time, in the game's physics
RADIUS = 0.15  # of an agent
PURPOSES = ("learners", "observer", "prediction", "uniform", "fresh")


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Settings of a study; one folder holds one study.

    Args:
        stages: number of stages shown to the observer; one more is played and predicted.
        timesteps: steps from which each agent learns between two stages.
        episodes: episodes per stage, shown to the observer.
        held_out: held-out episodes per stage, for scoring alone.
        fresh_stages: retrained agents learn for `fresh_stages * timesteps` steps.
        curve_episodes: episodes that measure their return while they learn.
        n_steps, batch_size, n_epochs, learning_rate, entropy_weight: of PPO.
        discount: of PPO and of the observer.
    """

    stages: int = 8
    timesteps: int = 20_000
    episodes: int = 800
    held_out: int = 100
    fresh_stages: int = 4
    curve_episodes: int = 200
    n_steps: int = 4000
    batch_size: int = 1000
    n_epochs: int = 6
    learning_rate: float = 2e-3
    entropy_weight: float = 0.1
    discount: float = 0.9

    def __post_init__(self) -> None:
        for name, minimum in (
            ("stages", 2),
            ("held_out", 1),
            ("fresh_stages", 1),
            ("curve_episodes", 1),
        ):
            check_count(name, getattr(self, name), minimum=minimum)

    def learner(self, *, episodes: int) -> Sb3Ppo:
        """Return the learners; their stages have `episodes` episodes."""
        own = asdict(self)
        names = ("timesteps", "n_steps", "batch_size", "n_epochs", "learning_rate")
        return Sb3Ppo(
            **{name: own[name] for name in (*names, "entropy_weight", "discount")},
            episodes=episodes,
            episode_length=MAX_CYCLES,
        )


@dataclass(frozen=True, eq=False)
class HeldOut:
    """Held-out steps of one stage, with the ground truth.

    Args:
        observations: per agent `(n, 18)`.
        joint_actions: `(n, n_agents)`.
        policies: per agent, ground-truth probabilities `(n, n_actions)`.
        rewards: per agent, ground-truth rewards `(n,)`.
    """

    observations: Mapping[str, NDArray[Any]]
    joint_actions: NDArray[Any]
    policies: Mapping[str, FloatArray]
    rewards: Mapping[str, FloatArray]

    def save(self, path: Path) -> None:
        """Write one npz."""
        arrays = {"joint_actions": self.joint_actions}
        for kind in ("observations", "policies", "rewards"):
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
            arrays["joint_actions"],
            of_agents("policies"),
            of_agents("rewards"),
        )


def environment() -> Any:
    """Return the game: three agents have to cover three landmarks without collisions."""
    return simple_spread_v3.parallel_env(N=3, local_ratio=0.5, max_cycles=MAX_CYCLES)


def random_stream(seed: int, purpose: str, *more: int) -> np.random.Generator:
    """Return the generator of one purpose; `more` distinguishes several generators of it."""
    return np.random.default_rng([seed, PURPOSES.index(purpose), *more])


def learned_stages(settings: Settings, seed: int) -> Iterator[LearnedStage]:
    """Yield the stages of PPO on the ground-truth reward, one more than the observer sees."""
    learner = settings.learner(episodes=settings.episodes + settings.held_out)
    return learner.learn(
        environment(), n_stages=settings.stages + 1, rng=random_stream(seed, "learners")
    )


def split_stages(
    stages: list[LearnedStage], settings: Settings
) -> tuple[LearningTrace, list[HeldOut]]:
    """Return the trace and the held-out steps of all stages; observers see all but the last."""
    env = environment()
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
        held_out.append(
            HeldOut(
                later.observations,
                later.joint_actions,
                {agent: own[cut:] for agent, own in stage.truth.policies.items()},
                {agent: own[cut:] for agent, own in stage.truth.rewards.items()},
            )
        )
    agents = tuple(env.possible_agents)
    trace = LearningTrace(tuple(shown), agents, action_counts(env), observation_spaces(env))
    return trace, held_out


def fresh_returns(
    settings: Settings, seed: int, rewards: Mapping[str, RewardFunction]
) -> list[float]:
    """Train new agents on some rewards, for `fresh_stages * timesteps` steps.

    Args:
        settings: of the learners.
        seed: of the study.
        rewards: per agent.

    Returns:
        The ground-truth return of an episode, averaged over agents, before learning and after every
        `timesteps`. The last value is a mean over `episodes` episodes.
    """
    env = environment()
    learner = settings.learner(episodes=settings.curve_episodes)
    games = games_of(env, learner.game_copies)
    rng = random_stream(seed, "fresh")
    returns = []
    with IndependentTraining(
        Rewarded(env, rewards),
        dict.fromkeys(env.possible_agents, learner.model),
        total_timesteps=settings.fresh_stages * settings.timesteps,
        rng=rng,
    ) as training:
        for stage in range(settings.fresh_stages + 1):
            if stage:
                training.advance(settings.timesteps)
            last = stage == settings.fresh_stages
            played = played_stage(
                games,
                training.models,
                episodes=settings.episodes if last else settings.curve_episodes,
                episode_length=MAX_CYCLES,
                rng=random_stream(seed, "fresh", stage + 1),
            )
            returns.append(mean_return(played))
    return returns


def uniform_return(settings: Settings, seed: int) -> float:
    """Return the ground-truth return of an episode of uniform play, averaged over agents."""
    env = environment()
    n_actions = action_counts(env)
    played = joined(
        play_stage(
            games_of(env, 256),
            lambda index, seen: np.full((len(seen), n_actions[index]), 1 / n_actions[index]),
            episodes=settings.episodes,
            episode_length=MAX_CYCLES,
            rng=random_stream(seed, "uniform"),
        )
    )
    return mean_return(played)


def mean_return(stage: LearnedStage) -> float:
    """Return the undiscounted return, averaged over episodes and agents."""
    assert stage.observed.transitions is not None
    assert stage.truth.rewards is not None
    n_episodes = int(stage.observed.transitions.episode_ends.sum())
    return float(np.mean([own.sum() / n_episodes for own in stage.truth.rewards.values()]))


def true_rewards() -> dict[str, RewardFunction]:
    """Return the game's own rewards as functions of all agents' observations.

    The rewards depend on the positions after the move, which follow from the present velocities.
    The actions of the step change the velocities alone, and do not matter yet.
    """
    agents = environment().possible_agents

    def rewards(observations: Mapping[str, NDArray[Any]]) -> FloatArray:
        seen = np.stack([observations[agent] for agent in agents], axis=1).astype(np.float64)
        places = seen[:, :, 2:4] + STEP * seen[:, :, :2]
        landmarks = seen[:, 0, None, 2:4] + seen[:, 0, 4:10].reshape(-1, 3, 2)
        away = np.linalg.norm(places[:, :, None] - landmarks[:, None], axis=-1)
        apart = np.linalg.norm(places[:, :, None] - places[:, None], axis=-1)
        collisions = (apart < 2 * RADIUS).sum(axis=2) - 1
        return np.asarray(0.5 * (-away.min(axis=1).sum(axis=1)[:, None] - collisions))

    def of_agent(index: int) -> RewardFunction:
        return lambda observations, _: rewards(observations)[:, index]

    return {agent: of_agent(index) for index, agent in enumerate(agents)}
