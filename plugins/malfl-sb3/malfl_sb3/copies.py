"""Independent learners on many copies of one game, which are stepped side by side.

A learner chooses its actions in all copies with one call of its network, and games that are arrays
(`malfl_algos.play.Games`) make the step of all copies at once. The algorithms are unmodified:
stable-baselines3 itself learns from several copies.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from functools import partial
from types import TracebackType
from typing import Any

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.vec_env import VecEnv

from malfl_algos.play import Games
from malfl_env.errors import InputError
from malfl_sb3.models import check_agents
from malfl_sb3.randomness import RandomStreams, torch_settings
from malfl_sb3.schedules import ENVIRONMENT, named
from malfl_sb3.turn_taking import Failed, LearnerThread, Request, Reset, Step

__all__ = ["AgentColumn", "CopiesTraining"]

Answer = tuple[NDArray[Any], NDArray[np.float32], NDArray[np.bool_], list[dict[str, Any]]]


class AgentColumn(VecEnv):
    """One agent's view of all copies of a game, as a vector environment of stable-baselines3.

    Args:
        games: the copies.
        index: of the agent.
    """

    def __init__(self, games: Games, index: int) -> None:
        self.render_mode = None
        self.agent = games.agents[index]
        self.thread: LearnerThread | None = None
        self._actions: NDArray[Any] = np.zeros(0)
        own = deepcopy(games.spaces[index])
        super().__init__(games.n_games, own, spaces.Discrete(games.n_actions[index]))

    def reset(self) -> Any:
        return self._ask(Reset())

    def step_async(self, actions: NDArray[Any]) -> None:
        self._actions = actions

    def step_wait(self) -> Any:
        return self._ask(Step(self._actions))

    def close(self) -> None:
        """Do nothing: the games belong to the training."""

    def get_attr(self, attr_name: str, indices: Any = None) -> list[Any]:
        return [getattr(self, attr_name)] * len(self._chosen(indices))

    def set_attr(self, attr_name: str, value: Any, indices: Any = None) -> None:
        raise AttributeError(f"the copies of a game share {attr_name}, which cannot be set")

    def env_method(self, method_name: str, *args: Any, indices: Any = None, **kwargs: Any) -> Any:
        raise AttributeError(f"the view of {self.agent} has no method {method_name}")

    def env_is_wrapped(self, wrapper_class: Any, indices: Any = None) -> list[bool]:
        return [False] * len(self._chosen(indices))

    def _chosen(self, indices: Any) -> Sequence[int]:
        return list(self._get_indices(indices))

    def _ask(self, request: Request) -> Any:
        if self.thread is None:
            raise RuntimeError(f"the view of {self.agent} can be used only while it is in training")
        return self.thread.ask(request)


class CopiesTraining:
    """Independent learners on copies of a game; the training can be paused.

    All agents learn from the same steps of all copies. The context manager, or `close`, ends the
    learners' threads.

    Args:
        games: the copies; the episodes of all copies must end at the same step.
        models: per agent a function that builds a model on its `AgentColumn`.
        total_timesteps: steps from which each agent learns, over all copies together.
        rng: determines everything that follows.
        threads: number of torch's threads in training; None: unchanged.
        timeout: seconds that a learner may take between two steps; None: no limit.

    Raises:
        InputError: if agents lack a model, or a name is unknown.
    """

    models: dict[Any, BaseAlgorithm]

    def __init__(
        self,
        games: Games,
        models: Mapping[Any, Callable[[AgentColumn], BaseAlgorithm]],
        *,
        total_timesteps: int,
        rng: np.random.Generator,
        threads: int | None = 1,
        timeout: float | None = 600.0,
    ) -> None:
        self._games, self._torch_threads = games, threads
        check_agents("models", models, list(games.agents))
        self._rng = np.random.default_rng(int(rng.integers(2**63)))
        self._streams = RandomStreams([ENVIRONMENT, *games.agents], self._rng)
        self._requests: dict[Any, Request] = {}
        self._threads: dict[Any, LearnerThread] = {}
        self.models = {}
        with torch_settings(threads), self._streams.in_place():
            for index, agent in enumerate(games.agents):
                self._streams.use(agent)
                column = AgentColumn(games, index)
                self.models[agent] = models[agent](column)
                work = partial(self.models[agent].learn, total_timesteps)
                self._threads[agent] = LearnerThread(str(agent), work, timeout=timeout)
                column.thread = self._threads[agent]

    def advance(self, steps: int) -> None:
        """Play a number of steps over all copies together, and make all updates that are due.

        Raises:
            InputError: for a number of steps that is no multiple of the number of copies, or if
                some copies end their episodes and others do not.
            RuntimeError: if the training is closed or its learners have finished.
            BaseException: an exception of a learner, with a note that names its agent. After any
                exception but the first the training is closed.
        """
        if not self._threads:
            raise RuntimeError("this training is closed")
        if steps % self._games.n_games:
            raise InputError(
                f"steps must be a multiple of the {self._games.n_games} copies, got {steps}"
            )
        try:
            with torch_settings(self._torch_threads), self._streams.in_place():
                self._streams.use(ENVIRONMENT)
                if not self._requests:
                    self._resume(dict.fromkeys(self._games.agents))
                    self._resume(self._begun())
                for _ in range(steps // self._games.n_games):
                    self._resume(self._stepped())
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """End all learners. Their models keep their parameters."""
        threads, self._threads = self._threads, {}
        for thread in threads.values():
            thread.stop()

    def __enter__(self) -> CopiesTraining:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _begun(self) -> dict[Any, NDArray[Any]]:
        """Begin an episode in all copies; return what each agent observes."""
        return dict(zip(self._games.agents, self._games.reset(self._rng), strict=True))

    def _stepped(self) -> dict[Any, Answer]:
        """Let all agents act in all copies; return per agent what `VecEnv.step_wait` returns."""
        games, actions = self._games, []
        for agent in games.agents:
            request = self._requests[agent]
            if not isinstance(request, Step):
                raise RuntimeError(f"the learner of {agent} has finished")
            actions.append(np.asarray(request.action))
        moved = games.step(np.arange(games.n_games), np.stack(actions, axis=1))
        over = moved.terminated | moved.truncated
        if over.any() and not over.all():
            raise InputError(
                f"the episodes of {int(over.sum())} of {games.n_games} copies ended before the "
                "others; give one copy, or a game whose episodes have one length"
            )
        begun = self._begun() if over.all() else {}
        answers = {}
        for index, agent in enumerate(games.agents):
            seen = moved.observations[index]
            infos: list[dict[str, Any]] = [{} for _ in range(games.n_games)]
            if begun:
                for info, last, cut in zip(infos, seen, moved.truncated, strict=True):
                    info |= {"terminal_observation": last, "TimeLimit.truncated": bool(cut)}
            paid = moved.rewards[:, index].astype(np.float32)
            answers[agent] = begun.get(agent, seen), paid, over.copy(), infos
        return answers

    def _resume(self, answers: Mapping[Any, Any]) -> None:
        """Give every learner its answer; each runs until it asks again, or has finished."""
        for agent, answer in answers.items():
            self._streams.use(agent)
            request = self._threads[agent].resume(answer)
            self._streams.use(ENVIRONMENT)
            self._requests[agent] = request
            if isinstance(request, Failed):
                raise named(request.error, agent)
