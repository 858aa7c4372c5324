"""Measure every speed that the docs state, as a ratio: `python scripts/benchmark.py`.

A line runs two programs on the same task. They run in turn, A B A B ..., so that other load of the
machine affects both, and the ratio is taken within each pair. All code runs once before it is
timed, so compilation does not count; only the line `protocol` times a whole process with its
imports. The line `scaling` is not a pair: its curves have a separate table.
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
from pathlib import Path
from typing import Any

import numpy as np
from benchmark_conditioning import conditioning
from benchmark_env import step, vector
from benchmark_imports import imports
from benchmark_learning import protocol, td
from benchmark_lines import Contest, cell, markdown, seconds_of, spread
from benchmark_networks import networks
from benchmark_recovery import recovery, replay
from benchmark_scaling import SIZES, scaling
from benchmark_waiting import archive, start, trend


@dataclass(frozen=True)
class Line:
    """A line that can be requested.

    Args:
        contests: sets the line up, small for True, and runs everything once; None: the line
            `scaling`.
        repeats: default number of repeats.
        extra: the extra of the package that installs `modules`.
        modules: required modules.
        optional: whether the line is skipped, with a note, if modules are missing and it was not
            requested by name.
    """

    contests: Callable[[bool], Iterable[Contest]] | None
    repeats: int
    extra: str
    modules: tuple[str, ...]
    optional: bool = False


LINES: Mapping[str, Line] = {
    "td": Line(td, 9, "algos", ("numba", "scipy")),
    "vector": Line(vector, 5, "bench", ("supersuit",)),
    "step": Line(step, 9, "bench", ("mpe2", "pygame")),
    "protocol": Line(protocol, 3, "algos", ("numba", "scipy", "yaml", "matplotlib", "joblib")),
    "recovery": Line(recovery, 5, "algos", ("numba", "scipy", "threadpoolctl")),
    "replay": Line(replay, 3, "algos", ("numba", "scipy", "threadpoolctl")),
    "networks": Line(networks, 5, "torch", ("torch",), optional=True),
    "import": Line(imports, 3, "data", ("pyarrow",), optional=True),
    "trend": Line(trend, 1, "algos", ("numba", "scipy", "yaml", "threadpoolctl")),
    "archive": Line(archive, 5, "algos", ("numba", "scipy")),
    "start": Line(start, 5, "algos", ("yaml",)),
    "conditioning": Line(conditioning, 3, "algos", ("numba", "scipy")),
    "scaling": Line(None, 3, "algos", ("numba", "scipy", "threadpoolctl", "matplotlib")),
}

PACKAGES = ["numpy", "numba", "scipy", "torch", "pettingzoo", "gymnasium", "mpe2", "supersuit"]


def main(argv: Sequence[str] | None = None) -> int:
    """Run the requested lines, print the table, write the JSON file.

    Returns 0; 1 if a game of the line `scaling` failed; 2 for bad input or a missing extra, before
    anything is measured or written.
    """
    arguments = _parser().parse_args(argv)
    if arguments.lines is None:
        arguments.lines = _all_lines()
    fault = _fault(arguments)
    if fault:
        print(f"benchmark: {fault}", file=sys.stderr)
        return 2
    _tell_of_compilation()
    load = _load()
    rows: list[dict[str, Any]] = []
    curves: dict[str, Any] | None = None
    for name in arguments.lines:
        print(f"{name} ...", file=sys.stderr, flush=True)
        line = LINES[name]
        repeats = arguments.repeats or line.repeats
        if line.contests is None:
            curves = scaling(arguments.fast, repeats=repeats, largest=arguments.largest)
        else:
            rows += [measure(contest, repeats) for contest in line.contests(arguments.fast)]
    machine = _machine() | {"load_before": load, "load_after": _load()}
    tables = [_table(rows)] if rows else []
    if curves:
        from benchmark_scaling_report import table

        tables.append(table(curves))
    print("\n\n".join(tables))
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
            "scaling": curves,
        }
        arguments.json.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    failed = ["fault" in game for game in curves["games"]] if curves else []
    if arguments.figure is not None and curves is not None and not all(failed):
        _draw(curves, arguments.figure)
    return int(any(failed))


def _draw(curves: Mapping[str, Any], path: Path) -> None:
    from benchmark_scaling_report import scaling_figure

    from malfl_algos.report.style import png_bytes

    path.write_bytes(png_bytes(scaling_figure(curves)))


def _tell_of_compilation() -> None:
    if find_spec("numba") is not None:  # the line `step` does not need it
        from malfl_algos.work.compilation import tell_of_compilation

        tell_of_compilation()


def measure(contest: Contest, repeats: int) -> dict[str, Any]:
    """Time both sides in turn.

    Returns:
        The row as it goes into the JSON file: per side, and for the ratio of every pair, the
        median, the quartiles and all values.
    """
    ours, baseline = [], []
    for _ in range(repeats):
        ours.append(seconds_of(contest.ours, contest.clock) / contest.ours_steps)
        other = contest.baseline
        seconds = seconds_of(other, contest.clock) if callable(other) else other
        baseline.append(seconds / contest.baseline_steps)
    power = -1 if contest.unit == "steps/s" else 1
    return {
        "line": contest.name,
        "unit": contest.unit,
        "against": contest.against,
        "repeats": repeats,
        "ours": spread(np.array(ours) ** power),
        "baseline": spread(np.array(baseline) ** power),
        "ratio": spread(np.array(baseline) / np.array(ours)),
        "aim": contest.aim,
        "notes": dict(contest.notes),
    }


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="benchmark.py", description="Measure our speed claims.")
    parser.add_argument(
        "--lines",
        nargs="+",
        choices=list(LINES),
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
        "--figure", type=Path, metavar="PNG", help="draw the curves of the line scaling there"
    )
    parser.add_argument(
        "--largest",
        type=int,
        choices=SIZES,
        default=10,
        help="largest board of the line scaling (default: 10; 14 and 20 take many minutes)",
    )
    parser.add_argument(
        "--fast", action="store_true", help="small sizes, to see that it runs; no figures to quote"
    )
    return parser


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be a whole number >= 1, got {text!r}")
    return int(text)


def _all_lines() -> list[str]:
    """All lines except optional ones whose modules are missing; prints which and why."""
    reasons = {name: _missing([name]) for name, line in LINES.items() if line.optional}
    for reason in filter(None, reasons.values()):
        print(f"benchmark: left out: {reason}", file=sys.stderr)
    return [name for name in LINES if not reasons.get(name)]


def _missing(names: Iterable[str]) -> str | None:
    """What to install for the requested lines; None if nothing is missing."""
    for name in names:
        line = LINES[name]
        missing = [module for module in line.modules if find_spec(module) is None]
        if missing:
            return f'{name} needs {", ".join(missing)}: pip install ".[{line.extra}]"'
    return None


def _fault(arguments: argparse.Namespace) -> str | None:
    """What is wrong with the arguments; None if nothing is."""
    figure: Path | None = arguments.figure
    if figure is not None and "scaling" not in arguments.lines:
        return "--figure draws the line scaling: request this line, too"
    if figure is not None and figure.suffix != ".png":
        return f"--figure must name a .png file, got {str(figure)!r}"
    for option, path in (("--json", arguments.json), ("--figure", figure)):
        if path is not None and (not path.parent.is_dir() or path.is_dir()):
            return f"{option} must name a file in a folder that exists, got {str(path)!r}"
    return _missing(arguments.lines)


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
    """Load average of the last minute; None if the system does not provide it."""
    try:
        return round(os.getloadavg()[0], 2)
    except (AttributeError, OSError):
        return None


def _table(rows: Sequence[Mapping[str, Any]]) -> str:
    head = ("line", "ours", "against", "theirs", "ratio", "aim")
    return markdown(
        head,
        (
            (
                row["line"],
                f"{cell(row['ours'])} {row['unit']}",
                row["against"],
                f"{cell(row['baseline'])} {row['unit']}",
                cell(row["ratio"]),
                "" if row["aim"] is None else f"{row['aim']:g}",
            )
            for row in rows
        ),
    )


def _footer(rows: Sequence[Mapping[str, Any]], machine: Mapping[str, Any], *, fast: bool) -> str:
    lines = ["", "Medians, quartiles in brackets; a ratio above 1 means that ours is faster."]
    lines += [
        f"{row['line']}: {key}: {value:.3g}" for row in rows for key, value in row["notes"].items()
    ]
    lines.append(
        f"{machine['cpu']}, {machine['processors']} processors, Python {machine['python']}; "
        f"load average {machine['load_before']} before, {machine['load_after']} after"
    )
    if fast:
        lines.append("--fast: the sizes are too small for results to be quoted")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
