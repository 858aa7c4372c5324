"""Unmodified stable-baselines3 algorithms, one per agent, on one shared parallel environment."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from itertools import islice
from types import TracebackType
from typing import Any, Literal, get_args

import numpy as np
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.type_aliases import MaybeCallback

from malfl_env.errors import InputError
from malfl_sb3.game import SharedGame
from malfl_sb3.models import ModelFactory, build_model, check_agents, connected_view
from malfl_sb3.randomness import RandomStreams, torch_settings
from malfl_sb3.schedules import ENVIRONMENT, Players, alternating, simultaneous
from malfl_sb3.turn_taking import LearnerThread, Reset, Step
from malfl_sb3.view import AnyParallelEnv, StepResult, agent_views

__all__ = ["IndependentTraining", "Mode", "train_independent"]

Mode = Literal["simultaneous", "alternating"]

_LEARN_OPTIONS = ("log_interval", "progress_bar", "reset_num_timesteps")


def train_independent(
    env: AnyParallelEnv,
    models: Mapping[Any, BaseAlgorithm | ModelFactory],
    *,
    total_timesteps: int,
    rng: np.random.Generator,
    callbacks: Mapping[Any, MaybeCallback] | None = None,
    mode: Mode = "simultaneous",
    turn_timesteps: int | None = None,
    timeout: float | None = 600.0,
    threads: int | None = 1,
    **learn_options: Any,
) -> dict[Any, BaseAlgorithm]:
    """Let every agent learn by its own stable-baselines3 algorithm.

    The other agents are part of each algorithm's environment. Every `learn` runs on its own thread.
    The threads take turns in agent order, one at a time, so that one seed gives the same result to
    the bit, on one type of machine with the same versions.

    Args:
        env: a PettingZoo parallel environment whose agents begin and end together.
        models: per agent a model built on its view (`agent_views(env)[agent]`), a model without an
            environment (a loaded one), or a function that builds a model on a view.
        total_timesteps: steps from which each agent learns, >= 1. An algorithm may round it up, as
            PPO does to whole rollouts.
        rng: determines every later draw, also those of factories. The global generators of torch,
            NumPy and Python, and torch's default dtype and device, are restored afterwards.
        callbacks: per agent, the callback of `learn`. A callback that returns False ends the
            learning of its own agent.
        mode: "simultaneous": all agents learn from the same steps; an agent that has finished acts
            by its last policy until all have finished. "alternating": the agents take turns; the
            other agents act by their present policies, which do not change.
        turn_timesteps: steps per turn, >= 1; only for "alternating".
        timeout: seconds that a learner may take between two steps, with its updates; None: no
            limit.
        threads: number of torch's threads in training; None: unchanged.
        **learn_options: `log_interval`, `progress_bar`, `reset_num_timesteps`, for every `learn`.
            TensorBoard runs are named after the agent.

    Returns:
        The models by agent. They have learned in place.

    Raises:
        InputError: before training, for an environment, model, callback or option that does not
            fit; in training, at the first step at which some agents end and others do not.
        TimeoutError: if a learner takes too long.
        BaseException: an exception of a learner, with a note that names its agent. After any
            exception all learners and their threads have ended, and env may be used again.
    """
    with IndependentTraining(
        env,
        models,
        total_timesteps=total_timesteps,
        rng=rng,
        callbacks=callbacks,
        mode=mode,
        turn_timesteps=turn_timesteps,
        timeout=timeout,
        threads=threads,
        **learn_options,
    ) as training:
        training.advance()
    return training.models


class IndependentTraining:
    """The training of `train_independent`, which can be paused between two steps of the game.

    During a pause all learners wait, all due updates have been made, and the policies can be read.
    The context manager, or `close`, ends the threads.

    Args:
        env, models, total_timesteps, rng, callbacks, mode, turn_timesteps, timeout, threads,
            **learn_options: as in `train_independent`.
    """

    models: dict[Any, BaseAlgorithm]

    def __init__(
        self,
        env: AnyParallelEnv,
        models: Mapping[Any, BaseAlgorithm | ModelFactory],
        *,
        total_timesteps: int,
        rng: np.random.Generator,
        callbacks: Mapping[Any, MaybeCallback] | None = None,
        mode: Mode = "simultaneous",
        turn_timesteps: int | None = None,
        timeout: float | None = 600.0,
        threads: int | None = 1,
        **learn_options: Any,
    ) -> None:
        views = agent_views(env)
        agents = list(views)
        callbacks = dict(callbacks or {})
        check_agents("models", models, agents)
        check_agents("callbacks", {**dict.fromkeys(agents), **callbacks}, agents)
        _check_options(rng, total_timesteps, mode, turn_timesteps, timeout, learn_options)
        own_rng = np.random.default_rng(int(rng.integers(2**63)))
        self._torch_threads = threads
        self._streams = RandomStreams([ENVIRONMENT, *agents], own_rng)
        self.models = {}
        with self._in_place():
            for agent in agents:
                self._streams.use(agent)
                self.models[agent] = build_model(agent, models[agent], views[agent])
        self._views = {
            agent: connected_view(env, agent, model) for agent, model in self.models.items()
        }
        for agent, view in self._views.items():
            if view.seat is not None:
                raise InputError(f"{agent}: its view is in use by another training; close that one")
        self._threads: dict[Any, LearnerThread] = {}
        for agent, model in self.models.items():
            model.action_space.seed(int(own_rng.integers(2**31)))
            work = partial(
                model.learn,
                total_timesteps,
                callback=callbacks.get(agent),
                tb_log_name=str(agent),
                **learn_options,
            )
            self._threads[agent] = LearnerThread(str(agent), work, timeout=timeout)
            self._views[agent].seat = _Seat(self._threads[agent])
        self._players = Players(SharedGame(env), self.models, self._threads, self._streams)
        self._steps = (
            simultaneous(self._players, own_rng)
            if turn_timesteps is None
            else alternating(self._players, own_rng, turn_timesteps=turn_timesteps)
        )

    @property
    def learning(self) -> list[Any]:
        """Agents that have not finished learning."""
        return self._players.learning

    def advance(self, steps: int | None = None) -> bool:
        """Play steps of the game until a pause, or until all agents have finished.

        Args:
            steps: number of steps of the game; alternating turns of all agents count together.
                None: until all agents have finished.

        Returns:
            Whether an agent is still learning.

        Raises:
            RuntimeError: if the training is closed.
            Others as `train_independent`; the training is then closed.
        """
        if not self._threads:
            raise RuntimeError("this training is closed")
        try:
            with self._in_place():
                self._streams.use(ENVIRONMENT)
                for _ in islice(self._steps, steps):
                    pass
        except BaseException:
            self.close()
            raise
        return bool(self.learning)

    def close(self) -> None:
        """End all learners. Their models keep their parameters."""
        threads, self._threads = self._threads, {}
        try:
            for thread in threads.values():  # in turn, so that one thread runs at a time
                thread.stop()
        finally:
            for view in self._views.values():
                view.seat = None

    def __enter__(self) -> IndependentTraining:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    @contextmanager
    def _in_place(self) -> Iterator[None]:
        with torch_settings(self._torch_threads), self._streams.in_place():
            yield


class _Seat:
    """Connects an agent, whose learner runs on a thread, to the shared game."""

    def __init__(self, thread: LearnerThread) -> None:
        self._thread = thread

    def reset(self, seed: int | None) -> tuple[Any, dict[str, Any]]:
        answer: tuple[Any, dict[str, Any]] = self._thread.ask(Reset())
        return answer

    def step(self, action: Any) -> StepResult:
        answer: StepResult = self._thread.ask(Step(action))
        return answer


def _check_options(
    rng: object,
    total_timesteps: object,
    mode: str,
    turn_timesteps: int | None,
    timeout: float | None,
    learn_options: Mapping[str, Any],
) -> None:
    if not isinstance(rng, np.random.Generator):
        raise InputError(
            f"rng must be a generator, such as numpy.random.default_rng(0), got {rng!r}"
        )
    _check_count("total_timesteps", total_timesteps)
    if mode not in get_args(Mode):
        raise InputError(f"mode must be one of {get_args(Mode)}, got {mode!r}")
    if mode == "alternating":
        _check_count("turn_timesteps", turn_timesteps)
    elif turn_timesteps is not None:
        raise InputError("turn_timesteps is allowed in the mode 'alternating' only")
    if timeout is not None and not timeout > 0:
        raise InputError(f"timeout must be None or a number of seconds > 0, got {timeout!r}")
    for name in learn_options:
        if name not in _LEARN_OPTIONS:
            raise InputError(f"unknown option {name!r} (allowed: {', '.join(_LEARN_OPTIONS)})")


def _check_count(name: str, value: object) -> None:
    if not isinstance(value, (int, np.integer)) or isinstance(value, bool) or value < 1:
        raise InputError(f"{name} must be a whole number >= 1, got {value!r}")
