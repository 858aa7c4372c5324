"""The list of all figures of a run and of a sweep, with the functions that draw them.

To add a figure of a run, write a function `draw(run, *names)` in a module of this package, and its
entry in `FIGURES`. A figure is drawn from the files of the run folder alone, so any process can
draw it. Matplotlib is imported only by a process that draws.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from functools import partial
from importlib import import_module
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

from malfl_algos.report.run_files import Run, open_run
from malfl_algos.scores.registry import score_groups
from malfl_algos.storage.durable import write_bytes
from malfl_algos.work.pool import in_parallel
from malfl_algos.work.telling import say

__all__ = [
    "ARROWS",
    "EVIDENCE",
    "FIGURES",
    "MAPS",
    "POLICIES",
    "captions",
    "write_figures",
    "write_sweep_figure",
]

EVIDENCE = (
    "frequencies of actions in each half of the stages, against the probabilities that the reward "
    "from the other half predicts: on the dotted line, predictions hold; open squares are the "
    "prediction that nothing changes. Triangles: the rewards from the two halves against each "
    "other; on the dotted line, they agree."
)
MAPS = (
    "maps of each agent's recovered reward and of 2 posterior sd, by its own cell (rows) and the "
    "cell of the next agent (columns). A reward counts where its colour is darker than its 2 sd."
)
POLICIES = (
    "probabilities of each agent's actions, from stage to stage: dark fields are probable actions."
)
ARROWS = (
    "probabilities of each agent's moves on the board, from stage to stage: arrows are as long as "
    "a move is probable."
)


class FigureEntry(NamedTuple):
    """The figures of a run that one function draws.

    Args:
        function: module of this package and name, `MODULE.NAME`. It is called with a `Run` and the
            names of `each`; it returns a figure, or None if there is nothing to draw.
        stem: the first part of the file's name.
        each: any of `families`, `observers` and `groups` (of scores): there is one figure for every
            combination. Its names are arguments of the function and end the file's name.
        shows: a sentence on what one sees, for pages and for those who cannot see it; `{0}`, `{1}`
            stand for the names, `{policies}` for what figures of policies show.
    """

    function: str
    stem: str
    each: Sequence[str] = ()
    shows: str = ""


_EACH = ("families", "observers")
FIGURES = (
    FigureEntry(
        "reward_maps.draw",
        "rewards",
        _EACH,
        "{0}, {1}: maps of the ground-truth and the recovered reward of each agent, by its own "
        "cell (rows) and the cell of the next agent (columns). Equal colours are equal rewards.",
    ),
    FigureEntry("reward_maps.draw_spread", "deviations", _EACH, "{0}, {1}: " + MAPS),
    FigureEntry(
        "result_figures.draw_run",
        "intervals",
        _EACH,
        "{0}, {1}: recovered rewards by joint state, from the largest to the smallest, with bars "
        "of 2 posterior sd if the observer has them. Rewards whose bars overlap widely cannot be "
        "told apart.",
    ),
    FigureEntry(
        "scatter.draw",
        "truth",
        _EACH,
        "{0}, {1}: recovered against ground-truth reward. A perfect recovery lies on the dotted "
        "line; bars of 2 posterior sd, if there are any, should reach it for about 95 % of the "
        "values.",
    ),
    FigureEntry("evidence.draw", "evidence", _EACH, "{0}, {1}: " + EVIDENCE),
    FigureEntry(
        "scores.draw_trend",
        "trend",
        (),
        "Correlation with the ground truth of the rewards that are recovered from the first stages "
        "only, by their number. Curves that rise show that more learning tells more.",
    ),
    FigureEntry(
        "cross_correlation.draw",
        "cross_correlation",
        (),
        "Pearson r of the rewards recovered in each family (rows) with the ground truth of each "
        "family (columns). It should be highest on the diagonal.",
    ),
    FigureEntry(
        "scores.draw_scores",
        "",
        ("groups",),
        "Scores of all observers, group {0}: mean over seeds and its 95 % interval.",
    ),
    FigureEntry(
        "learners.draw_learning",
        "learning",
        ("families",),
        "{0}: what the agents earned and how random their choices were, by stage. Agents that "
        "learn earn more and choose less at random.",
    ),
    FigureEntry("policies.draw", "policies", ("families",), "{0}: {policies}"),
)
"""The slowest figures come first."""


def captions(run: Run) -> dict[str, str]:
    """What each figure of a run shows, by the name of its file without `.png`."""
    policies = POLICIES if run.rules is None else ARROWS
    return {
        name: entry.shows.format(*values, policies=policies)
        for name, entry, values in _figures(run)
    }


def write_figures(
    output_dir: Path,
    *,
    jobs: int | None = 1,
    skip: Collection[str] = (),
    drawn: Callable[[Path], None] = lambda path: None,
) -> list[Path]:
    """Draw every figure of a finished run into `output_dir/figures`.

    Only files of the run folder are read. A figure is left out if its table is missing, as the
    trend's is in a run without a trend. The same files give the same bytes.

    Args:
        output_dir: the folder that `malfl reproduce` wrote.
        jobs: number of worker processes; None means one per processor.
        skip: names of figures, without `.png`, that are not drawn.
        drawn: receives each file as soon as it is written.

    Returns:
        The files written. Each is written atomically.

    Raises:
        InputError: a file that a figure needs is missing or damaged; the message names it.
        ModuleNotFoundError: Matplotlib is not installed; the message says how to install it.
    """
    run = open_run(output_dir)
    wanted = [
        (name, entry.function, values) for name, entry, values in _figures(run) if name not in skip
    ]
    paths = []
    try:
        for number, path in enumerate(in_parallel(partial(_write, run), wanted, jobs=jobs), 1):
            say(f"{number} of {len(wanted)} figures", number / len(wanted))
            if path is not None:
                drawn(path)
                paths.append(path)
    except ModuleNotFoundError as fault:
        raise ModuleNotFoundError(
            f"the figures need {fault.name}: pip install 'malfl-env[algos]'", name=fault.name
        ) from fault
    return sorted(paths)


def write_sweep_figure(
    rows: Sequence[Mapping[str, Any]], folder: Path, *, x: str, hue: str | None, measure: str
) -> Path | None:
    """Draw the figure of a sweep; see `malfl_algos.report.sweep.draw`.

    Returns:
        The file; None if no row has this score.
    """
    drawn = _function("sweep.draw")(rows, x=x, hue=hue, measure=measure)
    return None if drawn is None else _save(drawn[1], folder / f"{drawn[0]}.png")


def _figures(run: Run) -> Iterator[tuple[str, FigureEntry, tuple[str, ...]]]:
    """File name without `.png`, entry and names of every figure."""
    names = {
        "families": run.families,
        "observers": run.observers,
        "groups": list(score_groups(run.results[0])),
    }
    for entry in FIGURES:
        for values in product(*(names[kind] for kind in entry.each)):
            yield "_".join(filter(None, (entry.stem, *values))), entry, values


def _write(run: Run, figure: tuple[str, str, tuple[str, ...]]) -> Path | None:
    name, function, values = figure
    drawn = _function(function)(run, *values)
    return None if drawn is None else _save(drawn, run.folder / "figures" / f"{name}.png")


def _save(figure: Any, path: Path) -> Path:
    write_bytes(path, _function("style.png_bytes")(figure))
    return path


def _function(path: str) -> Any:
    """The function `MODULE.NAME` of this package; its module may import Matplotlib."""
    module, _, name = path.rpartition(".")
    return getattr(import_module(f"malfl_algos.report.{module}"), name)
