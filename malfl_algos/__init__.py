"""Learners, observers and scores for games of agents that learn.

Public: the names in `__all__`, and the packages and modules `contract` (what plugins implement),
`plugins`, `testing`, `soft`, `scores` and `play`. Every other module is private. Read `trace` and
`contract` first: a learner produces a trace, and an observer recovers rewards from it.
"""

from typing import TYPE_CHECKING, Any

from malfl_algos.contract import RecoveredRewards
from malfl_algos.trace import LearningTrace, Stage, Transitions

if TYPE_CHECKING:
    from malfl_algos.observers.judging import judge
    from malfl_algos.storage.trace_folders import TraceWriter

__all__ = ["LearningTrace", "RecoveredRewards", "Stage", "TraceWriter", "Transitions", "judge"]


def __getattr__(name: str) -> Any:
    """Import `TraceWriter` and `judge` at their first use: `import malfl_algos` loads no more."""
    if name == "TraceWriter":
        from malfl_algos.storage.trace_folders import TraceWriter

        return TraceWriter
    if name == "judge":
        from malfl_algos.observers.judging import judge

        return judge
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
