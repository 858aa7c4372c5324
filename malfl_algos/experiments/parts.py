"""The parts that a configuration names: learner, observers and the states that count."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from malfl_algos.contract import Learner, Observer
from malfl_algos.experiments.config import ExperimentConfig, PluginConfig
from malfl_algos.plugins.loading import Kind, Plugin, find_plugin, make_plugin, plugin_class
from malfl_algos.plugins.options import option_hints
from malfl_env import MarkovGame
from malfl_env.errors import InputError

__all__ = [
    "check_parts",
    "make_learner",
    "make_observer",
    "needs_transitions",
    "reachable_states",
]


def make_learner(config: ExperimentConfig, *, seed: int, keep_transitions: bool) -> Learner:
    """The learner of a run, options left out filled from the experiment."""
    made = _make(
        "learner", config.learner, config, {"seed": seed, "keep_transitions": keep_transitions}
    )
    assert isinstance(made, Learner)
    return made


def make_observer(config: ExperimentConfig, observer: PluginConfig, *, seed: int) -> Observer:
    """An observer of a run, options left out filled from the experiment."""
    made = _make("observer", observer, config, {"seed": seed})
    assert isinstance(made, Observer)
    return made


def needs_transitions(config: ExperimentConfig) -> bool:
    """Whether any observer needs the steps in their order."""
    return any(
        getattr(plugin_class(find_plugin("observer", observer.name)), "needs_transitions", False)
        for observer in config.observers
    )


def check_parts(config: ExperimentConfig) -> list[tuple[PluginConfig, Plugin]]:
    """Build every part once, so that nothing is written before all of it is known to fit.

    Returns:
        The learner and the observers, each with the plugin that was found for it.

    Raises:
        InputError, PluginError: naming the part at fault.
    """
    games = [config.markov_game(family) for family in config.reward_families]
    seed = config.seeds[0]
    keep = needs_transitions(config)
    learner = make_learner(config, seed=seed, keep_transitions=keep)
    if keep and getattr(learner, "keep_transitions", True) is False:
        raise InputError("learner: keep_transitions is false, but an observer needs transitions")
    found = [(config.learner, find_plugin("learner", config.learner.name))]
    for observer in config.observers:
        made = make_observer(config, observer, seed=seed)
        if hasattr(made, "check_size"):
            _check_size(made, observer.label, games[0], config.iterations)
        found.append((observer, find_plugin("observer", observer.name)))
    return found


def _check_size(observer: Any, label: str, game: MarkovGame, n_stages: int) -> None:
    try:
        observer.check_size(game.n_states, game.n_actions, n_stages)
    except InputError as fault:
        raise InputError(f"observer {label}: {fault}") from None


def reachable_states(game: MarkovGame) -> NDArray[np.bool_]:
    """Joint states that can occur, bool `(n_states,)`: not on walls, nor in cells behind them.

    A joint state counts when each of its local states can be reached within its own factor.
    """
    start = game.local_states(game.start)
    occurs = np.ones(1, dtype=bool)
    for factor, local in zip(game.factors, start, strict=True):
        reached = np.zeros(factor.n_local, dtype=bool)
        frontier = np.array([local])
        while len(frontier):
            reached[frontier] = True
            possible = factor.successors[frontier][factor.probabilities[frontier] > 0]
            frontier = np.unique(possible[~reached[possible]])
        occurs = (occurs[:, None] & reached).ravel()
    return occurs


def _make(
    kind: Kind, wanted: PluginConfig, config: ExperimentConfig, further: dict[str, Any]
) -> Learner | Observer:
    plugin = find_plugin(kind, wanted.name)
    values = {
        "discount": config.discount,
        "temperature": config.temperature,
        "episodes": config.episodes,
        "episode_length": config.episode_length,
        **further,
    }
    known = option_hints(plugin_class(plugin))
    filled = {key: value for key, value in values.items() if key in known}
    return make_plugin(plugin, {**filled, **wanted.options})
