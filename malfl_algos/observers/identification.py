"""What the data tell of a reward, as diagnostics: directions are counted where there are data.

A reward value of a joint state without data is unknown, but that says nothing of the method: it is
counted apart from the directions that the data of visited states leave open.
"""

from __future__ import annotations

from typing import Any

__all__ = ["identification"]


def identification(
    *, n_unknowns: int, rank: int, n_without_data: int, per_state: int, weak: int = 0
) -> dict[str, Any]:
    """The diagnostics `rank`, `n_unidentified`, `n_without_data` and `identification`, in words.

    Args:
        n_unknowns: values or weights of the reward.
        rank: how many directions of it the data determine.
        n_without_data: unknowns that no observation depends on, those of states without data.
        per_state: unknowns of one state; 0 for weights of features.
        weak: directions, beside these, along which a prior says more than the data.
    """
    n_seen = n_unknowns - n_without_data
    free = n_seen - rank
    if free == 1 and per_state == 1 and weak <= 1:
        words = "identified up to one additive constant"
    elif free > (1 if per_state == 1 else 0):
        words = f"not identified: {free} of {n_seen} directions are free"
    elif weak > 1:
        words = (
            f"partly identified: along {weak} of {n_seen} directions the prior says more than the "
            "data"
        )
    else:
        words = "identified; the mean is known faintly at best, and is not claimed"
    if n_without_data:
        words += f"; {n_without_data // per_state} joint states without data are not counted"
    return {
        "rank": rank,
        "n_unidentified": free,
        "n_without_data": n_without_data,
        "identification": words,
    }
