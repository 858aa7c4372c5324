"""The report of a run: pictures drawn from the files of a run folder.

Public: the names in `__all__`. The modules below this package are private.
"""

from __future__ import annotations

from malfl_algos.report.figures import write_figures

__all__ = ["write_figures"]
