"""One cell of a grid: a learner learns once, and observers recover rewards from its trace.

`learn` and `observe` are the only places of the package that run a learner or an observer: `malfl
reproduce`, `malfl sweep`, `malfl learn`, `malfl recover` and the study all call them. The results
depend only on the configuration, the family and the seed: other cells, the order of the cells and
the number of workers do not matter.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from malfl_algos.contract import LearnedStage, Learner, Observer
from malfl_algos.experiments.config import ExperimentConfig, PluginConfig
from malfl_algos.experiments.perspectives import Recovered, recover
from malfl_algos.ground_truth import GroundTruth
from malfl_algos.ma_lfl.search import Memory, remembering
from malfl_algos.plugins.interruption import pass_interruption
from malfl_algos.plugins.loading import (
    Kind,
    Plugin,
    PluginFault,
    find_plugin,
    make_plugin,
    plugin_class,
)
from malfl_algos.plugins.options import option_hints
from malfl_algos.plugins.results import learned_stages
from malfl_algos.storage.origins import Origin
from malfl_algos.trace import LearningTrace
from malfl_algos.work.telling import say
from malfl_env import MarkovGame
from malfl_env.errors import InputError

__all__ = [
    "Learned",
    "Observation",
    "Recovered",
    "check_parts",
    "in_own_folder",
    "learn",
    "learner_rng",
    "make_learner",
    "make_observer",
    "needs_transitions",
    "observe",
    "recover",
]

FloatArray = NDArray[np.float64]
_FOLDERS = ("checkpoint_dir", "log_dir")


@dataclass(frozen=True, eq=False)
class Learned:
    """A cell after its learner has learned.

    Args:
        config: the experiment.
        family, seed: of the cell.
        trace: the data that observers may use.
        truth: the ground truth, which only scoring may use.
    """

    config: ExperimentConfig
    family: str
    seed: int
    trace: LearningTrace
    truth: GroundTruth

    @cached_property
    def game(self) -> MarkovGame:
        """The dynamics and the ground-truth rewards."""
        return self.config.markov_game(self.family)


@dataclass(frozen=True, eq=False)
class Observation:
    """What an observer recovered from a cell.

    Args:
        observer: the observer.
        recovered: its result from the whole trace.
        from_first: recovers from the given number of first stages. It raises `TooFewStages` if they
            are too few for the observer, and the exceptions of `observe`.
    """

    observer: Observer
    recovered: Recovered
    from_first: Callable[[int], Recovered]


def make_learner(config: ExperimentConfig, *, seed: int, keep_transitions: bool) -> Learner:
    """The learner of a run; options that are left out take the values of the experiment."""
    made = _make(
        "learner", config.learner, config, {"seed": seed, "keep_transitions": keep_transitions}
    )
    assert isinstance(made, Learner)
    return made


def make_observer(config: ExperimentConfig, observer: PluginConfig, *, seed: int) -> Observer:
    """An observer of a run; options that are left out take the values of the experiment."""
    made = _make("observer", observer, config, {"seed": seed})
    assert isinstance(made, Observer)
    return made


def needs_transitions(config: ExperimentConfig) -> bool:
    """Whether any observer needs the ordered steps."""
    return any(
        getattr(plugin_class(find_plugin("observer", observer.name)), "needs_transitions", False)
        for observer in config.observers
    )


def check_parts(config: ExperimentConfig) -> list[tuple[PluginConfig, Plugin]]:
    """Build every plugin once, so that a bad configuration is rejected before anything is written.

    Returns:
        The learner and the observers, each with its installed plugin.

    Raises:
        InputError, PluginError: naming the learner or observer at fault.
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


def learner_rng(family: str, seed: int) -> np.random.Generator:
    """The learner's random generator; it depends only on the family's name and the seed."""
    sequence = np.random.SeedSequence(seed, spawn_key=(crc32(family.encode()),))
    return np.random.default_rng(sequence)


def learn(
    config: ExperimentConfig,
    *,
    family: str | None = None,
    seed: int | None = None,
    keep_transitions: bool | None = None,
    learner: Learner | None = None,
    each: Callable[[], object] = lambda: None,
) -> Learned:
    """Let the learner of a configuration learn; keep its trace and the ground truth apart.

    Args:
        config: the experiment.
        family, seed: of the cell; None: the first of the configuration.
        keep_transitions: None: if an observer of the configuration needs them.
        learner: in place of the configuration's learner, for one that is not installed.
        each: called after every stage.

    Raises:
        InputError: from the learner, or if its stages lack the transitions that are to be kept.
        PluginFault: if its stages break the contract.
    """
    family = config.reward_families[0] if family is None else family
    seed = config.seeds[0] if seed is None else seed
    keep = needs_transitions(config) if keep_transitions is None else keep_transitions
    game = config.markov_game(family)
    if learner is None:
        placed = in_own_folder(config.learner, family, f"seed_{seed}", config.learner.label)
        learner = make_learner(replace(config, learner=placed), seed=seed, keep_transitions=keep)
    stages = []
    say(f"0 of {config.iterations} stages", 0.0)
    for stage in learned_stages(
        learner,
        config.environment(family),
        n_stages=config.iterations,
        rng=learner_rng(family, seed),
        by=f"learner {config.learner.label!r}",
        agents=game.agents,
        shape=(game.n_states, *game.n_actions),
    ):
        _check_usable(stage, config, keep=keep)  # at the first stage, not after the last
        stages.append(stage)
        each()
        say(f"{len(stages)} of {config.iterations} stages", len(stages) / config.iterations)
    trace = LearningTrace(
        tuple(stage.observed for stage in stages),
        game.agents,
        states=game.states,
        actions=game.actions,
    )
    truth = GroundTruth(
        rewards={agent: game.reward(index) for index, agent in enumerate(game.agents)},
        joint_policies={
            agent: np.stack([stage.joint_policy[agent] for stage in stages])
            for agent in game.agents
        },
        origin=Origin.of(
            trace, game, config.learners_discount, config.learners_temperature
        ).to_mapping(),
    )
    return Learned(config, family, seed, trace, truth)


def _check_usable(stage: LearnedStage, config: ExperimentConfig, *, keep: bool) -> None:
    """Reject a stage that an experiment cannot use."""
    if stage.observed.joint_counts is None:
        raise InputError(
            f"learner {config.learner.label!r} keeps observations and no counts of joint states, "
            "which an experiment needs: call its learn() from Python, save the trace, and use "
            "malfl recover"
        )
    if keep and stage.observed.transitions is None:
        raise InputError(
            f"an observer needs transitions, which learner {config.learner.label!r} does not keep"
        )


def observe(
    learned: Learned, plugin: PluginConfig, *, policies_known: bool = False, judged: bool = True
) -> Observation:
    """Let an observer recover rewards, from the perspective of the configuration.

    Args:
        learned: the cell.
        plugin: the observer.
        policies_known: whether an external observer knows all policies.
        judged: whether results have a verdict: that from the whole trace, and those from fewer
            stages where a verdict costs little.

    Raises:
        InputError: from the observer.
        PluginFault: if its result breaks the contract.
    """
    config = learned.config
    known = policies_known or config.seat == "agent"
    place = (learned.family, f"seed_{learned.seed}", plugin.label)
    observer = make_observer(config, plugin, seed=learned.seed)

    def built(*further: str) -> Observer:
        return make_observer(config, in_own_folder(plugin, *place, *further), seed=learned.seed)

    memory: Memory = {}
    game = learned.game.without_rewards()

    def from_first(n_stages: int) -> Recovered:
        with remembering(memory):
            return recovered(n_stages)

    def recovered(n_stages: int) -> Recovered:
        whole = n_stages == learned.trace.n_stages
        stages = f"stages_{n_stages}"
        return recover(
            built(stages),
            learned.trace.first(n_stages),
            game=game,
            discount=config.discount,
            temperature=config.temperature,
            seat=config.seat,
            policies=learned.truth.joint_policies if known else None,
            by=f"observer {plugin.label!r}",
            judged=judged and (whole or getattr(observer, "cheap_verdict", False)),
            brief=True,
            of_agent=lambda agent: built(stages, agent),
        )

    return Observation(observer, from_first(learned.trace.n_stages), from_first)


def in_own_folder(plugin: PluginConfig, *place: str) -> PluginConfig:
    """The plugin with a `checkpoint_dir` and a `log_dir` of its own.

    So no fit meets those of another, and no curve of TensorBoard is a mixture of several.
    """
    own = {
        name: str(Path(folder).joinpath(*place))
        for name, folder in plugin.options.items()
        if name in _FOLDERS and isinstance(folder, str)
    }
    return replace(plugin, options={**plugin.options, **own}) if own else plugin


def _check_size(observer: Any, label: str, game: MarkovGame, n_stages: int) -> None:
    try:
        observer.check_size(game.n_states, game.n_actions, n_stages)
    except InputError as error:
        raise InputError(f"observer {label!r}: {error}") from None
    except BaseException as error:
        pass_interruption(error)
        raise PluginFault(
            f"observer {label!r}: check_size failed: {type(error).__name__}: {error}"
        ) from error


def _learners_scale(
    config: ExperimentConfig, wanted: PluginConfig, known: Mapping[str, Any]
) -> dict[str, float]:
    """Discount and temperature of the learner, where observers are not told them."""
    config = replace(config, learner=wanted)
    found = {}
    if config.discount is None and "discount" in known:
        found["discount"] = config.learners_discount
    if config.temperature is None and "temperature" in known:
        found["temperature"] = config.learners_temperature
    return found


def _make(
    kind: Kind, wanted: PluginConfig, config: ExperimentConfig, further: dict[str, Any]
) -> Learner | Observer:
    plugin = find_plugin(kind, wanted.name)
    values: dict[str, Any] = {
        "discount": config.discount,
        "temperature": config.temperature,
        "episodes": config.episodes,
        "episode_length": config.episode_length,
        **further,
    }
    known = option_hints(plugin_class(plugin))
    if kind == "learner":
        values |= _learners_scale(config, wanted, known)
    filled = {key: value for key, value in values.items() if key in known and value is not None}
    return make_plugin(plugin, {**filled, **wanted.options})
