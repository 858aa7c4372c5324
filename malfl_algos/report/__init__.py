"""Figures, drawn from the files of a run folder and from the table of a sweep.

Read `figures.py` first: it lists every figure. Public are the names in `__all__`; the modules of
this package are private.
"""

from __future__ import annotations

import os
from importlib.util import find_spec

_backend = os.environ.get("MPLBACKEND", "")
if _backend.startswith("module://") and find_spec(_backend[9:].partition(".")[0]) is None:
    # A notebook hands the name of its backend on to "!malfl ...". If the package of that backend is
    # not installed, Matplotlib cannot be imported. Figures need no backend.
    del os.environ["MPLBACKEND"]
    try:
        import matplotlib  # noqa: F401
    finally:
        os.environ["MPLBACKEND"] = _backend

from malfl_algos.report.figures import write_figures, write_sweep_figure  # noqa: E402

__all__ = ["write_figures", "write_sweep_figure"]
