"""The cases of the panel: games, learners, amounts of data, and what is wrong with each case.

The games and learners of the half `tune` served to choose the thresholds of the verdict. Those of
the half `report` did not, but for the learners td and exact.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal
from zlib import crc32

import numpy as np
from verdict_panel_learners import Play

from malfl_algos.contract import Observer
from malfl_algos.observers.bayesian import MaLflBellman
from malfl_algos.plugins.loading import load_observer
from malfl_algos.trace import LearningTrace, Stage
from malfl_env import grid_world_v0, markov_game
from malfl_env.markov_game import Factor, MarkovGame, deterministic_game

__all__ = ["GAMES", "Case", "cases", "handed_over", "observer_of"]

Half = Literal["tune", "report"]


@dataclass(frozen=True)
class Case:
    """One case of the panel.

    Args:
        kind: what is wrong; `good`: nothing.
        half: whether it served to choose the thresholds.
        game: a key of `GAMES`.
        learner: a key of `LEARNERS` or `Q_LEARNERS` of `verdict_panel_learners`.
        play: of the learner.
        fault: which one of the kind's faults; for the kind `other-observer`, the observer.
    """

    kind: str
    half: Half
    game: str
    learner: str
    play: Play
    fault: str = ""

    @property
    def name(self) -> str:
        """A name for files."""
        size = f"{self.play.n_stages}x{self.play.episodes}x{self.play.episode_length}"
        parts = (self.kind, self.fault, self.game, self.learner, size, f"seed{self.play.seed}")
        return "_".join(part for part in parts if part).replace(" ", "-")


def _grid(seed: int, **options: Any) -> MarkovGame:
    rewards = options.get("rewards")
    if rewards == "random":
        n_states = options["size"] ** (2 * options.get("n_agents", 2))
        n_agents = options.get("n_agents", 2)
        tables = _rng("rewards", seed).standard_normal((n_agents, n_states)) * 2
        options = {**options, "rewards": list(tables)}
    return markov_game(grid_world_v0.parallel_env(**options))


def _foreign(seed: int, *, n_states: int = 30, deterministic: bool = False) -> MarkovGame:
    """A random game of two agents with three and two actions, its rewards smooth in nothing."""
    rng = _rng("foreign", seed)
    shape = (n_states, 3, 2)
    width = 1 if deterministic else 3
    successors = rng.integers(n_states, size=(*shape, width))
    successors[..., 0] = (np.arange(n_states)[:, None, None] + 1 + rng.integers(3, size=shape)) % (
        n_states
    )
    weights = rng.dirichlet(np.ones(width), size=shape)
    weights /= weights.sum(axis=-1, keepdims=True)
    rewards = 2 * rng.standard_normal((2, n_states))
    return MarkovGame((3, 2), (Factor((0, 1), successors, weights),), 0).with_rewards(list(rewards))


def _ring(seed: int) -> MarkovGame:
    """Two agents on rings of six places; each moves left, moves right or stays."""
    places = np.arange(6)
    moves = np.stack([(places - 1) % 6, (places + 1) % 6, places], axis=1)
    successors = np.stack([moves, np.broadcast_to(places[:, None], moves.shape)], axis=-1)
    chance = np.broadcast_to([0.9, 0.1], successors.shape)
    factors = (Factor((0,), successors, chance), Factor((1,), successors, chance))
    apart = np.abs(places[:, None] - places[None, :])
    apart = np.minimum(apart, 6 - apart).astype(float)
    food = _rng("ring", seed).uniform(0, 4, size=6)
    rewards = [(food[:, None] - apart).ravel(), (food[None, :] + apart).ravel()]
    return MarkovGame((3, 3), factors, 0).with_rewards(rewards)


def _three_rings(seed: int) -> MarkovGame:
    """Three agents on rings of three places; each moves on or stays."""
    places = np.arange(3)
    moves = np.stack([(places + 1) % 3, places], axis=1)[..., None]
    factors = tuple(Factor((agent,), moves, np.ones(moves.shape)) for agent in range(3))
    rewards = 2 * _rng("three rings", seed).standard_normal((3, 27))
    return MarkovGame((2, 2, 2), factors, 0).with_rewards(list(rewards))


def _maze(seed: int) -> MarkovGame:
    """One agent in 4 x 4 cells, two of them walls; from the last cell it begins again."""
    walls, table = ((1, 1), (2, 3)), np.zeros((16, 4), dtype=np.int64)
    for cell in range(15):
        for action, move in enumerate(((1, 0), (-1, 0), (0, 1), (0, -1))):
            to = np.clip(np.add(divmod(cell, 4), move), 0, 3)
            table[cell, action] = cell if tuple(to) in walls else to[0] * 4 + to[1]
    rewards = 2 * _rng("maze", seed).standard_normal(16)
    return deterministic_game(table, start=0, rewards=[rewards])


def _alone(seed: int) -> MarkovGame:
    """A random game of one agent: 25 states, four actions, two next states of each."""
    rng = _rng("alone", seed)
    successors = rng.integers(25, size=(25, 4, 2))
    successors[:, 0, 0] = (np.arange(25) + 1) % 25
    weights = rng.dirichlet(np.ones(2), size=(25, 4))
    rewards = [2 * rng.standard_normal(25)]
    return MarkovGame((4,), (Factor((0,), successors, weights),), 0).with_rewards(rewards)


GAMES: Mapping[str, tuple[Half, Callable[[int], MarkovGame]]] = {
    "homogeneous": ("tune", lambda seed: _grid(seed, rewards="homogeneous")),
    "slip": ("tune", lambda seed: _grid(seed, rewards="heterogeneous", slip=0.2)),
    "2x2": ("tune", lambda seed: _grid(seed, size=2, rewards="random")),
    "foreign": ("tune", _foreign),
    "maze": ("tune", _maze),
    "three-rings": ("tune", _three_rings),
    "random-rewards": ("report", lambda seed: _grid(seed, size=3, rewards="random")),
    "walls": (
        "report",
        lambda seed: _grid(seed, rewards="heterogeneous", walls=[(1, 1)], goals=[(2, 2), (0, 2)]),
    ),
    "three-agents": ("report", lambda seed: _grid(seed, size=2, n_agents=3, rewards="random")),
    "ring": ("report", _ring),
    "foreign-deterministic": (
        "report",
        lambda seed: _foreign(seed + 1000, n_states=36, deterministic=True),
    ),
    "alone": ("report", _alone),
}
"""The half that each game belongs to, and the game of a seed."""


def handed_over(case: Case, game: MarkovGame, trace: LearningTrace) -> dict[str, Any]:
    """What the observer is given: `trace, game, discount, temperature`, with the case's fault.

    Stages keep the ordered steps only where the fault is one of theirs: counts alone say less, so
    they are the harder case. Games with chance keep their counts of next states.
    """
    rng = _rng(case.name, 0)
    given: dict[str, Any] = {
        "trace": LearningTrace(tuple(map(_counted, trace.stages))),
        "game": game.without_rewards(),
        "discount": case.play.discount,
        "temperature": case.play.temperature,
    }
    change = _FAULTS.get(case.kind)
    return given if change is None else {**given, **change(case, game, trace, rng)}


def observer_of(case: Case) -> Observer:
    """The observer of a case: `ma-lfl-bellman` as it comes, or another for a reward r(s)."""
    if case.kind != "other-observer":
        return MaLflBellman()
    options = {"reward_model": "state"} if case.fault == "lfl" else {}
    return load_observer(case.fault, **options)


def _counted(stage: Stage) -> Stage:
    return replace(stage, transitions=None)


def _wrong_game(
    case: Case, game: MarkovGame, trace: LearningTrace, rng: np.random.Generator
) -> dict[str, Any]:
    fault = "moved" if case.fault == "without-chance" and game.deterministic else case.fault
    return {"game": _WRONG_GAMES[fault](game, rng).without_rewards()}


def _with_factors(game: MarkovGame, change: Callable[[Factor], Factor]) -> MarkovGame:
    return replace(game, factors=tuple(map(change, game.factors)))


def _moved_entries(game: MarkovGame, rng: np.random.Generator) -> MarkovGame:
    """One successor in eight is another one: walls where there are none."""

    def change(factor: Factor) -> Factor:
        successors = factor.successors.copy()
        moved = rng.random(successors.shape[:-1]) < 1 / 8
        successors[moved] = rng.integers(factor.n_local, size=(int(moved.sum()), 1))
        return Factor(factor.agents, successors, factor.probabilities)

    return _with_factors(game, change)


def _noisier(game: MarkovGame, rng: np.random.Generator) -> MarkovGame:
    """With probability 0.3 a move has the outcome of a random action."""

    def change(factor: Factor) -> Factor:
        n_actions = factor.successors.shape[1:-1]
        flat = factor.successors.reshape(factor.n_local, -1, factor.successors.shape[-1])
        chance = factor.probabilities.reshape(flat.shape)
        others = flat.reshape(factor.n_local, 1, -1).repeat(flat.shape[1], axis=1)
        weights = chance.reshape(factor.n_local, 1, -1).repeat(flat.shape[1], axis=1)
        successors = np.concatenate([flat, others], axis=-1)
        mixed = np.concatenate([0.7 * chance, 0.3 * weights / flat.shape[1]], axis=-1)
        shape = (factor.n_local, *n_actions, -1)
        return Factor(factor.agents, successors.reshape(shape), mixed.reshape(shape))

    return _with_factors(game, change)


def _without_chance(game: MarkovGame, rng: np.random.Generator) -> MarkovGame:
    """Only the likeliest outcome of every move, and a rest of one thousandth of the others."""

    def change(factor: Factor) -> Factor:
        likeliest = factor.probabilities == factor.probabilities.max(axis=-1, keepdims=True)
        mixed = 0.001 * factor.probabilities + 0.999 * likeliest / likeliest.sum(
            axis=-1, keepdims=True
        )
        return Factor(factor.agents, factor.successors, mixed / mixed.sum(axis=-1, keepdims=True))

    return _with_factors(game, change)


def _renamed_states(game: MarkovGame, rng: np.random.Generator) -> MarkovGame:
    """The local states of every factor have each other's numbers."""

    def change(factor: Factor) -> Factor:
        order = rng.permutation(factor.n_local)
        inverse = np.argsort(order)
        return Factor(
            factor.agents, order[factor.successors[inverse]], factor.probabilities[inverse]
        )

    return _with_factors(game, change)


_WRONG_GAMES: Mapping[str, Callable[[MarkovGame, np.random.Generator], MarkovGame]] = {
    "moved": _moved_entries,
    "noisier": _noisier,
    "without-chance": _without_chance,
    "renamed": _renamed_states,
}


def _wrong_order(
    case: Case, game: MarkovGame, trace: LearningTrace, rng: np.random.Generator
) -> dict[str, Any]:
    """The log numbers the actions in another order than the game."""
    orders = []
    for n_own in game.n_actions:
        order = rng.permutation(n_own)
        while n_own > 1 and (order == np.arange(n_own)).all():
            order = rng.permutation(n_own)
        orders.append(order)

    def change(factor: Factor) -> Factor:
        successors, chance = factor.successors, factor.probabilities
        for axis, agent in enumerate(factor.agents, start=1):
            successors = successors.take(orders[agent], axis=axis)
            chance = chance.take(orders[agent], axis=axis)
        return Factor(factor.agents, successors, chance)

    return {"game": _with_factors(game, change).without_rewards()}


def _wrong_discount(
    case: Case, game: MarkovGame, trace: LearningTrace, rng: np.random.Generator
) -> dict[str, Any]:
    return {"discount": float(case.fault)}


def _thinned(
    case: Case, game: MarkovGame, trace: LearningTrace, rng: np.random.Generator
) -> dict[str, Any]:
    """A share of the steps, or of the episodes, was logged."""
    share, of = float(case.fault.split("-")[0]), case.fault.split("-")[1]
    stages = []
    for stage in trace.stages:
        steps = stage.transitions
        assert steps is not None
        assert steps.states is not None
        number = np.concatenate([[0], np.cumsum(steps.episode_ends)[:-1]])
        if of == "episodes":
            kept = (rng.random(number[-1] + 1) < share)[number]
        else:
            kept = rng.random(len(number)) < share
        counts = np.zeros_like(stage.counts)
        played = (steps.states[kept], *np.asarray(steps.joint_actions)[kept].T)
        np.add.at(counts, played, 1)
        stages.append(Stage(counts))
    return {"trace": LearningTrace(tuple(stages))}


def _shuffled(
    case: Case, game: MarkovGame, trace: LearningTrace, rng: np.random.Generator
) -> dict[str, Any]:
    n_stages = trace.n_stages
    orders = {
        "reversed": np.arange(n_stages)[::-1],
        "shuffled": rng.permutation(n_stages),
        "late-first": np.roll(np.arange(n_stages), n_stages // 2),
    }
    stages = [_counted(trace.stages[number]) for number in orders[case.fault]]
    return {"trace": LearningTrace(tuple(stages))}


_FAULTS: Mapping[str, Callable[..., dict[str, Any]]] = {
    "wrong-game": _wrong_game,
    "wrong-order": _wrong_order,
    "wrong-discount": _wrong_discount,
    "thinned": _thinned,
    "shuffled": _shuffled,
}
"""By kind. All other kinds hand over everything as it is."""


def cases(half: Half) -> Iterator[Case]:
    """The cases of one half, in a fixed order."""
    yield from _plan(half)


def _rng(name: str, seed: int) -> np.random.Generator:
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(crc32(name.encode()),)))


def _plan(half: Half) -> Iterator[Case]:
    for seed, (game, (own, _)) in enumerate(GAMES.items()):
        if own == half:
            yield from _of_game(half, game, seed)


def _of_game(half: Half, game: str, seed: int) -> Iterator[Case]:
    """Good cases of every learner; faults of every kind, in turn, with the first two learners.

    Of every two cases of a kind one has the full data, the other a tenth. A game of more than 50
    joint states, which takes long, has one case where others have two.
    """
    full, tenth = (Play(episode_length=length, seed=seed) for length in (1000, 100))
    sizes, covered, foreign = (full, tenth), _COVERED[half], _FOREIGN[half]
    small = GAMES[game][1](seed).n_states <= 50
    numbers = (0, 1) if small else (seed % 2,)
    for number, learner in enumerate(covered):
        for size in sizes if small else [sizes[number % 2]]:
            yield Case("good", half, game, learner, size)
    few = (replace(tenth, episodes=30), Play(4, 10, 50, seed=seed), Play(6, 10, 50, seed=seed))
    for number in numbers:
        learner = covered[(seed + number) % len(covered)]
        yield Case("little-data", half, game, learner, few[(seed + number) % len(few)])
        learner = foreign[(2 * seed + number) % len(foreign)]
        yield Case("no-rule", half, game, learner, sizes[number])
    for kind, faults in _FAULTS_OF[half].items():
        for number in numbers:
            fault = faults[(2 * seed + number) % len(faults)]
            size = sizes[(seed // 2 + number) % 2]
            yield Case(kind, half, game, covered[(seed + number) % 2], size, fault)


_COVERED: Mapping[Half, tuple[str, ...]] = {
    "tune": ("td", "exact", "npg-0.7", "q-learning", "q-learning-moving"),
    "report": ("td", "exact", "npg-0.3", "npg-0.9", "expected-sarsa", "decaying"),
}
_FOREIGN: Mapping[Half, tuple[str, ...]] = {
    "tune": ("static", "drift", "noise", "imitation", "changing"),
    "report": ("copying", "curious", "bandit", "myopic", "mixing"),
}
_FAULTS_OF: Mapping[Half, Mapping[str, tuple[str, ...]]] = {
    "tune": {
        "wrong-game": ("moved", "noisier", "renamed"),
        "wrong-order": ("permuted", "permuted-again"),
        "wrong-discount": ("0.5", "0.7", "0.97"),
        "thinned": ("0.1-steps", "0.1-episodes", "0.5-episodes"),
        "shuffled": ("reversed", "shuffled"),
        "other-observer": ("ma-lfl-state", "lfl"),
    },
    "report": {
        "wrong-game": ("moved", "without-chance", "renamed"),
        "wrong-order": ("permuted", "permuted-again"),
        "wrong-discount": ("0.3", "0.98"),
        "thinned": ("0.2-steps", "0.2-episodes"),
        "shuffled": ("shuffled", "late-first"),
        "other-observer": ("log-policy", "lfl", "maxent-irl", "trex"),
    },
}
