"""What the summary of a recovered result says, section by section, without any layout.

`result_text.py` writes the sections as text, and `pages.py` as HTML.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from malfl_algos.recovered import NOT_JUDGED, RecoveredRewards, Source
from malfl_algos.report.model_facts import is_given, model_facts, number, shared, step_size
from malfl_algos.report.values import Values, cut_to, values_of

__all__ = ["Picture", "Section", "Table", "data_section", "number", "sections_of"]


@dataclass(frozen=True)
class Table:
    """A table of a section.

    Args:
        columns: titles.
        rows: cells as text.
        text_columns: number of columns, from the left, that hold text; the others hold numbers.
        note: what the table shows, or leaves out.
        folded: title of the table on a page that shows it only when it is opened; empty: always.
    """

    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    text_columns: int = 1
    note: str = ""
    folded: str = ""


@dataclass(frozen=True)
class Picture:
    """A figure: what it shows, in words, and its PNG as a data URI.

    `large` figures are scrolled on a narrow screen instead of being made smaller.
    """

    caption: str
    source: str
    large: bool = False


@dataclass(frozen=True)
class Section:
    """A titled part of a summary or page: facts with names, tables, sentences, figures, code.

    A summary has no figures and no code.
    """

    title: str
    facts: Sequence[tuple[str, str]] = ()
    tables: Sequence[Table] = ()
    sentences: Sequence[str] = ()
    figures: Sequence[Picture] = ()
    code: Sequence[str] = ()


def sections_of(result: RecoveredRewards, *, most: int = 12) -> list[Section]:
    """The sections of a summary, in order.

    Args:
        result: the result.
        most: number of values shown of each agent.
    """
    found = [data_section(result.source), Section("Model", model_facts(result)), _checks(result)]
    found += [_estimate(result, agent, most) for agent in result.agents]
    told = [section for section in found if section.facts or section.tables or section.sentences]
    return [*told, _verdict(result), _limitations(result)]


def data_section(source: Source | None) -> Section:
    """Names and sizes of the data."""
    if source is None:
        return Section("Data", sentences=["not known: the result does not say what it is from"])
    facts = []
    for index, agent in enumerate(source.agents):
        size = source.n_actions[index]
        facts.append((f"agent {agent}", _actions(source, index, size)))
    steps = source.steps
    total, shown = sum(steps), ", ".join(map(str, steps[:8]))
    facts.append(("stages", f"{len(steps)}, of {shown}{', ...' * (len(steps) > 8)} steps"))
    facts.append(("steps", str(total)))
    if source.visits is None:
        facts.append(("joint states", "not enumerable; every step has observations"))
    else:
        n_states, n_seen = len(source.visits), int((source.visits > 0).sum())
        facts.append(("joint states", f"{n_states}, of which {n_seen} were visited"))
    if source.notes:
        facts.append(("how it was made", "; ".join(source.notes)))
    return Section("Data", facts)


def _actions(source: Source, index: int, size: int) -> str:
    noun = "action" if size == 1 else "actions"
    if source.actions is None:
        return f"{size} {noun}"
    names = ", ".join(source.action_name(index, action) for action in range(min(size, 8)))
    return f"{size} {noun}: {names}{', ...' * (size > 8)}"


_OF_THE_TRACE = {
    "repeated_stages": "stages with the counts of another stage",
    "broken_steps": "share of steps that do not begin where the step before ended",
    "unaccounted_visits": "share of visits to states to which the game does not lead that often",
    "chance_misfit": "difference of next states from the game's probabilities (1 = as by chance)",
}
"""Numbers of the verdict about the trace alone."""


def _checks(result: RecoveredRewards) -> Section:
    """What data and game determine, whatever the estimate is."""
    facts: list[tuple[str, str]] = []
    source = result.source
    if source is not None:
        facts.append(("steps in the shortest stage", str(min(source.steps))))
    numbers = next(
        (own.numbers for own in (result.verdict, *result.verdict.agents.values()) if own.numbers),
        {},
    )
    facts += [
        (title, number(numbers[name]))
        for name, title in _OF_THE_TRACE.items()
        if numbers.get(name) is not None
    ]
    facts += shared(result, "identification", str, "identification")
    facts += shared(result, "states without dynamics", number, "states_without_dynamics")
    return Section("Checks before estimation", facts)


_OF_THE_FIT = {
    "log_evidence": "log evidence",
    "noise_variance": "noise variance",
    "prior_variance": "prior variance",
    "improvement": "share kept of the log policy at an update",
    "settled": "converged",
    "bounds_hit": "settings at the end of their range",
}


def _estimate(result: RecoveredRewards, agent: str, most: int) -> Section:
    own = result.diagnostics.get(agent, {})
    facts = [
        (title, number(own[name])) for name, title in _OF_THE_FIT.items() if is_given(own.get(name))
    ]
    if (steps := step_size(own)) is not None:
        facts.append(("step size", steps))
    if isinstance(own.get("prior"), Mapping):
        facts += _prior(own["prior"])
    title = f"Estimate: reward of {agent}"
    if agent not in result.rewards:
        return Section(title, facts, sentences=["a function of observations: see reward()"])
    return Section(title, facts, [_table(values_of(result, agent), most)])


def _prior(own: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """The prior over the coordinates of the states, in words."""
    if own.get("kind") == "smooth":
        shares, lengths = own["shares"], own["lengths"]
        alone = shares.get("independent", 0.0)
        told = ", ".join(f"{name} {value:.2f}" for name, value in shares.items())
        far = ", ".join(f"{name} {value:.1f}" for name, value in lengths.items())
        yield (
            "prior",
            f"similar states have similar rewards: share {1 - alone:.2f} of the variance",
        )
        yield "shares of the prior variance", told
        yield "lengths, in steps of the coordinates", far
        yield "gain of log evidence over independent rewards", _gain(own)
        if "left_out" in own:
            yield (
                "interpolated",
                f"from the rewards of {len(own['states'])} states, which leave out "
                f"{own['left_out']:.3f} of the prior variance",
            )
    if own.get("special_cell"):
        special = own["special_cell"]
        yield (
            "one special cell",
            f"probability {special['probability']:.2f}; most probable: the agent's cell "
            f"{special['cell']}, {special['cell_probability']:.2f}",
        )
    if own.get("kind") == "iid":
        why = own.get("reason")
        gain = own.get("gain")
        if why is None and gain is not None:
            why = f"a smooth prior changes the log evidence by {gain:.1f}"
        yield "prior", "rewards are independent" + (f" ({why})" if why else "")


def _gain(own: Mapping[str, Any]) -> str:
    if own["gain"] is None:
        return f"not known ({own['reason']})"
    error = own.get("gain_error")
    return f"{own['gain']:.1f}" + ("" if error is None else f", known up to {error:.1f}")


def _table(values: Values, most: int) -> Table:
    places, gaps = cut_to(values, most)
    columns = ["joint state" + " | actions" * bool(values.acting), "reward"]
    if values.sd is not None:
        columns += ["sd", "reward - 2 sd", "reward + 2 sd"]
    if values.visits is not None:
        columns.append("visits")
    n_decimals = _decimals(values.reward[places])
    rows = []
    for position, place in enumerate(places):
        if position in gaps:
            rows.append(["..."] + [""] * (len(columns) - 1))
        rows.append(_row(values, int(place), n_decimals))
    n_values = len(values.reward)
    note = f"{len(places)} of {n_values} values, from the largest to the smallest"
    if values.visits is not None and (n_unseen := int((values.visits == 0).sum())):
        note += f"; {n_unseen} values of joint states that were not visited are left out"
    return Table(columns, rows, 1, note)


def _decimals(rewards: NDArray[np.float64]) -> int:
    """So many decimals that the largest reward of a table has three significant digits."""
    largest = float(np.abs(rewards).max(initial=0.0))
    return 2 if largest == 0 else int(np.clip(2 - np.floor(np.log10(largest)), 0, 12))


def _row(values: Values, place: int, n_decimals: int) -> list[str]:
    mean = values.reward[place]
    numbers = [mean]
    if values.sd is not None:
        sd = values.sd[place]
        numbers += [sd, mean - 2 * sd, mean + 2 * sd]
    row = [values.name(place), *(f"{own:.{n_decimals}f}" for own in numbers)]
    if values.visits is not None:
        row.append(str(int(values.visits[place])))
    return row


def _verdict(result: RecoveredRewards) -> Section:
    verdict = result.verdict
    facts = [(agent, own.word) for agent, own in verdict.agents.items()]
    sentences = [*verdict.reasons, *(f"try: {own}" for own in verdict.advice)]
    return Section(f"Verdict: {verdict.title}", facts, sentences=sentences)


def _limitations(result: RecoveredRewards) -> Section:
    sentences = ["A constant added to a reward cannot be recovered: its mean is arbitrary."]
    source = result.source
    if source is None or source.temperature is None:
        sentences.append("The unit of a reward is the learners' temperature, which is unknown.")
    if source is not None and source.discount is not None:
        origin = "the default" if "discount" in source.by_default else "given"
        sentences.append(f"The discount was {origin}; with another one, the rewards differ.")
    visited = result.visited
    if visited is not None and not visited.all():
        sentences.append(
            f"{int((~visited).sum())} of {len(visited)} joint states were never visited; rewards "
            "there come from the prior."
        )
    if source is not None and not source.game_given and source.visits is not None:
        sentences.append("The dynamics were estimated from the trace.")
    if result.rewards and not result.sd:
        sentences.append("This observer gives no standard deviations.")
    if any(is_given(own.get("rule")) for own in result.diagnostics.values()):
        sentences.append("Standard deviations hold if the agents learn as the learning rule says.")
    if result.verdict != NOT_JUDGED:
        sentences.append("The verdict was made without any ground truth.")
    return Section("Limitations", sentences=sentences)
