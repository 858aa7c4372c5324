"""A stage and a trace in a few lines, for `repr`."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from malfl_algos.trace import LearningTrace, Stage

__all__ = ["stage_text", "trace_text"]

_MOST = 160


def stage_text(stage: Stage) -> str:
    """What a stage holds, in one line."""
    parts = [f"{stage.n_steps} steps"]
    if stage.joint_counts is not None:
        n_states, *n_actions = stage.joint_counts.shape
        parts += [f"{n_states} joint states", f"actions {', '.join(map(str, n_actions))}", "counts"]
    if stage.next_state_counts is not None:
        parts.append("counts of next states")
    if stage.transitions is not None:
        parts.append("ordered steps")
    return f"Stage: {'; '.join(parts)}"


def trace_text(trace: LearningTrace) -> str:
    """Agents, stages, steps, states and actions, in three lines of any trace."""
    total = sum(stage.n_steps for stage in trace.stages)
    size = "steps with observations"
    if trace.is_tabular:
        size = f"{trace.n_states} joint states"
    agents, actions = (", ".join(map(str, own)) for own in (trace.agents, trace.n_actions))
    unit = "stage" if trace.n_stages == 1 else "stages"
    return (
        f"LearningTrace of {_cut(agents)}: {trace.n_stages} {unit}, {total} steps\n"
        f"{size}; numbers of actions: {_cut(actions)}\n"
        "stages, states, actions and notes have what it holds"
    )


def _cut(text: str) -> str:
    return text if len(text) <= _MOST else f"{text[: _MOST - 3]}..."
