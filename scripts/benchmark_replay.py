"""The line `replay`: what `ma-lfl-replay` computes of every transition."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from benchmark_lines import DISCOUNT, STEP_SIZE, TEMPERATURE, Contest
from numpy.typing import NDArray

from malfl_algos.trace import LearningTrace, Stage, Transitions
from malfl_env import grid_world_v0, markov_game

FloatArray = NDArray[np.float64]

WANTED = {"wanted, s/million": 0.3, "stretch, s/million": 0.1}


def replay(fast: bool) -> list[Contest]:
    """Seconds per million transitions, agent and step size tried, against a loop in NumPy.

    Once the two passes over the transitions of a stage alone, and once all of `ma-lfl-replay` as it
    searches for the step size.
    """
    from malfl_algos.ma_lfl.replay import ReplayedTd
    from malfl_algos.observers.bayesian import MaLflReplay

    game = markov_game(grid_world_v0.parallel_env())
    policies = [np.full((game.n_states, n), 1 / n) for n in game.n_actions]
    reward = game.reward(0)
    n_stages, episodes, length = (3, 10, 100) if fast else (10, 300, 1000)
    trace = _played(n_stages, episodes=episodes, episode_length=length)
    (stage,) = _played(1, episodes=n_stages * episodes, episode_length=length).stages
    (short,) = _played(1, episodes=2 if fast else 20, episode_length=length).stages
    model = ReplayedTd("state", DISCOUNT, TEMPERATURE, STEP_SIZE)
    observer = MaLflReplay(step_size=None)

    def kernels() -> None:
        rows = model.coefficients(stage, policies, 0)
        model.variance(stage, policies, 0, reward, rows)

    def loops() -> None:
        plain_coefficients(short, policies[0], 0)
        plain_noise(short, policies[0], 0, reward)

    def recover() -> int:
        """How many step sizes it tried."""
        recovered = observer.recover(trace, game=None, discount=DISCOUNT, temperature=TEMPERATURE)
        return len(recovered.diagnostics[trace.agents[0]]["searches"]["step_size"])

    kernels()
    tried = recover()
    replayed = sum(len(stage.episode_ends) for stage in map(_steps, trace.stages[:-1]))
    rows: tuple[tuple[str, Callable[[], object], int, dict[str, float]], ...] = (
        ("replay", kernels, len(_steps(stage).episode_ends), {}),
        ("replay, searched", recover, replayed * trace.n_agents * tried, {"sizes tried": tried}),
    )
    return [
        Contest(
            name,
            "s/million",
            ours=ours,
            baseline=loops,
            against="plain NumPy loop",
            ours_steps=n_steps / 1e6,
            baseline_steps=len(_steps(short).episode_ends) / 1e6,
            notes=notes | WANTED,
        )
        for name, ours, n_steps, notes in rows
    ]


def plain_coefficients(stage: Stage, policy: FloatArray, agent_index: int) -> FloatArray:
    """Coefficients `(n_states, n_actions, n_states + 1)` of q in a reward r(s), in float64.

    What `ReplayedTd.coefficients` gives, as one writes it down.
    """
    steps = _steps(stage)
    n_states, n_actions = policy.shape
    rows = np.zeros((n_states, n_actions, n_states + 1))
    bonus = -TEMPERATURE * (policy * np.log(policy)).sum(axis=1)
    for s, a, t in zip(*_numbers(steps, agent_index), strict=True):
        target = DISCOUNT * (policy[t] @ rows[t])
        target[s] += 1
        target[-1] += DISCOUNT * bonus[t]
        rows[s, a] += STEP_SIZE * (target - rows[s, a])
    return rows


def plain_noise(
    stage: Stage, policy: FloatArray, agent_index: int, reward: FloatArray, *, signs: int = 64
) -> FloatArray:
    """Variance of q `(n_states, n_actions)` that the unseen bootstrap draws leave, in float64.

    What `ReplayedTd.variance` gives, from other random signs.
    """
    steps = _steps(stage)
    mean, noise = np.zeros(policy.shape), np.zeros((*policy.shape, signs))
    log_policy = TEMPERATURE * np.log(policy)
    rng = np.random.default_rng(0)
    for s, a, t in zip(*_numbers(steps, agent_index), strict=True):
        draw = mean[t] - log_policy[t]
        centre = policy[t] @ draw
        size = np.sqrt(policy[t] @ (draw - centre) ** 2)
        unseen = policy[t] @ noise[t] + size * (2.0 * rng.integers(2, size=signs) - 1)
        noise[s, a] += STEP_SIZE * (DISCOUNT * unseen - noise[s, a])
        mean[s, a] += STEP_SIZE * (reward[s] + DISCOUNT * centre - mean[s, a])
    return np.asarray((noise**2).mean(axis=-1))


def _played(n_stages: int, *, episodes: int, episode_length: int) -> LearningTrace:
    from malfl_algos.learners.ma_spi import MaSpi

    learner = MaSpi(
        DISCOUNT,
        TEMPERATURE,
        episodes=episodes,
        episode_length=episode_length,
        keep_transitions=True,
    )
    env, rng = grid_world_v0.parallel_env(), np.random.default_rng(0)
    stages = learner.learn(env, n_stages=n_stages, rng=rng)
    return LearningTrace(tuple(stage.observed for stage in stages))


def _steps(stage: Stage) -> Transitions:
    assert stage.transitions is not None
    return stage.transitions


def _numbers(steps: Transitions, agent_index: int) -> Sequence[list[int]]:
    """Joint state, own action and next joint state of every step."""
    assert steps.states is not None
    assert steps.next_states is not None
    own = steps.joint_actions[:, agent_index]
    return steps.states.tolist(), own.tolist(), steps.next_states.tolist()
