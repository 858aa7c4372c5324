"""HTML from the templates of this package. Names come from files, so everything is escaped."""

from __future__ import annotations

from typing import Any

from malfl_algos.recovered import RecoveredRewards
from malfl_algos.report.result_sections import sections_of

__all__ = ["rendered", "summary_html"]


def summary_html(result: RecoveredRewards) -> str:
    """See `RecoveredRewards.summary`; a part of a page."""
    return rendered("summary.html", agents=result.agents, sections=sections_of(result))


def rendered(template: str, **content: Any) -> str:
    """A template, filled in.

    Raises:
        ImportError: without Jinja2.
    """
    try:
        from jinja2 import Environment, PackageLoader, StrictUndefined
    except ImportError as fault:
        raise ImportError('HTML needs Jinja2: pip install "malfl-env[algos]"') from fault
    environment = Environment(
        loader=PackageLoader("malfl_algos.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(template).render(**content)
