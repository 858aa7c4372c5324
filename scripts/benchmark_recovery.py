"""The line `recovery`: the equations of the paper's observer."""

from __future__ import annotations

from typing import Any

import numpy as np
from benchmark_lines import DISCOUNT, TEMPERATURE, Contest
from numpy.typing import NDArray

from malfl_env import grid_world_v0, markov_game

FloatArray = NDArray[np.float64]


def recovery(fast: bool) -> list[Contest]:
    """Equation (12) of both agents, set up and solved exactly, against 1000 epochs of Adam."""
    from threadpoolctl import threadpool_limits

    from malfl_algos.ma_lfl import regression
    from malfl_algos.ma_lfl.adam import adam_regression

    agents, epochs = _improvements(fast), 10 if fast else 1000
    threadpool_limits(1)  # as in the pipeline

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

    notes = {
        f"root mean square residual of (12), agent_{index}, {method}": residual
        for method, residuals in (("exact", exact()), ("Adam", adam()))
        for index, residual in enumerate(residuals)
    }
    against = f"Adam, {epochs} epochs at 0.01"
    return [Contest("recovery", "s", ours=exact, baseline=adam, against=against, notes=notes)]


def _improvements(fast: bool) -> list[Any]:
    """What (12) needs of each agent after the paper's learning, homogeneous family, seed 0."""
    from malfl_algos.learners.ma_spi import MaSpi
    from malfl_algos.ma_lfl.policy_estimation import entropy_regularised_policy
    from malfl_algos.ma_lfl.recovery import recover_by_regression
    from malfl_algos.ma_lfl.regression import Fit
    from malfl_algos.trace import LearningTrace

    env = grid_world_v0.parallel_env()
    learner = MaSpi(DISCOUNT, TEMPERATURE, episodes=100 if fast else 3000)
    stages = learner.learn(env, n_stages=3 if fast else 10, rng=np.random.default_rng(0))
    kept = []

    def keep(improvements: Any) -> tuple[Fit, dict[str, Any]]:
        kept.append(improvements)
        return Fit(np.zeros((81, 25)), np.zeros(improvements.seen.shape), rank=0, residual=0.0), {}

    recover_by_regression(
        LearningTrace(tuple(stage.observed for stage in stages)),
        game=markov_game(env).without_rewards(),
        discount=DISCOUNT,
        temperature=TEMPERATURE,
        known_policies=None,
        model="joint",
        estimate=lambda counts, agent, stage: entropy_regularised_policy(
            counts, entropy_coefficient=0.3
        ),
        regress=keep,
    )
    return kept
