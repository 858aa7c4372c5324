"""The grid world in PettingZoo's module form: `parallel_env`, `raw_env` and `env`.

All three take the keywords of `malfl_env.grid_world.GridWorld`.
"""

from __future__ import annotations

from typing import Any

import gymnasium
import pettingzoo
from pettingzoo.utils.conversions import parallel_to_aec
from pettingzoo.utils.env import AECEnv
from pettingzoo.utils.wrappers import (
    AssertOutOfBoundsWrapper,
    OrderEnforcingWrapper,
)

from malfl_env.grid_world import GridWorld

__all__ = ["ENVIRONMENT_ID", "env", "parallel_env", "raw_env", "register_environments"]

ENVIRONMENT_ID = "malfl/grid_world-v0"

parallel_env = GridWorld


def raw_env(**options: Any) -> AECEnv:
    """The grid world as an AEC environment: agents act in turn, and move after the last one."""
    return parallel_to_aec(GridWorld(**options))


def env(**options: Any) -> AECEnv:
    """`raw_env` in PettingZoo's wrappers, which check actions and the order of calls."""
    return OrderEnforcingWrapper(AssertOutOfBoundsWrapper(raw_env(**options)))


def register_environments() -> None:
    """Register the grid world in PettingZoo's parallel and AEC registries and in Gymnasium's, once.

    Gymnasium makes `malfl_env.single_agent_env`, and `malfl_env.vector.SingleAgentVector` by
    `gymnasium.make_vec`. PettingZoo has registries since version 1.27; an older version has none.
    """
    if ENVIRONMENT_ID not in gymnasium.registry:
        gymnasium.register(
            ENVIRONMENT_ID,
            entry_point="malfl_env.single_agent:single_agent_env",
            vector_entry_point="malfl_env.vector:SingleAgentVector",
        )
    register: Any = getattr(pettingzoo, "register", None)
    if register is None:
        return
    if ENVIRONMENT_ID not in pettingzoo.parallel_registry:
        register("parallel", ENVIRONMENT_ID, entry_point="malfl_env.grid_world_v0:parallel_env")
    if ENVIRONMENT_ID not in pettingzoo.aec_registry:
        register("aec", ENVIRONMENT_ID, entry_point="malfl_env.grid_world_v0:env")
