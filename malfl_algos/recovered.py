"""The result of an observer, and what it was recovered from.

Public: the names that `malfl_algos` and `malfl_algos.contract` import from here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, fields
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from malfl_algos.verdict import Verdict
from malfl_algos.verdict.words import NOT_JUDGED
from malfl_env.arguments import typed
from malfl_env.errors import InputError
from malfl_env.labels import Label, label_text

if TYPE_CHECKING:
    from malfl_algos.problem import Problem

__all__ = ["NOT_JUDGED", "Diagnostics", "RecoveredRewards", "RewardFunction", "Source"]

FloatArray = NDArray[np.float64]
RewardFunction = Callable[[Any, Any], Any]
"""Observations and joint actions of some steps -> reward of each step, `(n_steps,)`."""


@dataclass(frozen=True, eq=False)
class Diagnostics(Mapping[str, Any]):
    """Diagnostics of one agent's recovered reward; also a read-only mapping of its entries.

    Args:
        identification: in words, what the data determine of the reward and what they do not.
        rank: number of directions of the reward that the data determine.
        n_unidentified: number of unidentified directions.
        n_unknowns: number of unknown values or weights of the reward.
        reward_model: what the reward depends on.
        learner_model: the assumed learning rule of the agents.
        noise_variance, prior_variance, log_evidence: of the fit.
        step_size: of the assumed learning rule, given or chosen by evidence.
        bounds_hit: names of settings whose best value is at the end of their range.
        n_stages: number of stages used.
        further: other entries, by name; all must be JSON.
    """

    identification: str | None = None
    rank: int | None = None
    n_unidentified: int | None = None
    n_unknowns: int | None = None
    reward_model: str | None = None
    learner_model: str | None = None
    noise_variance: float | None = None
    prior_variance: float | None = None
    log_evidence: float | None = None
    step_size: float | None = None
    bounds_hit: list[str] | None = None
    n_stages: int | None = None
    further: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    @typed
    def of(cls, content: Mapping[str, Any]) -> Diagnostics:
        """Diagnostics from one mapping; entries that are not fields go to `further`."""
        if isinstance(content, cls):
            return content
        own = {name: content[name] for name in _named() if name in content}
        further = {name: entry for name, entry in content.items() if name not in own}
        return cls(**own, further=MappingProxyType(further))

    def __getitem__(self, name: str) -> Any:
        return getattr(self, name) if name in _named() else self.further[name]

    def __iter__(self) -> Iterator[str]:
        yield from _named()
        yield from self.further

    def __len__(self) -> int:
        return len(_named()) + len(self.further)

    def __reduce__(self) -> Any:
        return (
            type(self).of,
            (dict(self),),
        )  # a read-only view cannot be pickled


@cache
def _named() -> tuple[str, ...]:
    return tuple(part.name for part in fields(Diagnostics) if part.name != "further")


@dataclass(frozen=True, eq=False)
class Source:
    """The data and the arguments that rewards were recovered from: names, sizes, visits.

    Args:
        agents: ids of all agents, in the order of the trace.
        n_actions: number of actions of each agent.
        steps: number of steps of each stage.
        visits: visits of each joint state over all stages, int `(n_states,)`; None in a game that
            is not tabular.
        states: label of each joint state; None: states are numbers only.
        actions: for each agent the labels of its actions; None: numbers only.
        notes: sentences on how the trace was made from a log.
        game_given: whether the dynamics were given; otherwise they were estimated from the trace.
        discount, temperature: as given; None: unknown.
        known_policies: agents whose policies were given.
        observer: name of the observer.
        by_default: which of discount and temperature a command took by default.
    """

    agents: tuple[str, ...]
    n_actions: tuple[int, ...]
    steps: tuple[int, ...]
    visits: NDArray[np.int64] | None = None
    states: tuple[Label, ...] | None = None
    actions: tuple[tuple[Label, ...], ...] | None = None
    notes: tuple[str, ...] = ()
    game_given: bool = False
    discount: float | None = None
    temperature: float | None = None
    known_policies: tuple[str, ...] = ()
    observer: str | None = None
    by_default: tuple[str, ...] = ()

    @classmethod
    def of(cls, problem: Problem, observer: object) -> Source:
        """The source of the rewards that an observer recovers from these arguments.

        Labels that the trace lacks are those of the game.
        """
        trace, game = problem.trace, problem.game
        visits = None
        if trace.is_tabular:
            visits = np.sum([stage.state_counts for stage in trace.stages], axis=0)
        named = game if trace.states is None and trace.actions is None else trace
        return cls(
            agents=trace.agents,
            n_actions=trace.n_actions,
            steps=tuple(stage.n_steps for stage in trace.stages),
            visits=visits,
            states=None if named is None else named.states,
            actions=None if named is None else named.actions,
            notes=trace.notes,
            game_given=game is not None,
            discount=problem.discount,
            temperature=problem.temperature,
            known_policies=tuple(problem.known),
            observer=type(observer).__name__,
        )

    def state_name(self, state: int) -> str:
        """The label of a joint state as text, or else its number."""
        return str(state) if self.states is None else label_text(self.states[state])

    def action_name(self, agent_index: int, action: int) -> str:
        """The label of an action as text, or else its number."""
        return (
            str(action) if self.actions is None else label_text(self.actions[agent_index][action])
        )


@dataclass(frozen=True, eq=False, repr=False)
class RecoveredRewards:
    """The result of an observer.

    Args:
        rewards: tables, per agent id, `(n_states,)` or `(n_states, *n_actions)`.
        diagnostics: per agent id, `Diagnostics` or a mapping that becomes one.
        estimated_policies: per agent id, `(n_stages, n_states, n_actions)`, if the method estimates
            policies.
        targets: per agent id, `(n_stages - 1, n_states, n_actions)`, equation (11) of the paper, if
            the method has them.
        potentials: per agent id, `(n_stages - 1, n_states)`, the g_h of equation (12), if the
            method has them.
        sd: per agent id, posterior standard deviations, in the shape of the reward.
        covariance: per agent id, posterior covariance, `(n_values, n_values)`, of the flattened
            reward.
        functions: per agent id, the reward as a function of observations and joint actions, for
            non-enumerable games; tables may be given as well.
        verdict: whether to believe the rewards. Observers leave it out; `malfl` and
            `malfl_algos.judge` make it.
        source: what the rewards were recovered from. The observers of the package set it; for other
            observers, `malfl` does.
    """

    rewards: Mapping[str, FloatArray] = field(default_factory=dict)
    diagnostics: Mapping[str, Any] = field(default_factory=dict)
    estimated_policies: Mapping[str, FloatArray] | None = None
    targets: Mapping[str, FloatArray] | None = None
    potentials: Mapping[str, FloatArray] | None = None
    sd: Mapping[str, FloatArray] | None = None
    covariance: Mapping[str, FloatArray] | None = None
    functions: Mapping[str, RewardFunction] | None = None
    verdict: Verdict = NOT_JUDGED
    source: Source | None = None

    def __post_init__(self) -> None:
        if isinstance(self.diagnostics, Mapping):
            made = {
                agent: Diagnostics.of(own) if isinstance(own, Mapping) else own
                for agent, own in self.diagnostics.items()
            }
            object.__setattr__(self, "diagnostics", made)

    @property
    def agents(self) -> tuple[str, ...]:
        """The agents whose rewards were recovered, as tables or as functions."""
        return tuple(dict.fromkeys([*self.rewards, *(self.functions or {})]))

    @typed
    def reward(
        self, agent: str, observations: NDArray[Any], actions: NDArray[np.integer]
    ) -> FloatArray:
        """Reward of one agent at every step, `(n_steps,)`, by its reward function.

        Args:
            agent: id of the agent.
            observations: observations of the agent, `(n_steps, ...)`.
            actions: joint actions, int `(n_steps, n_agents)`.

        Raises:
            InputError: for an agent whose reward was not recovered as a function.
        """
        if agent not in (self.functions or {}):
            raise InputError(
                f"the reward of agent {agent!r} was not recovered as a function; functions: "
                f"{', '.join(map(str, self.functions or {})) or 'none'}"
            )
        assert self.functions is not None
        return np.asarray(self.functions[agent](observations, actions), dtype=np.float64)

    @property
    def visited(self) -> NDArray[np.bool_] | None:
        """Whether each joint state was visited, bool `(n_states,)`; None if it is not known."""
        if self.source is None or self.source.visits is None:
            return None
        return np.asarray(self.source.visits > 0)

    def __repr__(self) -> str:
        size = "rewards are functions of observations"
        if self.rewards:
            size = f"{max(len(table) for table in self.rewards.values())} joint states"
        if self.source is not None:
            size += f", {len(self.source.steps)} stages"
        verdict = str(self.verdict)
        return (
            f"{type(self).__name__} of {_cut(', '.join(map(str, self.agents)))}: {size}\n"
            f"verdict: {_cut(verdict)}\n"
            "summary() describes it; rewards, sd, to_dataframe() and plot() have the values"
        )

    @typed
    def save(self, path: str | Path) -> None:
        """Write a folder as `malfl recover` does: `rewards.npz`, `posterior.npz` and so on.

        Arrays, diagnostics, verdict and source are kept, functions are not. The files of an earlier
        result in the folder are replaced.

        Raises:
            InputError: for rewards that are not tables.
        """
        from malfl_algos.storage.results import save_result

        save_result(self, Path(path))

    @classmethod
    @typed
    def load(cls, path: str | Path) -> RecoveredRewards:
        """Read a folder that `save`, `malfl recover` or a run wrote.

        Args:
            path: the folder; of a run, `FAMILY/seed_K/OBSERVER` in its folder.

        Raises:
            InputError: for a missing, changed or damaged file; the message names it.
        """
        from malfl_algos.storage.results import load_result

        return load_result(Path(path))

    def summary(self) -> str:
        """The result in words and tables: data, model, checks, estimate, verdict, limitations."""
        from malfl_algos.report.result_text import summary_text

        return summary_text(self)

    def _repr_html_(self) -> str:
        """The summary for notebooks."""
        from malfl_algos.report.pages import summary_html

        return summary_html(self)

    def to_dataframe(self) -> Any:
        """The rewards as a pandas table with a row per agent and joint state.

        Columns: `agent`, `state` (its label, or else its number), `reward`, and, where they are
        known, `sd`, `low` and `high` (2 posterior standard deviations around the reward), `visits`
        and `visited`. A reward that depends on actions has a row per joint state and joint action,
        with a column `action/NAME` for each agent whose action counts.

        Raises:
            ImportError: without pandas.
            InputError: for rewards that are not tables.
        """
        from malfl_algos.report.frames import reward_frame

        return reward_frame(self)

    @typed
    def to_arviz(self, *, n_draws: int = 1000, seed: int = 0) -> Any:
        """Draws of the posterior of every agent's reward, for ArviZ.

        Draws are from the normal distribution with the posterior mean and covariance; without a
        covariance (observer option `covariance`), values are drawn as if independent. The
        `posterior` group has a variable for each agent, with the labels of states as coordinates.

        Args:
            n_draws: number of draws.
            seed: of the draws.

        Returns:
            What `arviz.from_dict` makes: an `InferenceData`, or a `DataTree` from ArviZ 1.0 on.

        Raises:
            ImportError: without arviz.
            InputError: for a result without standard deviations.
        """
        from malfl_algos.report.frames import inference_data

        return inference_data(self, n_draws=n_draws, seed=seed)

    @typed
    def plot(self, *, most: int = 40) -> Any:
        """Draw every agent's rewards with 2 posterior standard deviations, largest first.

        Args:
            most: number of values shown of each agent; beyond it, the largest and the smallest.

        Returns:
            A `matplotlib.figure.Figure`; `figure.savefig(path)` writes it.

        Raises:
            InputError: for rewards that are not tables.
        """
        from malfl_algos.report.result_figures import draw

        return draw(self, most=most)


def _cut(text: str, most: int = 160) -> str:
    return text if len(text) <= most else f"{text[: most - 3]}..."
