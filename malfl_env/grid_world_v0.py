"""The grid world in PettingZoo's module form: `parallel_env`, `raw_env` and `env`.

All three take the keywords of `malfl_env.grid_world.GridWorld`.
"""

from __future__ import annotations

from typing import Any

from pettingzoo.utils.conversions import parallel_to_aec
from pettingzoo.utils.env import AECEnv
from pettingzoo.utils.wrappers import (
    AssertOutOfBoundsWrapper,
    OrderEnforcingWrapper,
)

from malfl_env.grid_world import GridWorld

__all__ = ["env", "parallel_env", "raw_env"]

parallel_env = GridWorld


def raw_env(**options: Any) -> AECEnv:
    """The grid world with agents acting in turn; they move when the last one has chosen."""
    return parallel_to_aec(GridWorld(**options))


def env(**options: Any) -> AECEnv:
    """`raw_env` with PettingZoo's checks of actions and of the order of calls around it."""
    return OrderEnforcingWrapper(AssertOutOfBoundsWrapper(raw_env(**options)))
