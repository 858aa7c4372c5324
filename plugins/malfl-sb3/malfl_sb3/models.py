"""Models and their environments, and the wrappers allowed between a model and its view."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any, Protocol, TypeAlias, runtime_checkable

import gymnasium
import numpy as np
import torch
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import (
    DummyVecEnv,
    VecCheckNan,
    VecEnvWrapper,
    VecMonitor,
    VecNormalize,
    VecTransposeImage,
)

from malfl_env.errors import InputError
from malfl_sb3.view import AgentView, AnyParallelEnv, MaskArray

__all__ = ["Actor", "Model", "ModelFactory", "build_model", "check_agents", "connected_view"]


@runtime_checkable
class Model(Protocol):
    """A stable-baselines3 model, or any object with its `predict`."""

    def predict(self, observation: Any, *, deterministic: bool) -> tuple[Any, Any]:
        """Return an action, and the state of a recurrent policy."""
        ...


ModelFactory: TypeAlias = Callable[[AgentView], BaseAlgorithm]

# These wrappers change neither actions nor the observations that an `Actor` hands to a policy.
_GYM_WRAPPERS = (Monitor, gymnasium.RewardWrapper, gymnasium.wrappers.RecordEpisodeStatistics)
_VEC_WRAPPERS = (VecNormalize, VecMonitor, VecTransposeImage, VecCheckNan)


class Actor:
    """A model that acts by its present policy, as in training (`deterministic=False`).

    It carries the state of a recurrent policy through an episode, if `predict` takes `state`, and
    hands on action masks, if it takes `action_masks`.

    Args:
        model: a stable-baselines3 model, or another object with a method `predict`. If the model's
            environment normalises observations, so does the actor.
    """

    def __init__(self, model: Any) -> None:
        self._model = model
        self._state: Any = None
        parameters = inspect.signature(model.predict).parameters
        self._takes_masks = "action_masks" in parameters
        self._remembers = "state" in parameters

    def begin(self) -> None:
        """Forget the episode before."""
        self._state = None

    def act(self, observation: Any, mask: MaskArray | None = None) -> Any:
        """Draw an action.

        Args:
            observation: of the model's agent, from the parallel environment.
            mask: the legal actions, if the game tells them.
        """
        model = self._model
        if isinstance(model, BaseAlgorithm):
            normalise = model.get_vec_normalize_env()
            if normalise is not None:
                observation = normalise.normalize_obs(observation)
        options: dict[str, Any] = {}
        if self._remembers and self._state is not None:
            options = {"state": self._state, "episode_start": np.array([False])}
        if self._takes_masks and mask is not None:
            options["action_masks"] = mask
        action, self._state = model.predict(observation, deterministic=False, **options)
        return action


def check_agents(what: str, given: Mapping[Any, Any], agents: list[Any]) -> None:
    """Reject a mapping whose keys are not exactly these agents.

    Raises:
        InputError: names the missing or unknown agents.
    """
    missing = [agent for agent in agents if agent not in given]
    unknown = [agent for agent in given if agent not in agents]
    if missing or unknown:
        fault = f"lacks {missing}" if missing else f"has the unknown {unknown}"
        raise InputError(f"{what} {fault}; the agents are {agents}")


def build_model(agent: Any, given: BaseAlgorithm | ModelFactory, view: AgentView) -> BaseAlgorithm:
    """Return the model of an agent: the given one, or the one that a given factory builds.

    Raises:
        InputError: if the algorithm does not fit the agent's spaces, if the result is not a
            stable-baselines3 model, or if a given model has 64-bit parameters.
    """
    if isinstance(given, BaseAlgorithm):
        _check_single_precision(agent, given)
        return given
    if not callable(given):
        raise InputError(f"{agent}: expected a stable-baselines3 model or a factory, got {given!r}")
    try:
        model = given(view)
    except InputError:
        raise
    except (AssertionError, NotImplementedError, ValueError) as fault:  # how SB3 rejects spaces
        raise InputError(
            f"{agent}, with actions {view.action_space} and observations "
            f"{view.observation_space}: {fault}"
        ) from fault
    if not isinstance(model, BaseAlgorithm):
        raise InputError(f"{agent}: the factory must return a stable-baselines3 model, got {model}")
    return model


def _check_single_precision(agent: Any, model: BaseAlgorithm) -> None:
    """Reject 64-bit parameters: stable-baselines3 hands 32-bit observations to the policy."""
    if any(parameter.dtype == torch.float64 for parameter in model.policy.parameters()):
        raise InputError(
            f"{agent}: the model has float64 parameters, stable-baselines3 needs float32: build it "
            "under torch.set_default_dtype(torch.float32), or give a function that builds it"
        )


def connected_view(env: AnyParallelEnv, agent: Any, model: BaseAlgorithm) -> AgentView:
    """Return the view on which a model is built; a model without an environment gets one.

    The model begins a new episode when it learns next.

    Raises:
        InputError: if the model is not built on a view of this agent and environment, or if a
            wrapper between them may change actions or observations.
    """
    venv = model.get_env()
    if venv is None:
        try:
            model.set_env(AgentView(env, agent))
        except (AssertionError, ValueError) as fault:
            raise InputError(f"{agent}: the spaces of the model do not fit: {fault}") from fault
        venv = model.get_env()
        assert venv is not None
    else:
        model.set_env(venv)  # the next `learn` resets it
    if model.n_envs != 1:
        raise InputError(
            f"{agent}: the model has {model.n_envs} environments, must have 1; build it on one view"
        )
    base = venv.unwrapped
    inner: Any = base.envs[0] if isinstance(base, DummyVecEnv) else base
    view = inner.unwrapped
    if not isinstance(view, AgentView) or view.parallel_env is not env or view.agent != agent:
        raise InputError(
            f"{agent}: the model is built on {view}; build it on agent_views(env)[{agent!r}], "
            "where env is the one that is trained on"
        )
    while isinstance(venv, VecEnvWrapper):
        _check_wrapper(agent, venv, _VEC_WRAPPERS)
        venv = venv.venv
    while isinstance(inner, gymnasium.Wrapper):
        _check_wrapper(agent, inner, _GYM_WRAPPERS)
        inner = inner.env
    return view


def _check_wrapper(agent: Any, wrapper: Any, allowed: tuple[type, ...]) -> None:
    if not isinstance(wrapper, allowed):
        names = ", ".join(kind.__name__ for kind in _GYM_WRAPPERS + _VEC_WRAPPERS)
        raise InputError(
            f"{agent}: the wrapper {type(wrapper).__name__} is between the model and its view "
            f"(allowed: {names}). Wrap the parallel environment instead, for example with SuperSuit"
        )
