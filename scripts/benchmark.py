"""Every speed that we claim, as a ratio measured in one run: `python scripts/benchmark.py`.

A line sets two pieces of code to the same task. They run in turn, A B A B ..., so that whatever
else the machine does hits both, and the ratio is taken within each pair. All code has run once
before it is timed, so compilation is left out; only the line `protocol` times a whole process,
imports included.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from math import floor, log10
from pathlib import Path
from typing import Any

import numpy as np
from benchmark_lines import Contest, protocol, recovery, seconds_of, step, td
from numpy.typing import NDArray


@dataclass(frozen=True)
class Line:
    """A line that can be asked for.

    Args:
        contests: sets it up, small if told so, and runs everything once.
        repeats: if not told otherwise.
        extra: of the package, that brings `modules`.
        modules: that it needs.
    """

    contests: Callable[[bool], list[Contest]]
    repeats: int
    extra: str
    modules: tuple[str, ...]


LINES: Mapping[str, Line] = {
    "td": Line(td, 9, "algos", ("numba", "scipy")),
    "step": Line(step, 9, "bench", ("mpe2", "pygame")),
    "protocol": Line(protocol, 3, "algos", ("numba", "scipy", "yaml", "matplotlib", "joblib")),
    "recovery": Line(recovery, 5, "algos", ("numba", "scipy", "threadpoolctl")),
}

PACKAGES = ("numpy", "numba", "scipy", "pettingzoo", "gymnasium", "mpe2")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the lines asked for, print the table, write the JSON file.

    Returns 0, or 2 for bad input or a missing extra; then nothing is measured or written.
    """
    arguments = _parser().parse_args(argv)
    fault = _unwritable(arguments.json) or _missing(arguments.lines)
    if fault:
        print(f"benchmark: {fault}", file=sys.stderr)
        return 2
    load = _load()
    rows = []
    for name in arguments.lines:
        print(f"{name} ...", file=sys.stderr, flush=True)
        for contest in LINES[name].contests(arguments.fast):
            rows.append(measure(contest, arguments.repeats or LINES[name].repeats))
    machine = _machine() | {"load_before": load, "load_after": _load()}
    print(_table(rows))
    print(_footer(rows, machine, fast=arguments.fast))
    if arguments.json is not None:
        report = {
            "command": " ".join(
                ["scripts/benchmark.py", *(sys.argv[1:] if argv is None else argv)]
            ),
            "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
            "fast": arguments.fast,
            "machine": machine,
            "lines": rows,
        }
        arguments.json.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    return 0


def measure(contest: Contest, repeats: int) -> dict[str, Any]:
    """Time both sides in turn.

    Returns:
        The row as it goes into the JSON file: per side, and for the ratio of every pair, the
        median, the quartiles and all values.
    """
    ours, baseline = [], []
    for _ in range(repeats):
        ours.append(seconds_of(contest.ours) / contest.ours_steps)
        other = contest.baseline
        seconds = seconds_of(other) if callable(other) else other
        baseline.append(seconds / contest.baseline_steps)
    power = 1 if contest.unit == "s" else -1
    return {
        "line": contest.name,
        "unit": contest.unit,
        "against": contest.against,
        "repeats": repeats,
        "ours": _spread(np.array(ours) ** power),
        "baseline": _spread(np.array(baseline) ** power),
        "ratio": _spread(np.array(baseline) / np.array(ours)),
        "aim": contest.aim,
        "notes": dict(contest.notes),
    }


def _spread(values: NDArray[np.float64]) -> dict[str, Any]:
    low, median, high = np.quantile(values, [0.25, 0.5, 0.75])
    return {
        "median": float(median),
        "quartiles": [float(low), float(high)],
        "values": values.tolist(),
    }


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="benchmark.py", description="Measure our speed claims.")
    parser.add_argument(
        "--lines",
        nargs="+",
        choices=list(LINES),
        default=list(LINES),
        metavar="NAME",
        help=f"what to measure, of {', '.join(LINES)} (default: all)",
    )
    parser.add_argument(
        "--repeats",
        type=_count,
        metavar="N",
        help="pairs of each line (default: "
        + ", ".join(f"{name} {line.repeats}" for name, line in LINES.items())
        + ")",
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all values there, too")
    parser.add_argument(
        "--fast", action="store_true", help="small sizes, to see that it runs; no figures to quote"
    )
    return parser


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be a whole number >= 1, got {text!r}")
    return int(text)


def _missing(names: Iterable[str]) -> str | None:
    """What to install for the lines asked for, if anything."""
    for name in names:
        line = LINES[name]
        missing = [module for module in line.modules if find_spec(module) is None]
        if missing:
            return f'{name} needs {", ".join(missing)}: pip install ".[{line.extra}]"'
    return None


def _unwritable(path: Path | None) -> str | None:
    """Why the JSON file cannot be written, before minutes are spent on its content."""
    if path is None or (path.parent.is_dir() and not path.is_dir()):
        return None
    return f"--json must name a file in a folder that exists, got {str(path)!r}"


def _machine() -> dict[str, Any]:
    packages: dict[str, str | None] = {}
    for name in PACKAGES:
        try:
            packages[name] = version(name)
        except PackageNotFoundError:
            packages[name] = None
    return {
        "cpu": _cpu(),
        "processors": os.cpu_count(),
        "system": platform.platform(),
        "python": platform.python_version(),
        "packages": packages,
    }


def _cpu() -> str:
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        text = ""
    models = [line.partition(":")[2].strip() for line in text.splitlines() if "model name" in line]
    return models[0] if models else platform.processor() or platform.machine()


def _load() -> float | None:
    """Processes that wanted a processor in the last minute; None where the system cannot tell."""
    try:
        return round(os.getloadavg()[0], 2)
    except (AttributeError, OSError):
        return None


def _table(rows: Sequence[Mapping[str, Any]]) -> str:
    """The rows as a Markdown table, ready for the docs."""
    lines = [
        "| line | ours | against | theirs | ratio | aim |",
        "|---|---|---|---|---|---|",
    ]
    for row in rows:
        cells = [
            row["line"],
            f"{_cell(row['ours'])} {row['unit']}",
            row["against"],
            f"{_cell(row['baseline'])} {row['unit']}",
            _cell(row["ratio"]),
            "" if row["aim"] is None else f"{row['aim']:g}",
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _cell(spread: Mapping[str, Any]) -> str:
    low, high = spread["quartiles"]
    if low == high:
        return _number(spread["median"])
    return f"{_number(spread['median'])} ({_number(low)} to {_number(high)})"


def _number(value: float) -> str:
    """Three digits, thousands apart."""
    decimals = 2 - floor(log10(value))
    return f"{round(value, decimals):,.{max(decimals, 0)}f}"


def _footer(rows: Sequence[Mapping[str, Any]], machine: Mapping[str, Any], *, fast: bool) -> str:
    lines = ["", "Medians, quartiles in brackets; a ratio above 1 says that ours is faster."]
    lines += [
        f"{row['line']}: {key}: {value:.3g}" for row in rows for key, value in row["notes"].items()
    ]
    lines.append(
        f"{machine['cpu']}, {machine['processors']} processors, Python {machine['python']}; "
        f"load average {machine['load_before']} before, {machine['load_after']} after"
    )
    if fast:
        lines.append("--fast: sizes too small for figures to quote")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
