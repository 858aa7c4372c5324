"""The line `import`: a trace from a log of a million rows, by `malfl import` in its own process."""

from __future__ import annotations

import csv
import subprocess
import sys
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from benchmark_lines import Contest

_PROGRAM = (
    "import sys\n"
    f"sys.path.append({str(Path(__file__).parent)!r})\n"
    "from benchmark_scaling_run import peak_bytes\n"
    "from malfl_algos.cli.main import main\n"
    "status = main(sys.argv[1:])\n"
    "print(peak_bytes())\n"
    "sys.exit(status)\n"
)
_ACTIONS = ("down", "up", "left", "right", "stay")
_WANTED = {"csv": 10.0, "parquet": 3.0}


def imports(fast: bool) -> Iterator[Contest]:
    """CSV and Parquet, two agents, states of two columns, against a loop over `csv.reader`."""
    with TemporaryDirectory() as name:
        folder, n_rows = Path(name), 10_000 if fast else 1_000_000
        _write(folder, n_rows)
        loop = partial(_loop, folder / "log.csv")
        for form, wanted in _WANTED.items():
            run = partial(_import, folder / f"log.{form}", folder / "trace.npz")
            notes = {
                "rows": float(n_rows),
                "wanted, s": wanted,
                "peak memory, MiB": run() / 2**20,
            }
            loop()
            yield Contest(f"import {form}", "s", run, loop, "a loop over csv.reader", notes=notes)


def _write(folder: Path, n_rows: int) -> None:
    import pyarrow
    from pyarrow import csv as arrow_csv
    from pyarrow import parquet

    rng = np.random.default_rng(0)
    places, labels = np.arange(n_rows), np.array(_ACTIONS)
    table = pyarrow.table(
        {
            "episode": places // 1000,
            "step": places % 1000,
            "row": rng.integers(0, 9, n_rows),
            "column": rng.integers(0, 9, n_rows),
            "alice": labels[rng.integers(0, 5, n_rows)],
            "bob": labels[rng.integers(0, 5, n_rows)],
            "seconds": rng.random(n_rows),
        }
    )
    arrow_csv.write_csv(table, folder / "log.csv")
    parquet.write_table(table, folder / "log.parquet")


def _import(log: Path, trace: Path) -> float:
    """Run the command; returns its peak memory in bytes."""
    argv: Sequence[str] = (
        *(sys.executable, "-c", _PROGRAM, "import", str(log), "--output", str(trace)),
        *("--overwrite", "--state", "row", "column", "--actions", "alice=alice", "bob=bob"),
        *("--stages", "10"),
    )
    done = subprocess.run(argv, capture_output=True, text=True, check=True)
    return float(done.stdout.splitlines()[-1])


def _loop(log: Path) -> int:
    """The counts of ten stages, as one would write it: a dictionary and no checks."""
    counts: dict[tuple[str, ...], int] = {}
    with log.open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    for place, row in enumerate(rows[:-1]):
        following = rows[place + 1]
        if following["episode"] == row["episode"]:
            names = ("row", "column", "alice", "bob")
            key = (str(place * 10 // len(rows)), *(row[name] for name in names))
            key += (following["row"], following["column"])
            counts[key] = counts.get(key, 0) + 1
    return sum(counts.values())
