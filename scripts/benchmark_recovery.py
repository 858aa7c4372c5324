"""The lines `recovery` and `replay`: the paper's equations, and the sums of `ma-lfl-replay`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np
from benchmark_lines import DISCOUNT, STEP_SIZE, TEMPERATURE, Contest
from numpy.typing import NDArray

from malfl_algos.ma_lfl.stages import StageArrays, Steps
from malfl_algos.trace import LearningTrace
from malfl_env import grid_world_v0, markov_game

FloatArray = NDArray[np.float64]

WANTED = {"wanted, s/million": 0.3, "stretch, s/million": 0.1}


def recovery(fast: bool) -> Iterator[Contest]:
    """Equation (12) for both agents, set up and solved exactly, against 1000 epochs of Adam.

    BLAS has one thread, as in the pipeline, while the contest is measured.
    """
    from malfl_algos.ma_lfl import regression
    from malfl_algos.ma_lfl.adam import adam_regression
    from malfl_algos.work.threads import one_blas_thread

    agents, epochs = _improvements(fast), 10 if fast else 1000

    def equations(agent: Any) -> tuple[FloatArray, Any]:
        blocks = regression.reward_blocks("joint", agent.others, 5)
        return blocks, regression.potential_matrix(agent.transitions, discount=DISCOUNT)

    def exact() -> list[float]:
        fits = [
            regression.least_squares(*equations(agent), agent.targets, agent.seen)
            for agent in agents
        ]
        return [fit.residual for fit in fits]

    def adam() -> list[float]:
        residuals = []
        for agent in agents:
            used = np.repeat(agent.seen.ravel(), 5)
            design = regression.design_matrix(*equations(agent))[used]
            targets = agent.targets.ravel()[used]
            unknowns = adam_regression(design, targets, learning_rate=0.01, epochs=epochs)
            residuals.append(float(np.sqrt(np.mean((design @ unknowns - targets) ** 2))))
        return residuals

    with one_blas_thread():
        notes = {
            f"root mean square residual of (12), agent_{index}, {method}": residual
            for method, residuals in (("exact", exact()), ("Adam", adam()))
            for index, residual in enumerate(residuals)
        }
        against = f"Adam, {epochs} epochs at 0.01"
        yield Contest("recovery", "s", ours=exact, baseline=adam, against=against, notes=notes)


def _improvements(fast: bool) -> list[Any]:
    """The inputs of (12) for each agent after the paper's learning, homogeneous family, seed 0."""
    from malfl_algos.ma_lfl.policy_estimation import entropy_regularised_policy
    from malfl_algos.ma_lfl.recovery import improvements_of

    stages = _learned(3 if fast else 10, episodes=100 if fast else 3000).stages
    visited = np.stack([stage.state_counts > 0 for stage in stages])
    policies = [
        np.stack(
            [
                entropy_regularised_policy(stage.action_counts(agent), entropy_coefficient=0.3)
                for stage in stages
            ]
        )
        for agent in range(2)
    ]
    game, seen = markov_game(grid_world_v0.parallel_env()), visited[:-1] & visited[1:]
    return [
        improvements_of(game, policies, agent, seen, discount=DISCOUNT, temperature=TEMPERATURE)
        for agent in range(2)
    ]


def replay(fast: bool) -> list[Contest]:
    """Seconds per million transitions, agent and step size tried, against a loop in NumPy.

    Once the two passes over the transitions of a stage alone, and once all of `ma-lfl-replay` as it
    searches for the step size.
    """
    from malfl_algos.ma_lfl.replay import ReplayedTd
    from malfl_algos.observers.reading import stage_arrays
    from malfl_algos.observers.replay import MaLflReplay

    game = markov_game(grid_world_v0.parallel_env())
    policies = [np.full((game.n_states, n), 1 / n) for n in game.n_actions]
    reward = game.reward(0)
    n_stages, episodes, length = (3, 10, 100) if fast else (10, 300, 1000)
    played = partial(_learned, episode_length=length, keep_transitions=True)
    trace = played(n_stages, episodes=episodes)
    (stage,) = stage_arrays(played(1, episodes=n_stages * episodes))
    (short,) = stage_arrays(played(1, episodes=2 if fast else 20))
    model = ReplayedTd("state", DISCOUNT, TEMPERATURE, STEP_SIZE)
    observer = MaLflReplay(step_size=None)

    def kernels() -> None:
        rows = model.stage_coefficients(stage, policies, 0)
        model.stage_variance(stage, policies, 0, reward, rows)

    def loops() -> None:
        plain_coefficients(short, policies[0], 0)
        plain_noise(short, policies[0], 0, reward)

    def recover() -> int:
        """The number of step sizes that were tried."""
        recovered = observer.recover(trace, game=None, discount=DISCOUNT, temperature=TEMPERATURE)
        return len(recovered.diagnostics[trace.agents[0]]["searches"]["step_size"])

    kernels()
    tried = recover()
    replayed = sum(len(stage.episode_ends) for stage in map(_steps, stage_arrays(trace)[:-1]))
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


def plain_coefficients(stage: StageArrays, policy: FloatArray, agent_index: int) -> FloatArray:
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
    stage: StageArrays, policy: FloatArray, agent_index: int, reward: FloatArray, *, signs: int = 64
) -> FloatArray:
    """Variance of q `(n_states, n_actions)` left by unobserved bootstrap draws, in float64.

    The same as `ReplayedTd.variance`, from other random signs.
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


def _learned(n_stages: int, **settings: Any) -> LearningTrace:
    """A trace of the paper's game, homogeneous family, seed 0."""
    from malfl_algos.learners.ma_spi import MaSpi

    learner = MaSpi(DISCOUNT, TEMPERATURE, **settings)
    rng = np.random.default_rng(0)
    stages = learner.learn(grid_world_v0.parallel_env(), n_stages=n_stages, rng=rng)
    return LearningTrace(tuple(stage.observed for stage in stages))


def _steps(stage: StageArrays) -> Steps:
    assert stage.steps is not None
    return stage.steps


def _numbers(steps: Steps, agent_index: int) -> Sequence[list[int]]:
    """Joint state, own action and next joint state of every step."""
    own = steps.joint_actions[:, agent_index]
    return steps.states.tolist(), own.tolist(), steps.next_states.tolist()
