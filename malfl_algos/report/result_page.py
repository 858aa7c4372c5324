"""The page of one result: a folder of `malfl recover` or of `RecoveredRewards.save`."""

from __future__ import annotations

import shlex
from base64 import b64encode
from collections.abc import Iterator, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from malfl_algos.experiments.games import game_from
from malfl_algos.plugins.options import naming
from malfl_algos.recovered import RecoveredRewards
from malfl_algos.report.boards import policy_figure
from malfl_algos.report.evidence import evidence_figure, with_evidence
from malfl_algos.report.figures import ARROWS, EVIDENCE, MAPS, POLICIES
from malfl_algos.report.model_facts import RULES_WITHOUT_STEPS
from malfl_algos.report.pages import rendered
from malfl_algos.report.policies import stage_figure, stages_shown
from malfl_algos.report.result_figures import draw
from malfl_algos.report.result_sections import Picture, Section, Table, number, sections_of
from malfl_algos.report.reward_maps import spread_figure
from malfl_algos.report.run_files import on_board
from malfl_algos.report.style import png_bytes
from malfl_algos.storage.origins import RESULT_NAME, read_result
from malfl_algos.storage.results import load_result
from malfl_env.errors import InputError
from malfl_env.rules import GridRules, grid_rules

__all__ = ["facts_of", "picture", "pictures_of", "result_page", "versions_section"]

MOST_ROWS, MOST_BARS = 200, 40
"""Values of each agent in a table and in a figure of the page."""
LARGE = 1000
"""Width, in pixels, from which on a picture is not made smaller on a narrow screen."""
LONGEST = 300
"""Letters of a setting."""
_STEPS = ("step_size", "step_size_decay")


def result_page(folder: Path) -> str:
    """The page as HTML.

    Raises:
        InputError: for a missing, changed or damaged file; the message names it.
    """
    result = load_result(folder, of_functions=True)
    record = read_result(folder / RESULT_NAME) or {}
    rules = _board(folder, record, result)
    if rules is not None and result.source is not None:
        result = replace(result, source=on_board(result.source, rules))
    agents = ", ".join(map(str, result.agents or result.diagnostics))
    return rendered(
        "page.html",
        title=f"Recovered rewards of {agents or 'no agent'}",
        lead="What the agents wanted, inferred from how they learned, with error bars and a "
        "verdict on whether to believe it.",
        verdicts=[
            (result.verdict.title, result.verdict.reasons[0] if result.verdict.reasons else "")
        ],
        sections=list(_sections(result, record, rules)),
    )


def _board(folder: Path, record: Mapping[str, Any], result: RecoveredRewards) -> GridRules | None:
    """The board of the game; None for a game without one."""
    board, source = record.get("board"), result.source
    if board is None or source is None or source.visits is None:
        return None
    with naming(str(folder / RESULT_NAME)):
        game = game_from(board)
        if isinstance(game, str):
            raise InputError(f"its board is not the mapping of a grid world, got {game!r}")
        rules = grid_rules(**asdict(game))
    if rules.n_states != len(source.visits) or rules.n_agents != len(source.agents):
        raise InputError(f"{folder / RESULT_NAME}: its board is not that of the rewards")
    return rules


def _sections(
    result: RecoveredRewards, record: Mapping[str, Any], rules: GridRules | None
) -> Iterator[Section]:
    yield Section("What was asked", list(_asked(result, record)))
    own = {section.title: section for section in sections_of(result, most=MOST_ROWS)}
    yield own.pop("Data")
    yield own.pop(next(title for title in own if title.startswith("Verdict")))
    if result.rewards:
        yield Section("Rewards", figures=[*pictures_of(result), *_maps(result, rules)])
        yield from _evidence(result)
        yield from _policies(result, rules)
    else:
        words = "The rewards are functions of observations, in reward_functions.npz."
        yield Section("Rewards", sentences=[words])
    last = [own.pop(title) for title in ("Model", "Checks before estimation") if title in own]
    limitations = own.pop("Limitations")
    yield from own.values()
    yield from last
    yield limitations
    yield from _settings(result)
    yield from versions_section(record.get("versions"))
    if isinstance(record.get("command"), str):
        yield Section("How to run it again", code=[_on_lines(record["command"])])


def _on_lines(command: str) -> str:
    """A shell command with its options on lines of their own."""
    try:
        words = shlex.split(command)
    except ValueError:
        return command
    text = ""
    for word in words:
        text += (" \\\n    " if word.startswith("--") else " " * bool(text)) + shlex.quote(word)
    return text


def _asked(result: RecoveredRewards, record: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    agents = ", ".join(map(str, result.agents or result.diagnostics))
    yield "question", f"which rewards of {agents} explain how their policies changed?"
    observer = record.get("observer")
    if isinstance(observer, Mapping):
        names = ("name", "distribution", "version")
        yield "method", " ".join(str(observer[name]) for name in names if name in observer)
        options = observer.get("options")
        if isinstance(options, Mapping):
            yield from ((f"option {name}", _short(value)) for name, value in options.items())
    made_from = record.get("made_from")
    if isinstance(made_from, Mapping):
        defaults = () if result.source is None else result.source.by_default
        unknown = {"discount": "to be estimated", "temperature": "unknown: it fixes the unit only"}
        for name, words in unknown.items():
            value = made_from.get(name)
            origin = " (default)" if value is not None and name in defaults else ""
            yield name, (words if value is None else number(value)) + origin
        game = made_from.get("game")
        yield "game", "none given: dynamics estimated from the trace" if game is None else "given"


def _numbers(result: RecoveredRewards) -> Iterator[Table]:
    """The numbers that the verdict stands on, by agent."""
    verdicts = dict(result.verdict.agents) or {"all agents": result.verdict}
    names = dict.fromkeys(
        name
        for own in verdicts.values()
        for name, value in own.numbers.items()
        if value is not None and not isinstance(value, Mapping)
    )
    if names:
        rows = [
            [
                name.replace("_", " "),
                *(_short(number(v.numbers.get(name))) for v in verdicts.values()),
            ]
            for name in names
        ]
        yield Table(
            ["number", *map(str, verdicts)], rows, 1, folded="the numbers behind the verdict"
        )


def pictures_of(
    result: RecoveredRewards, caption: str = "", *, most: int = MOST_BARS
) -> list[Picture]:
    """A figure of every agent's rewards."""
    return [
        picture(
            f"{caption}Reward of {agent} by joint state, from the largest to the smallest"
            + (", with bars of 2 posterior standard deviations" if result.sd else ""),
            png_bytes(draw(result, most=most, agents=[agent])),
        )
        for agent in result.rewards
    ]


def _maps(result: RecoveredRewards, rules: GridRules | None) -> Iterator[Picture]:
    """Maps of the board, where there is one."""
    source, visited = result.source, result.visited
    if rules is None or source is None or visited is None or not result.sd or not visited.any():
        return
    drawn = spread_figure(
        result, source.agents, rules=rules, states=visited, title="Recovered rewards on the board"
    )
    yield picture(MAPS[0].upper() + MAPS[1:], png_bytes(drawn))


def _evidence(result: RecoveredRewards) -> Iterator[Section]:
    """What the verdict stands on, of the agents of which it is known."""
    pictures = []
    for agent in with_evidence(result):
        title = "Held-out predictions, two halves"
        drawn = evidence_figure(result, title=title, agents=[agent], narrow=True)
        pictures.append(picture(f"{agent}: {EVIDENCE}", png_bytes(drawn)))
    if pictures:
        yield Section("What the reward predicts, and what was seen", figures=pictures)


def _policies(result: RecoveredRewards, rules: GridRules | None) -> Iterator[Section]:
    """The estimated policies, where the method has them and visits are known."""
    policies, source = result.estimated_policies or {}, result.source
    if source is None or source.visits is None or not source.visits.any():
        return
    agents = [index for index, agent in enumerate(source.agents) if agent in policies]
    shown = [np.asarray(policies[source.agents[index]]) for index in agents]
    if not shown or any(own.ndim != 3 or own.shape[1] != len(source.visits) for own in shown):
        return
    visits = np.tile(source.visits.astype(float), (len(shown[0]), 1))
    title, caption = "Estimated policies by stage", POLICIES
    if rules is not None and len(agents) == rules.n_agents:
        stages = stages_shown(len(visits))
        drawn = policy_figure(shown, visits, rules=rules, stages=stages, title=title)
        caption = ARROWS
    else:
        drawn = stage_figure(shown, visits, source, title=title, agents=agents)
    caption = caption[0].upper() + caption[1:]
    yield Section("Policies by stage", figures=[picture(caption, png_bytes(drawn))])


def picture(caption: str, png: bytes) -> Picture:
    """A PNG as a part of the page."""
    width = int.from_bytes(png[16:20], "big")
    uri = f"data:image/png;base64,{b64encode(png).decode()}"
    return Picture(caption, uri, large=width > LARGE)


def _settings(result: RecoveredRewards) -> Iterator[Section]:
    tables = list(_numbers(result))
    tables += [
        Table(["diagnostic", "value"], list(facts_of(_raw(own))), 2, folded=f"reward of {agent}")
        for agent, own in result.diagnostics.items()
    ]
    if tables:
        yield Section("Settings and diagnostics", tables=tables)


def _raw(own: Mapping[str, Any]) -> dict[str, Any]:
    """Diagnostics without the steps of a rule that has none."""
    without = own.get("rule") in RULES_WITHOUT_STEPS
    return {name: value for name, value in own.items() if not (without and name in _STEPS)}


def facts_of(content: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Names and values of a mapping; empty ones are left out."""
    for name, value in content.items():
        if value not in (None, {}):
            yield str(name).replace("_", " "), _short(value)


def _short(value: Any) -> str:
    text = " ".join(_words(value).split())
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}..."


def _words(value: Any) -> str:
    """A value in words; entries of mappings that are empty are left out."""
    if isinstance(value, Mapping):
        return ", ".join(
            f"{name}: {_words(own)}" for name, own in value.items() if own not in (None, {}, [])
        )
    if isinstance(value, (list, tuple)):
        between = "; " if any(isinstance(own, (Mapping, list, tuple)) for own in value) else ", "
        return between.join(map(_words, value)) or "none"
    return number(value)


def versions_section(versions: Any) -> Iterator[Section]:
    """The versions of Python and packages, if they are known."""
    if isinstance(versions, Mapping):
        facts = [
            (str(name), str(value)) for name, value in versions.items() if value != "not installed"
        ]
        yield Section("Versions", facts)
