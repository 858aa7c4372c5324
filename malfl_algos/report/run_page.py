"""The page of a run of `malfl reproduce`."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from malfl_algos.contract import Source
from malfl_algos.experiments.records import RECORD_NAME
from malfl_algos.experiments.recovered_files import saved_verdict
from malfl_algos.recovered import NOT_JUDGED
from malfl_algos.report.figures import captions
from malfl_algos.report.pages import rendered
from malfl_algos.report.result_page import facts_of, picture, pictures_of, versions_section
from malfl_algos.report.result_sections import Picture, Section, Table, data_section, number
from malfl_algos.report.run_files import Run, open_run, read_result_of
from malfl_algos.scores.registry import SCORES
from malfl_algos.storage.arrays import array_names
from malfl_algos.verdict.words import WORDS
from malfl_env.errors import InputError

__all__ = ["run_page"]

MOST_RESULTS = 12
"""Results whose rewards are drawn."""
MOST_BARS = 16
"""Values of each of them."""
MOST_BYTES = 2**25
"""Size of a figure that is taken into the page, and of the record of a run."""


def run_page(folder: Path) -> str:
    """The page as HTML.

    Raises:
        InputError: for a run that is not finished, or a damaged file; the message names it.
    """
    run = open_run(folder)
    record = _record(folder)
    verdicts = _verdicts(run)
    sources = {family: run.source(family, run.seeds[0]) for family in run.families}
    data = data_section(sources[run.families[0]])
    return rendered(
        "page.html",
        title=f"Experiment: rewards recovered by {', '.join(run.observers)}",
        lead=f"Reward families: {', '.join(run.families)}. Number of seeds: {len(run.seeds)}. "
        f"Agents: {', '.join(map(str, run.agents))}. The ground-truth rewards are known here, so "
        "the recovered rewards are scored against them.",
        verdicts=[],
        sections=[
            Section("What was asked", list(facts_of(_configured(record)))),
            replace(data, sentences=[f"The trace of {run.families[0]}, {run.first_seed}."]),
            Section("Verdicts", tables=[verdicts], sentences=["A verdict uses no ground truth."]),
            Section("Scores", tables=_scores(run)),
            *(own for own in _pictures(run, sources) if own.figures),
            Section("Settings", code=[_text(folder / "config.yaml")]),
            *versions_section(record.get("versions")),
            Section("How to run it again", code=_commands(folder)),
        ],
    )


def _record(folder: Path) -> Mapping[str, Any]:
    path = folder / RECORD_NAME
    try:
        content = json.loads(_text(path))
    except (ValueError, RecursionError) as fault:
        raise InputError(f"{path}: not JSON: {str(fault)[:100]}") from fault
    if not isinstance(content, dict) or not isinstance(content.get("configuration", {}), dict):
        raise InputError(f"{path}: not the record of a run")
    return content


def _configured(record: Mapping[str, Any]) -> dict[str, Any]:
    """The configuration; a plugin whose label is its name is shown once."""

    def told(plugin: Any) -> Any:
        if not isinstance(plugin, Mapping) or plugin.get("label") != plugin.get("name"):
            return plugin
        return {key: own for key, own in plugin.items() if key != "label"}

    content = dict(record.get("configuration", {}))
    observers = content.get("observers")
    if isinstance(observers, list):
        content["observers"] = [told(own) for own in observers]
    return {**content, "learner": told(content.get("learner"))}


def _text(path: Path) -> str:
    try:
        if path.stat().st_size > MOST_BYTES:
            raise InputError(f"{path}: larger than {MOST_BYTES} bytes")
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as fault:
        raise InputError(f"{path}: cannot be read: {fault}") from fault


def _units(run: Run, family: str, observer: str, seed: str) -> list[Path]:
    """The folders of results: one, or one for each observing agent."""
    unit = run.folder / family / f"seed_{seed}" / observer
    return [
        path.parent for path in sorted([*unit.glob("rewards.npz"), *unit.glob("*/rewards.npz")])
    ]


def _verdicts(run: Run) -> Table:
    rows = []
    for family in run.families:
        for observer in run.observers:
            words: Counter[str] = Counter()
            for seed in run.seeds:
                for unit in _units(run, family, observer, seed):
                    verdict = saved_verdict(unit / "rewards.npz")
                    made = verdict is not NOT_JUDGED
                    own = [one.word for one in verdict.agents.values()] or [verdict.word]
                    n_rewards = len(array_names(unit / "rewards.npz"))
                    words.update(own if made else ["none made"] * n_rewards)
            rows.append([family, observer, *(str(words[word]) for word in (*WORDS, "none made"))])
    note = "number of rewards, over seeds and agents"
    return Table(["family", "observer", *WORDS, "none made"], rows, 2, note)


def _scores(run: Run) -> list[Table]:
    """A table for each family, with a column for each observer."""
    path, observers = run.folder / "summary.json", run.observers
    try:
        rows = json.loads(_text(path))["aggregate"]
        found = {(str(row["family"]), str(row["observer"])): row for row in rows}
        known = [name for name in SCORES if any(_mean(row, name) is not None for row in rows)]
        note = "family {}: mean over seeds, and its 95 % interval in brackets"
        return [
            Table(
                ["score", *observers],
                [
                    [
                        SCORES[name].title,
                        *(_score(found[family, own], name) for own in run.observers),
                    ]
                    for name in known
                ],
                1,
                note.format(family),
            )
            for family in run.families
        ]
    except (ValueError, KeyError, TypeError, AttributeError) as fault:
        raise InputError(f"{path}: not the summary of a run: {fault!r}") from fault


def _mean(row: Mapping[str, Any], name: str) -> Any:
    own = row.get(name)
    return own.get("mean") if isinstance(own, Mapping) else None


def _score(row: Mapping[str, Any], name: str) -> str:
    mean = _mean(row, name)
    if mean is None:
        return "-"
    interval = row[name].get("interval")
    return number(mean) + (f" [{number(list(interval))}]" if interval else "")


def _pictures(run: Run, sources: Mapping[str, Source]) -> Iterator[Section]:
    yield Section("Figures", figures=list(_figures(run)))
    yield Section("Rewards", figures=list(_rewards(run, sources)))


def _rewards(run: Run, sources: Mapping[str, Source]) -> Iterator[Picture]:
    """The rewards of the first seed that no file of the folder shows."""
    seed, left = run.seeds[0], MOST_RESULTS
    for family in run.families:
        for observer in run.observers:
            if (run.folder / "figures" / f"intervals_{family}_{observer}.png").exists():
                continue
            for unit in _units(run, family, observer, seed)[:left]:
                left -= 1
                source = replace(sources[family], observer=observer)
                result = replace(read_result_of(unit), source=source)
                named = f"{observer}, {family}, {run.first_seed}. "
                yield from pictures_of(result, named, most=MOST_BARS)


def _figures(run: Run) -> Iterator[Picture]:
    """The figures of the folder: those of malfl in its order, then others."""
    said, folder = captions(run), run.folder / "figures"
    found = {path.stem: path for path in sorted(folder.glob("*.png"))}
    for name in sorted(found, key=lambda own: list(said).index(own) if own in said else len(said)):
        path = found[name]
        if path.stat().st_size > MOST_BYTES:
            raise InputError(f"{path}: larger than {MOST_BYTES} bytes")
        content = path.read_bytes()
        if not content.startswith(b"\x89PNG"):
            raise InputError(f"{path}: not a PNG")
        yield picture(said.get(name) or name.replace("_", " "), content)


def _commands(folder: Path) -> list[str]:
    return [
        "malfl reproduce --config config.yaml --output-dir again",
        f"malfl verify {folder.name}",
    ]
