"""The figures of a run and of a sweep: which there are, and what draws them.

To add a figure of a run, write a module of this package with a function `draw(run, *names)` and its
entry in `FIGURES`. A figure is drawn from the files of the run folder alone, so that any process
can draw it, and only one that does imports Matplotlib.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from functools import partial
from importlib import import_module
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

from malfl_algos.report.run_files import Run, open_run
from malfl_algos.scores.registry import score_groups
from malfl_algos.storage.durable import write_bytes
from malfl_algos.work.pool import in_parallel

__all__ = ["FIGURES", "write_figures", "write_sweep_figure"]


class FigureEntry(NamedTuple):
    """Figures of a run that one function draws.

    Args:
        module: of this package; it has `draw(run, *names) -> Figure | None`.
        stem: how the name of the file begins.
        each: one figure for each of these: `families`, `observers`, `groups` of scores. Their names
            are handed to the function, and end the name of the file.
    """

    module: str
    stem: str
    each: Sequence[str] = ()


FIGURES = (
    FigureEntry("reward_maps", "rewards", ("families", "observers")),
    FigureEntry("trend", "trend"),
    FigureEntry("cross_correlation", "cross_correlation"),
    FigureEntry("scores", "", ("groups",)),
    FigureEntry("learning", "learning", ("families",)),
    FigureEntry("policies", "policies", ("families",)),
)
"""Those that take longest first."""


def write_figures(
    output_dir: Path, *, jobs: int | None = 1, skip: Collection[str] = ()
) -> list[Path]:
    """Draw every figure of a finished run into `output_dir/figures`.

    Reads only files of the run folder. A figure whose table is not there (no trend was asked for)
    is left out. The same files give the same bytes.

    Args:
        output_dir: the folder that `malfl reproduce` wrote.
        jobs: worker processes; None: one per processor.
        skip: names of figures, without `.png`, that are left as they are.

    Returns:
        The files written, each atomically.

    Raises:
        InputError: where a file that a figure needs is missing or damaged; the message names it.
        ModuleNotFoundError: without matplotlib; the message says how to install it.
    """
    run = open_run(output_dir)
    wanted = [figure for figure in _figures(run) if figure[0] not in skip]
    try:
        drawn = list(in_parallel(partial(_write, run), wanted, jobs=jobs))
    except ModuleNotFoundError as fault:
        raise ModuleNotFoundError(
            f"the figures need {fault.name}: pip install 'malfl-env[algos]'", name=fault.name
        ) from fault
    return sorted(path for path in drawn if path is not None)


def write_sweep_figure(
    rows: Sequence[Mapping[str, Any]], folder: Path, *, x: str, hue: str | None, measure: str
) -> Path | None:
    """Draw the figure of a sweep; see `malfl_algos.report.sweep.draw`.

    Returns:
        The file; None where there is no row with this score.
    """
    drawn = _drawing("sweep").draw(rows, x=x, hue=hue, measure=measure)
    return None if drawn is None else _save(drawn[1], folder / f"{drawn[0]}.png")


def _figures(run: Run) -> Iterator[tuple[str, str, tuple[str, ...]]]:
    """Name, module and further arguments of every figure."""
    names = {
        "families": run.families,
        "observers": run.observers,
        "groups": list(score_groups(run.results[0])),
    }
    for entry in FIGURES:
        for values in product(*(names[kind] for kind in entry.each)):
            yield "_".join(filter(None, (entry.stem, *values))), entry.module, values


def _write(run: Run, figure: tuple[str, str, tuple[str, ...]]) -> Path | None:
    name, module, values = figure
    drawn = _drawing(module).draw(run, *values)
    return None if drawn is None else _save(drawn, run.folder / "figures" / f"{name}.png")


def _save(figure: Any, path: Path) -> Path:
    write_bytes(path, _drawing("style").png_bytes(figure))
    return path


def _drawing(module: str) -> Any:
    """A module of this package that imports Matplotlib."""
    return import_module(f"malfl_algos.report.{module}")
