"""`malfl report`: one HTML page about a result or a run."""

from __future__ import annotations

import argparse
from pathlib import Path

from malfl_algos.cli.table import argument, command, existing, tell
from malfl_env.errors import InputError

__all__ = ["report"]


@command(
    "report",
    "Write one self-contained HTML page about a result or a run.",
    argument(
        "folder",
        metavar="RUN_OR_DIR",
        help="read this output folder of malfl reproduce or malfl recover",
    ),
    argument("--output", metavar="FILE", required=True, help="write this HTML file"),
    argument("--overwrite", action="store_true", help="replace the file if it exists"),
)
def report(arguments: argparse.Namespace) -> int:
    """Write the page."""
    existing(arguments.folder)
    folder, output = Path(arguments.folder), Path(arguments.output)
    from malfl_algos.storage.durable import is_special, write_where_told
    from malfl_algos.storage.outputs import check_writable

    if not is_special(output):
        if output.exists() and not (arguments.overwrite and output.is_file()):
            raise InputError(f"{output} exists: choose another file, or add --overwrite")
        check_writable(output.resolve().parent)
    page = _page(folder).encode()
    write_where_told(output, page)
    if not is_special(output):
        tell(f"{output}: {len(page) / 2**20:.1f} MiB; open it in a browser")
    return 0


def _page(folder: Path) -> str:
    from malfl_algos.experiments.records import RECORD_NAME
    from malfl_algos.experiments.sweep_verification import is_sweep
    from malfl_algos.storage.origins import RESULT_NAME

    if (folder / RECORD_NAME).is_file():
        from malfl_algos.report.run_page import run_page

        return run_page(folder)
    if (folder / RESULT_NAME).is_file():
        from malfl_algos.report.result_page import result_page

        return result_page(folder)
    if folder.is_dir() and is_sweep(folder):
        raise InputError(f"{folder} is the folder of a sweep: give the folder of one of its runs")
    raise InputError(
        f"{folder}: neither the folder of a run ({RECORD_NAME}) nor of recovered rewards "
        f"({RESULT_NAME})"
    )
