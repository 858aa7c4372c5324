"""Play a stage of a tabular game: episodes under fixed policies, with every agent's TD updates.

Compiled with numba. The random stream is SplitMix64 (Steele, Lea, Flood 2014): draw k of a seed is
a mix of seed + (k + 1) * golden, so the stream needs no stored state. A step takes one 64-bit
draw per agent (its upper half chooses the action played, its lower half the bootstrap action), then
one per factor whose dynamics are stochastic.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from malfl_algos.trace import NextStateCounts, Stage, Transitions
from malfl_algos.work.compilation import compiled, splitmix64
from malfl_env import markov_game
from malfl_env.arguments import Discount, Index, Temperature, typed
from malfl_env.checks import check_table_bytes
from malfl_env.errors import InputError
from malfl_env.markov_game import Factor, MarkovGame

__all__ = [
    "StageSample",
    "choose",
    "episode_starts",
    "factor_tables",
    "observed_stage",
    "playable_factors",
    "reward_tables",
    "sample_stage",
    "table_of_visits",
    "tabular_game",
    "thresholds",
]

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

MERGED_ENTRIES = 2**22
"""A deterministic game with at most this many (joint state, joint action) pairs is played from one
joint table, which is faster than factor by factor."""


@typed
@dataclass(frozen=True, eq=False)
class StageSample:
    """The result of `sample_stage`.

    Args:
        joint_counts: int64 `(n_states, *n_actions)`.
        q: per agent `(n_states, n_actions)`: its action values after the last TD update.
        steps: if kept: joint states, joint action numbers and next joint states, int64
            `(n_steps,)`, and whether the step is the last of its episode.
    """

    joint_counts: IntArray
    q: tuple[FloatArray, ...]
    steps: tuple[IntArray, IntArray, IntArray, NDArray[np.bool_]] | None


def tabular_game(env: Any) -> MarkovGame | None:
    """The tabular model of an environment (see `malfl_env.markov_game`); None if it has none.

    Args:
        env: a PettingZoo parallel environment; a wrapped one is looked into.

    Raises:
        InputError: for a model that does not fit the environment.
    """
    has_model = callable(getattr(getattr(env, "unwrapped", env), "markov_game", None))
    return markov_game(env) if has_model else None


def table_of_visits(env: Any) -> MarkovGame:
    """The tabular model of an environment whose visits are to be counted.

    Raises:
        InputError: for an environment without a tabular model (continuous actions, non-enumerable
            joint states, agents that end at different times), or with more joint states and actions
            than fit into a table.
    """
    game = markov_game(env)
    check_table_bytes(
        8 * game.n_states * math.prod(game.n_actions),
        f"the visits of {game.n_states} joint states and their joint actions",
    )
    return game


@typed
def sample_stage(
    game: MarkovGame,
    log_policies: Sequence[FloatArray],
    *,
    seed: Index,
    episodes: Index,
    episode_length: Index,
    discount: Discount,
    temperature: Temperature,
    step_size: float,
    keep_steps: bool,
) -> StageSample:
    """Play a stage and run the paper's TD updates at every step.

    q^i starts at 0; at every step, for every agent in order,
    q(s, a) += beta (r + gamma (q(s', b) - alpha log pi(b | s')) - q(s, a)), b drawn anew from
    pi(s').

    Args:
        game: dynamics and rewards.
        log_policies: log pi `(n_states, n_actions)` per agent.
        seed: seed of the random stream, 0 .. 2**64 - 1.
        episodes: number of episodes; each begins where `episode_starts` says.
        episode_length: steps per episode.
        discount: gamma in [0, 1).
        temperature: alpha > 0.
        step_size: beta in [0, 1]; 0 plays the stage and leaves q at 0.
        keep_steps: whether to return the steps.

    Returns:
        Counts, action values and, if requested, the steps. The same arguments give the same bytes.
    """
    expected = [(game.n_states, n_actions) for n_actions in game.n_actions]
    found = [own.shape for own in log_policies]
    if found != expected:
        raise InputError(f"log_policies must have the shapes {expected}, got {found}")
    widest = max(game.n_actions)
    limits = np.full((game.n_agents, game.n_states, widest - 1), 2**32, dtype=np.uint64)
    bonus = np.zeros((game.n_agents, game.n_states, widest))
    for index, log_policy in enumerate(log_policies):
        n_own = game.n_actions[index]
        limits[index, :, : n_own - 1] = thresholds(np.exp(log_policy))
        with np.errstate(invalid="ignore"):
            bonus[index, :, :n_own] = temperature * log_policy
    tables = factor_tables(playable_factors(game), game.n_actions)
    q = np.zeros((game.n_agents, game.n_states, widest))
    n_joint = int(np.prod(game.n_actions))
    counts = np.zeros((game.n_states, n_joint), dtype=np.int64)
    steps = np.empty((3, episodes * episode_length if keep_steps else 0), dtype=np.int64)
    _play(
        np.uint64(seed),
        game.n_actions,
        episode_starts(game, episodes, seed),
        limits,
        bonus,
        reward_tables(game),
        *tables,
        (episodes, episode_length),
        (discount, step_size),
        q,
        counts,
        steps,
    )
    kept = None
    if keep_steps:
        ends = np.arange(1, steps.shape[1] + 1) % episode_length == 0
        kept = (steps[0], steps[1], steps[2], ends)
    return StageSample(
        counts.reshape(game.n_states, *game.n_actions),
        tuple(q[index, :, :n].copy() for index, n in enumerate(game.n_actions)),
        kept,
    )


@typed
def observed_stage(
    game: MarkovGame, sample: StageSample, *, keep_transitions: bool, complete: bool
) -> Stage:
    """Make the stage of a trace from a sample.

    Args:
        game: the game that was played.
        sample: of the stage; with steps if the game is stochastic or the steps are kept.
        keep_transitions: whether the stage holds the ordered steps.
        complete: whether the learners learned from exactly these steps.

    Returns:
        A stage with counts, counts of next states if the game is stochastic, and steps if kept.

    Raises:
        InputError: for a sample without steps that are needed.
    """
    if sample.steps is None:
        if keep_transitions or not game.deterministic:
            raise InputError("the sample holds no steps: draw it with keep_steps=True")
        return Stage(sample.joint_counts)
    states, joint_actions, next_states, episode_ends = sample.steps
    seen = None
    if not game.deterministic:
        rows = states * int(np.prod(game.n_actions)) + joint_actions
        seen = NextStateCounts.of_steps(rows, next_states, (game.n_states, *game.n_actions))
    transitions = None
    if keep_transitions:
        n_joint = int(np.prod(game.n_actions))
        own = np.stack(np.unravel_index(np.arange(n_joint), game.n_actions), axis=-1)
        transitions = Transitions(
            states=_narrow(states, game.n_states),
            joint_actions=_closed(
                np.take(_narrow(own, max(game.n_actions)), joint_actions, axis=0)
            ),
            next_states=_narrow(next_states, game.n_states),
            episode_ends=episode_ends,
            complete=complete,
        )
    return Stage(sample.joint_counts, seen, transitions)


def episode_starts(game: MarkovGame, episodes: int, seed: int) -> IntArray:
    """Joint states in which the episodes of a stage begin, int64 `(episodes,)`.

    They are drawn from a random stream of their own if the game's start is not fixed.
    """
    return game.drawn_starts(episodes, np.random.default_rng([seed, 1]))


def thresholds(probabilities: FloatArray) -> NDArray[np.uint64]:
    """Integer cut points of a 32-bit draw u: the choice is the number of cut points <= u.

    Args:
        probabilities: `(..., n)`, rows sum to 1.

    Returns:
        uint64 `(..., n - 1)`, in 0 .. 2**32. A choice of probability 0 is never made; others are
        made with their probability to 2**-32.
    """
    edges = np.cumsum(probabilities, axis=-1)[..., :-1]
    return np.minimum(np.rint(edges * 2.0**32), 2.0**32).astype(np.uint64)


def playable_factors(game: MarkovGame) -> tuple[Factor, ...]:
    """The game's factors, merged into one joint table if it is deterministic and small."""
    pairs = game.n_states * int(np.prod(game.n_actions))
    if len(game.factors) == 1 or not game.deterministic or pairs > MERGED_ENTRIES:
        return game.factors
    table = game.next_states[..., None]
    return (Factor(tuple(range(game.n_agents)), table, np.ones(table.shape)),)


def reward_tables(game: MarkovGame) -> FloatArray:
    """Rewards, `(n_agents, n_states, 1)`, or `(n_agents, n_states, n_joint_actions)` if needed."""
    tables = [game.reward(index).reshape(game.n_states, -1) for index in range(game.n_agents)]
    width = max(table.shape[1] for table in tables)
    return np.stack([np.broadcast_to(table, (game.n_states, width)) for table in tables])


def factor_tables(
    factors: Sequence[Factor], n_actions: tuple[int, ...]
) -> tuple[IntArray, IntArray, IntArray, NDArray[np.uint64]]:
    """Factors as padded arrays, for the compiled loop.

    Returns each factor's number of local states `(F,)`; the stride of each agent's action in each
    factor's action number `(F, n_agents)`; local next states `(F, n_local, n_actions, width)`; and
    the cut points over them `(F, n_local, n_actions, width - 1)`.
    """
    flat = [f.successors.reshape(f.n_local, -1, f.successors.shape[-1]) for f in factors]
    shape = tuple(max(table.shape[axis] for table in flat) for axis in range(3))
    successors = np.zeros((len(factors), *shape), dtype=np.int64)
    limits = np.full((len(factors), *shape[:2], shape[2] - 1), 2**32, dtype=np.uint64)
    strides = np.zeros((len(factors), len(n_actions)), dtype=np.int64)
    for position, (factor, table) in enumerate(zip(factors, flat, strict=True)):
        n_local, n_own, width = table.shape
        successors[position, :n_local, :n_own, :width] = table
        probabilities = factor.probabilities.reshape(table.shape)
        limits[position, :n_local, :n_own, : width - 1] = thresholds(probabilities)
        stride = 1
        for agent in reversed(factor.agents):
            strides[position, agent] = stride
            stride *= n_actions[agent]
    return np.array([f.n_local for f in factors]), strides, successors, limits


def _narrow(numbers: NDArray[Any], limit: int) -> NDArray[Any]:
    """The numbers, all below `limit`, in the smallest unsigned type that holds them."""
    return _closed(numbers.astype(np.min_scalar_type(limit - 1)))


def _closed(array: NDArray[Any]) -> NDArray[Any]:
    """The same array, made read-only, so that a trace does not copy it."""
    array.flags.writeable = False
    return array


@compiled(inline="always")
def choose(limits: Any, draw: Any) -> Any:  # pragma: no cover
    """Number of cut points that a 32-bit draw has reached."""
    choice = 0
    for k in range(limits.shape[0]):
        choice += draw >= limits[k]
    return choice


@compiled()
def _play(  # noqa: PLR0917 - a compiled loop takes plain arrays
    state: Any,
    n_actions: Any,
    starts: Any,
    limits: Any,
    bonus: Any,
    rewards: Any,
    n_local: Any,
    strides: Any,
    successors: Any,
    successor_limits: Any,
    lengths: Any,
    rates: Any,
    q: Any,
    counts: Any,
    steps: Any,
) -> None:  # pragma: no cover
    golden, low, half = np.uint64(0x9E3779B97F4A7C15), np.uint64(0xFFFFFFFF), np.uint64(32)
    episodes, episode_length = lengths
    discount, step_size = rates
    n_agents, n_factors = len(n_actions), n_local.shape[0]
    stochastic = successor_limits.shape[3] > 0
    draws = np.zeros(n_agents, dtype=np.uint64)
    actions = np.zeros(n_agents, dtype=np.int64)
    step = 0
    for episode in range(episodes):
        s = starts[episode]
        for _ in range(episode_length):
            joint = 0
            for i in range(n_agents):
                state += golden
                draws[i] = splitmix64(state)
                actions[i] = choose(limits[i, s], draws[i] >> half)
                joint = joint * n_actions[i] + actions[i]
            t, rest, scale = 0, s, 1
            for position in range(n_factors):
                f = n_factors - 1 - position
                local = rest % n_local[f]
                rest = rest // n_local[f]
                own = 0
                for i in range(n_agents):
                    own += strides[f, i] * actions[i]
                k = 0
                if stochastic:
                    state += golden
                    k = choose(successor_limits[f, local, own], splitmix64(state) >> half)
                t += scale * successors[f, local, own, k]
                scale *= n_local[f]
            for i in range(n_agents):
                b = choose(limits[i, t], draws[i] & low)
                r = rewards[i, s, joint if rewards.shape[2] > 1 else 0]
                target = r + discount * (q[i, t, b] - bonus[i, t, b])
                q[i, s, actions[i]] += step_size * (target - q[i, s, actions[i]])
            counts[s, joint] += 1
            if steps.shape[1] > 0:
                steps[0, step], steps[1, step], steps[2, step] = s, joint, t
                step += 1
            s = t
