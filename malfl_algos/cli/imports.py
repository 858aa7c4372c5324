"""`malfl import`: a learning trace from a log in a file."""

from __future__ import annotations

import argparse
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from malfl_algos.cli.import_options import (
    columns_of,
    import_arguments,
    named_game_of,
    read_roles,
    roles_given,
    told,
)
from malfl_algos.cli.import_texts import (
    counted,
    in_words_of_options,
    line,
    quoted,
    rare_labels,
    unused,
)
from malfl_algos.cli.table import argument, command, existing, log, tell
from malfl_env.errors import InputError

if TYPE_CHECKING:
    from malfl_algos.trace import LearningTrace

__all__ = ["import_log"]

_FILE_NAME = re.compile(r"\w[\w.-]*")


@command(
    "import",
    "Make a trace from a log: CSV, Parquet, NPZ, JSON lines, or a data set of Minari.",
    argument(
        "log",
        metavar="LOG",
        help="read this file (.csv, .tsv, .txt, .parquet, .npz, .jsonl, .json; CSV also .gz) or "
        "folder (Minari); an export of malfl needs no further option but --output",
    ),
    argument(
        "--output",
        metavar="TRACE.npz",
        required=True,
        help="write the trace here; with --separate a folder with a trace of each subject",
    ),
    *import_arguments(),
    argument("--overwrite", action="store_true", help="replace an existing output"),
)
def import_log(arguments: argparse.Namespace) -> int:
    """Import one log."""
    existing(arguments.log)
    output = Path(arguments.output)
    if output.exists() and not arguments.overwrite:
        raise InputError(f"{output} exists: choose another name, or add --overwrite")
    if arguments.separate and arguments.subject is None:
        raise InputError("--separate needs --subject COL")
    from malfl_algos.logs.exported import is_export, trace_of_export
    from malfl_algos.logs.files import open_log
    from malfl_algos.plugins.options import naming
    from malfl_algos.storage.outputs import check_writable
    from malfl_algos.trace import LearningTrace
    from malfl_algos.work.progress import Progress

    check_writable(output if arguments.separate else output.absolute().parent)
    with Progress("importing", None, log=log) as shown, naming(arguments.log):
        opened = open_log(Path(arguments.log), encoding=arguments.encoding)
        traces: dict[str, LearningTrace]
        if is_export(opened) and not roles_given(arguments):
            traces = {"": trace_of_export(opened)}
            notes: tuple[str, ...] = ("the trace that malfl export wrote",)
        else:
            roles = read_roles(arguments, opened)
            if arguments.game not in (None, "none"):
                roles["game"] = named_game_of(arguments.game)
            used = columns_of(roles)
            shown.hear("1 of 2, reading the log")
            frame = opened.read(used)
            shown.hear("2 of 2, making the trace")
            with in_words_of_options(opened.names):
                if arguments.separate:
                    traces = LearningTrace.from_subjects(frame, **roles)
                else:
                    traces = {"": LearningTrace.from_table(frame, **roles)}
            notes = (*opened.notes(), f"columns: {told(roles)}", *unused(opened.names, used))
    _write(traces, output)
    for name, trace in traces.items():
        _tell(name, trace, output, notes)
    return 0


def _write(traces: Mapping[str, LearningTrace], output: Path) -> None:
    if "" in traces:
        if traces[""].is_tabular and output.is_dir():
            raise InputError(f"{output} is a folder: --output must name a file, as trace.npz")
        traces[""].save(output)
        return
    from malfl_algos.storage.origins import files_together

    wrong = next((name for name in traces if not _FILE_NAME.fullmatch(name)), None)
    if wrong is not None:
        raise InputError(
            f"subject {wrong!r} cannot name a file: only letters, digits, '_', '-' and '.' can"
        )
    with files_together(output) as place:
        for name, trace in traces.items():
            trace.save(place / f"{name}.npz")


def _tell(name: str, trace: LearningTrace, output: Path, notes: Sequence[str]) -> None:
    sizes = [stage.n_steps for stage in trace.stages]
    shown = ", ".join(map(str, sizes[:10])) + (", ..." if len(sizes) > 10 else "")
    path = output / f"{name}.npz" if name else output
    tell(f"{path}: {counted(len(sizes), 'stage')} of {shown} step{'s' * (sizes != [1])}")
    if trace.is_tabular:
        visited = np.logical_or.reduce([stage.state_counts > 0 for stage in trace.stages]).sum()
        ends = () if trace.states is None else (trace.states[0], trace.states[-1])
        labels = f", labelled {line(ends[0])} to {line(ends[1])}" if ends else ""
        tell(f"  states: {trace.n_states}, {visited} of them visited{labels}")
    for index, (agent, number) in enumerate(zip(trace.agents, trace.n_actions, strict=True)):
        own = range(number) if trace.actions is None else trace.actions[index]
        some = ", ".join(map(line, own[:8])) + (", ..." if number > 8 else "")
        tell(f"  agent {quoted(agent)}: {counted(number, 'action')} ({some})")
    for note in (*notes, *trace.notes, *rare_labels(trace)):
        tell(f"  {note}")
    if trace.n_stages == 1:
        tell("  one stage shows no learning: observers need two or more")
