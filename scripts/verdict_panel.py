"""The panel of the verdict: is it right? Measured against ground truth that no verdict sees.

    python scripts/verdict_panel.py --output-dir panel

plays every case of `verdict_panel_cases`, recovers the rewards with `ma-lfl-bellman` as it comes
(the kind `other-observer`: with another observer), asks for the verdict, and compares it with the
ground truth. The numbers of finished cases are kept
in `DIR/cases/*.json`, so that the command can be stopped and run again; words follow from them.
`DIR/panel.md` and `DIR/panel.json` hold the tables.

A case counts with its worse agent: the lowest Pearson r of all agents, and the worst word. A case
is good if all agents have a Pearson r of at least 0.95 and 2-sd coverage of the mean-removed reward
of at least 0.85 (if the observer gives error bars), whatever is wrong with it.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from verdict_panel_cases import GAMES, Case, cases, handed_over, observer_of
from verdict_panel_learners import learn

from malfl_algos import judge
from malfl_algos.storage.durable import write_json
from malfl_algos.storage.results import plain
from malfl_algos.verdict.balance import reachable_states
from malfl_algos.verdict.deciding import contradicted, decide
from malfl_algos.verdict.words import joined
from malfl_env import MarkovGame
from malfl_env.errors import Contradiction

RIGHT, GOOD, COVERED = 0.85, 0.95, 0.85
"""Pearson r that a believed reward should have; of a good one; its coverage."""
BAD_KINDS = (
    "wrong-game",
    "wrong-order",
    "wrong-discount",
    "thinned",
    "shuffled",
    "no-rule",
    "little-data",
    "other-observer",
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the panel and print its tables."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--output-dir", required=True, type=Path, metavar="DIR")
    parser.add_argument("--half", choices=("tune", "report"), nargs="+", default=["tune", "report"])
    parser.add_argument("--kinds", nargs="+", metavar="KIND", help="only cases of these kinds")
    given = parser.parse_args(argv)
    wanted = [case for half in given.half for case in cases(half)]
    wanted = [case for case in wanted if given.kinds is None or case.kind in given.kinds]
    rows = []
    for number, case in enumerate(wanted, start=1):
        path = given.output_dir / "cases" / f"{case.name}.json"
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            write_json(path, judged(case))
        row = with_words(json.loads(path.read_text(encoding="utf-8")))
        rows.append(row)
        shown = "-" if row["pearson"] is None else f"{row['pearson']:.2f}"
        print(f"{number}/{len(wanted)} {case.name}: {row['word']}, r {shown}", file=sys.stderr)
    text = "\n\n".join(tables(rows))
    summary = {half: measures([row for row in rows if row["half"] == half]) for half in given.half}
    write_json(given.output_dir / "panel.json", {"measures": summary, "cases": rows})
    (given.output_dir / "panel.md").write_text(text + "\n", encoding="utf-8")
    print(text)
    return 0


def judged(case: Case) -> dict[str, Any]:
    """The row of a case: numbers of the verdict, Pearson r and coverage, seconds."""
    game = GAMES[case.game][1](case.play.seed)
    given = handed_over(case, game, learn(game, case.learner, case.play))
    observer = observer_of(case)
    started = time.perf_counter()
    row: dict[str, Any] = {
        "name": case.name,
        "half": case.half,
        "kind": case.kind,
        "game": case.game,
        "learner": case.learner,
    }
    try:
        result = observer.recover(**given)
    except Contradiction as found:
        contradiction = contradicted(str(found)).plain()
        return {**row, "contradiction": contradiction, "pearson": None, "coverage": None}
    recovered = time.perf_counter()
    verdict = judge(result, **given, observer=observer)
    agents = list(_against_truth(game, result.rewards, result.sd or {}))
    return {
        **row,
        "pearson": min(pearson for pearson, _ in agents),
        "coverage": min(coverage for _, coverage in agents) if result.sd else None,
        "agents": {
            agent: {
                "pearson": pearson,
                "coverage": coverage,
                "numbers": plain(verdict.of(agent).numbers),
            }
            for agent, (pearson, coverage) in zip(game.agents, agents, strict=True)
        },
        "seconds": {"recover": recovered - started, "judge": time.perf_counter() - recovered},
    }


def with_words(row: Mapping[str, Any]) -> dict[str, Any]:
    """The row with the words and reasons that its numbers have now."""
    if "agents" not in row:
        return {**row, **row["contradiction"]}
    words = {agent: decide(own["numbers"]) for agent, own in row["agents"].items()}
    verdict = joined(words)
    agents = {agent: {**own, "word": words[agent].word} for agent, own in row["agents"].items()}
    return {**row, "word": verdict.word, "reasons": list(verdict.reasons), "agents": agents}


def _against_truth(
    game: MarkovGame, rewards: Mapping[str, Any], sd: Mapping[str, Any]
) -> Iterator[tuple[float, float]]:
    """Pearson r and 2-sd coverage of the mean-removed reward, of every agent.

    Without standard deviations the coverage is that of certain rewards, which is about 0.
    """
    occurs = reachable_states(game)
    for index, agent in enumerate(game.agents):
        truth = game.reward(index)[occurs]
        found = np.asarray(rewards[agent]).reshape(game.n_states, -1).mean(axis=1)[occurs]
        off = np.abs((found - found.mean()) - (truth - truth.mean()))
        error_bar = np.asarray(sd[agent])[occurs] if agent in sd else 0.0
        coverage = float(np.mean(off <= 2 * error_bar))
        constant = np.ptp(found) == 0 or np.ptp(truth) == 0
        yield (0.0 if constant else float(np.corrcoef(truth, found)[0, 1])), coverage


def measures(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The numbers that the verdict is held to."""
    scored = [row for row in rows if row["pearson"] is not None]
    believed = [row["pearson"] for row in scored if row["word"] == "believe"]
    good = [row for row in scored if _is_good(row)]
    return {
        "cases": len(rows),
        "believed": len(believed),
        "believed_right": float(np.mean(np.asarray(believed) >= RIGHT)) if believed else None,
        "believed_least": min(believed, default=None),
        "good": len(good),
        "good_believed": (
            float(np.mean([row["word"] == "believe" for row in good])) if good else None
        ),
        "poor_not_believed": float(
            np.mean([row["word"] != "believe" for row in scored if row["pearson"] < RIGHT] or [1.0])
        ),
    }


def _is_good(row: Mapping[str, Any]) -> bool:
    covered = row["coverage"] is None or row["coverage"] >= COVERED
    return bool(row["pearson"] >= GOOD and covered)


def tables(rows: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """The tables of `panel.md`: measures, words by kind, and how often the lower bound held."""
    halves = list(dict.fromkeys(row["half"] for row in rows))
    lines = [
        "| half | cases | believed | of these r >= 0.85 | smallest r | good | of these believed |",
        "|---|---|---|---|---|---|---|",
    ]
    for half in halves:
        found = measures([row for row in rows if row["half"] == half])
        cells = (
            half,
            found["cases"],
            found["believed"],
            _share(found["believed_right"]),
            "-" if found["believed_least"] is None else f"{found['believed_least']:.3f}",
            found["good"],
            _share(found["good_believed"]),
        )
        lines.append(f"| {' | '.join(map(str, cells))} |")
    yield "\n".join(lines)
    lines = [
        "| half | kind | cases | believe | doubt | do not believe | r of the believed | r of the "
        "others |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for half in halves:
        for kind in ("good", *BAD_KINDS):
            own = [row for row in rows if (row["half"], row["kind"]) == (half, kind)]
            words = [row["word"] for row in own]
            cells = (
                half,
                kind,
                len(own),
                *(words.count(word) for word in ("believe", "doubt", "do not believe")),
                _range(row["pearson"] for row in own if row["word"] == "believe"),
                _range(row["pearson"] for row in own if row["word"] != "believe"),
            )
            lines.append(f"| {' | '.join(map(str, cells))} |")
    yield "\n".join(lines)
    lines = [
        "| half | kinds | word of the agent | rewards | r at least its lower bound (95 %) | mean "
        "of r less the expected |",
        "|---|---|---|---|---|---|",
    ]
    for half in halves:
        for kinds, name in ((("good",), "nothing wrong"), (BAD_KINDS, "the others")):
            for word in ("believe", "doubt", "do not believe"):
                own = [row for row in rows if row["half"] == half and row["kind"] in kinds]
                kept = map(str, (half, name, word, *_kept(own, word)))
                lines.append(f"| {' | '.join(kept)} |")
    yield "\n".join(lines)


def _kept(rows: Sequence[Mapping[str, Any]], word: str) -> tuple[int, str, str]:
    """Number of agents with a word, how often their Pearson r was at least `expected_low`, and the
    mean of Pearson r less `expected`.
    """
    agents = [own for row in rows for own in row.get("agents", {}).values() if own["word"] == word]
    said = [own for own in agents if own["numbers"].get("expected_low") is not None]
    held = [own["pearson"] >= own["numbers"]["expected_low"] for own in said]
    beyond = [own["pearson"] - own["numbers"]["expected"] for own in said]
    return len(said), _share(float(np.mean(held)) if held else None), _mean(beyond)


def _mean(values: Sequence[float]) -> str:
    return f"{np.mean(values):.3f}" if values else "-"


def _share(value: float | None) -> str:
    return "-" if value is None else f"{value:.0%}"


def _range(values: Any) -> str:
    known = [value for value in values if value is not None]
    return f"{min(known):.2f} to {max(known):.2f}" if known else "-"


if __name__ == "__main__":
    sys.exit(main())
