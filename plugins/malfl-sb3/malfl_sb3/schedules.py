"""Schedules of training: all agents learn at once, or one at a time among fixed partners.

A schedule is a generator that yields after every step of the game. Between two yields every learner
waits. The schedule runs in the caller's thread and drives the learners' threads and the game.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from copy import deepcopy
from typing import Any

import numpy as np
from gymnasium.utils.env_checker import data_equivalence
from stable_baselines3.common.base_class import BaseAlgorithm

from malfl_env.errors import InputError
from malfl_sb3.game import SharedGame
from malfl_sb3.models import Actor
from malfl_sb3.randomness import RandomStreams
from malfl_sb3.turn_taking import Failed, Finished, LearnerThread, Request, Reset, Step
from malfl_sb3.view import StepResult

__all__ = ["ENVIRONMENT", "Players", "alternating", "named", "simultaneous"]

ENVIRONMENT = "malfl_sb3 environment"
"""Name of the random stream of environments that use the global generators."""


class Players:
    """The learners of a game and the game itself.

    Args:
        game: the shared game.
        models: per agent, in agent order.
        threads: per agent, the thread of its learner.
        streams: of random numbers, one per agent and `ENVIRONMENT`.
    """

    def __init__(
        self,
        game: SharedGame,
        models: Mapping[Any, BaseAlgorithm],
        threads: Mapping[Any, LearnerThread],
        streams: RandomStreams,
    ) -> None:
        self.game = game
        self._actors = {agent: Actor(model) for agent, model in models.items()}
        self._threads = threads
        self._streams = streams
        self._requests: dict[Any, Request] = {}

    @property
    def learning(self) -> list[Any]:
        """Agents that have not finished, in agent order."""
        return [
            agent
            for agent in self.game.agents
            if not isinstance(self._requests.get(agent), Finished)
        ]

    def reset(self, seed: int | None = None) -> dict[Any, tuple[Any, dict[str, Any]]]:
        """Begin an episode of the game; return observation and info per agent."""
        for actor in self._actors.values():
            actor.begin()
        return self.game.reset(seed)

    def resume(self, agent: Any, answer: Any = None, *, until: type[Reset] | type[Step]) -> None:
        """Let a learner run until it sends the expected request, or finishes.

        Raises:
            BaseException: the learner's own exception, with a note that names the agent.
            RuntimeError: if it sends an unexpected request.
        """
        self._streams.use(agent)
        request = self._threads[agent].resume(answer)
        self._streams.use(ENVIRONMENT)
        self._requests[agent] = request
        if isinstance(request, Failed):
            raise named(request.error, agent)
        if isinstance(request, Reset) and until is Step:
            raise RuntimeError(
                f"the learner of {agent} asked for a new episode in the middle of one. Its view "
                "is in training; evaluate on a separate environment: see partner_view"
            )
        if isinstance(request, Step) and until is Reset:
            raise RuntimeError(f"the learner of {agent} went on after the end of an episode")

    def action(self, agent: Any) -> Any:
        """Return the action that an agent's learner has chosen; the learner is waiting."""
        request = self._requests[agent]
        assert isinstance(request, Step)
        return request.action

    def policy_action(self, agent: Any) -> Any:
        """Draw an action from the present policy of an agent whose learner is paused."""
        self._streams.use(agent)
        action = self._actors[agent].act(self.game.observations[agent], self.game.mask(agent))
        self._streams.use(ENVIRONMENT)
        return action


def simultaneous(players: Players, rng: np.random.Generator) -> Iterator[None]:
    """Let all agents learn at once, from the same steps.

    A learner that has finished, or was stopped by a callback, acts by its last policy until all
    have finished.

    Args:
        players: learners that have not begun.
        rng: seeds the game, once.
    """
    game = players.game
    for agent in game.agents:
        players.resume(agent, until=Reset)
    _begin_episode(players, seed=_seed(rng))
    while learning := players.learning:
        actions = {
            agent: players.action(agent) if agent in learning else players.policy_action(agent)
            for agent in game.agents
        }
        results = game.step(actions)
        over = any(_over(result) for result in results.values())  # then for all of them
        for agent in learning:
            players.resume(agent, results[agent], until=Reset if over else Step)
        if over:
            _begin_episode(players, seed=None)
        yield


def alternating(
    players: Players, rng: np.random.Generator, *, turn_timesteps: int
) -> Iterator[None]:
    """Let the agents take turns: one learns, the others act by their fixed policies.

    Every turn begins a new episode. If a turn ends within an episode, its learner sees a time
    limit. It makes its due updates before the next turn begins.

    Args:
        players: learners that have not begun.
        rng: seeds the game at the beginning of every turn.
        turn_timesteps: steps per turn.
    """
    turns = {}
    for agent in players.game.agents:
        players.resume(agent, until=Reset)
        turns[agent] = _Turn(players, agent, rng)
    while learning := players.learning:
        for agent in learning:
            yield from turns[agent].play(turn_timesteps)


class _Turn:
    """The turns of one agent.

    At the end of its turn a learner asks for a new episode, makes its updates and chooses its first
    action. It is therefore given the beginning of the episode of its next turn: the game is reset
    with one seed twice, now and when that turn begins.
    """

    def __init__(self, players: Players, agent: Any, rng: np.random.Generator) -> None:
        self._players = players
        self._agent = agent
        self._rng = rng
        self._announce()

    def _announce(self) -> None:
        self._next_seed = _seed(self._rng)
        start = self._players.reset(self._next_seed)[self._agent]
        self._shown = deepcopy(start[0])
        self._players.resume(self._agent, start, until=Step)

    def play(self, timesteps: int) -> Iterator[None]:
        players, agent = self._players, self._agent
        start = players.reset(self._next_seed)[agent]
        if not data_equivalence(start[0], self._shown, exact=True):
            raise InputError(
                "taking turns needs an environment whose reset(seed) always begins the same "
                f"episode; with seed {self._next_seed} the first observation of {agent} was "
                f"{self._shown}, then {start[0]}"
            )
        for step in range(1, timesteps + 1):
            actions = {
                other: players.action(agent) if other == agent else players.policy_action(other)
                for other in players.game.agents
            }
            result = players.game.step(actions)[agent]
            over, last = _over(result), step == timesteps
            if last and not over:
                result = (*result[:3], True, result[4])
            players.resume(agent, result, until=Reset if over or last else Step)
            if agent in players.learning:
                if last:
                    self._announce()
                elif over:
                    players.resume(agent, players.reset()[agent], until=Step)
            yield
            if agent not in players.learning:
                return


def _begin_episode(players: Players, *, seed: int | None) -> None:
    start = players.reset(seed)
    for agent in players.learning:
        players.resume(agent, start[agent], until=Step)


def _over(result: StepResult) -> bool:
    return result[2] or result[3]


def _seed(rng: np.random.Generator) -> int:
    return int(rng.integers(2**31))


def named(error: BaseException, agent: Any) -> BaseException:
    """Return a learner's exception with a note that names its agent."""
    note = f"raised by the learner of {agent}; the training of all agents was stopped"
    if hasattr(error, "add_note"):
        error.add_note(note)
    else:  # Python 3.10
        error.__notes__ = [*getattr(error, "__notes__", []), note]
    return error
