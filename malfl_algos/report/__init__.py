"""Figures, summaries and pages: of a recovered result, of the files of a run, of a sweep's table.

Read `figures.py` first: it lists every figure of a run. `result_sections.py` has the content of a
result's summary, which `result_text.py` and `pages.py` write as text and as HTML. Public are the
names in `__all__`; the modules of this package are private.
"""

from __future__ import annotations

import os
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from malfl_algos.report.figures import write_figures, write_sweep_figure

_backend = os.environ.get("MPLBACKEND", "")
if _backend.startswith("module://") and find_spec(_backend[9:].partition(".")[0]) is None:
    # A notebook hands the name of its backend on to "!malfl ...". If the package of that backend is
    # not installed, Matplotlib cannot be imported. Figures need no backend.
    del os.environ["MPLBACKEND"]
    try:
        import matplotlib  # noqa: F401
    finally:
        os.environ["MPLBACKEND"] = _backend

__all__ = ["write_figures", "write_sweep_figure"]


def __getattr__(name: str) -> Any:
    """Import the figures of runs at their first use: a summary needs nothing of them."""
    if name in __all__:
        from malfl_algos.report import figures

        return getattr(figures, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
