"""Small games of every kind, and their dynamics as dense tables."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from malfl_env import grid_world_v0, markov_game
from malfl_env.markov_game import Factor, MarkovGame, deterministic_game


def random_factor(
    agents: Sequence[int], n_actions: Sequence[int], n_local: int, width: int, seed: int
) -> Factor:
    """Stochastic moves; some successors occur twice, and some have probability 0."""
    rng = np.random.default_rng(seed)
    shape = (n_local, *(n_actions[agent] for agent in agents), width)
    probabilities = rng.dirichlet(np.ones(width), size=shape[:-1])
    probabilities = np.where(
        (probabilities < 0.2) & (probabilities < probabilities.max(-1, keepdims=True)),
        0,
        probabilities,
    )
    probabilities = probabilities / probabilities.sum(axis=-1, keepdims=True)
    return Factor(tuple(agents), rng.integers(0, n_local, size=shape), probabilities)


def factored(
    n_actions: Sequence[int], parts: Sequence[tuple[tuple[int, ...], int, int]]
) -> MarkovGame:
    """A game of random factors, each of some agents, local states and successors."""
    factors = tuple(
        random_factor(agents, n_actions, n_local, width, seed)
        for seed, (agents, n_local, width) in enumerate(parts)
    )
    game = MarkovGame(tuple(n_actions), factors, 0)
    rng = np.random.default_rng(99)
    return game.with_rewards([rng.normal(size=game.n_states) for _ in n_actions])


def grid(**options: object) -> MarkovGame:
    return markov_game(grid_world_v0.parallel_env(**options))


def table() -> MarkovGame:
    """One factor that everyone moves, with unequal numbers of actions."""
    rng = np.random.default_rng(5)
    return deterministic_game(
        rng.integers(0, 7, size=(7, 2, 3)), start=0, rewards=[rng.normal(size=(7, 2, 3))] * 2
    )


GAMES: dict[str, Callable[[], MarkovGame]] = {
    "grid": lambda: grid(size=3),
    "slip": lambda: grid(size=3, slip=0.2),
    "walls": lambda: grid(size=3, walls=[(1, 1)], slip=0.1),
    "three agents": lambda: grid(size=2, n_agents=3),
    "three agents slip": lambda: grid(size=2, n_agents=3, slip=0.3),
    "lone": lambda: factored([4], [((0,), 9, 2)]),
    "table": table,
    "unequal": lambda: factored([2, 3, 4], [((0,), 3, 2), ((1,), 2, 1), ((2,), 4, 3)]),
    "two move one": lambda: factored([2, 3, 2], [((0, 1), 4, 2), ((2,), 3, 2)]),
    "crossed": lambda: factored([2, 3, 2], [((1,), 3, 2), ((0, 2), 4, 3)]),
    "unmoved factor": lambda: factored([3, 2], [((), 3, 2), ((0,), 3, 2), ((1,), 2, 2)]),
    "one action": lambda: factored([1, 3], [((0,), 3, 2), ((1,), 3, 1)]),
}


def policies_of(game: MarkovGame, seed: int, *, zeros: bool = False) -> list[np.ndarray]:
    """Random policies; with some actions never taken, if wanted."""
    rng = np.random.default_rng(seed)
    found = [rng.dirichlet(np.ones(n), size=game.n_states) for n in game.n_actions]
    if zeros:
        found = [np.where(p < np.median(p, -1, keepdims=True), 0, p) for p in found]
        found = [p / p.sum(axis=-1, keepdims=True) for p in found]
    return found


def dense_transition(game: MarkovGame, policies: Sequence[np.ndarray], agent: int) -> np.ndarray:
    """P(s' | s, a^i) by going through all joint actions, `(n_states * n_actions, n_states)`."""
    successors, probabilities = game.joint_successors()
    for other, policy in enumerate(policies):
        if other != agent:
            shape = [1] * probabilities.ndim
            shape[0], shape[other + 1] = policy.shape
            probabilities = probabilities * policy.reshape(shape)
    n_own = game.n_actions[agent]
    flat = (game.n_states, n_own, -1)
    successors = np.moveaxis(successors, agent + 1, 1).reshape(flat)
    probabilities = np.moveaxis(probabilities, agent + 1, 1).reshape(flat)
    dense = np.zeros((game.n_states, n_own, game.n_states))
    states, actions = np.indices((game.n_states, n_own))
    np.add.at(dense, (states[..., None], actions[..., None], successors), probabilities)
    return dense.reshape(-1, game.n_states)
