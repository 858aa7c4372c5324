"""The report of a run: pictures drawn from the files of a run folder."""

from __future__ import annotations

from malfl_algos.report.figures import write_figures

__all__ = ["write_figures"]
