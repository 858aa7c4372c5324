"""Ready-made games beside the grid world, each with its table; registered with PettingZoo.

- `prisoners_dilemma`, `matching_pennies`, `matrix_game`: 2 agents (or more); joint states are the
  last joint actions.
- `pricing`: 2 agents; 225 joint states, the last prices (Calvano, Calzolari, Denicolo, Pastorello
  2020).
- `two_step`: 1 agent, 3 states (Daw, Gershman, Seymour, Dayan, Dolan 2011).
- `labyrinth`: 1 agent, 127 states (Rosenberg, Zhang, Perona, Meister 2021).
- `key_and_door`: 2 agents; 162 joint states, two cells and a door.

Each function takes keywords only and returns a `malfl_env.TabularEnv`; `.game` is its
`malfl_env.MarkovGame`. On the command line: `malfl learn --game malfl_env.games:pricing`.

Public: the names in `__all__`. The modules of this package are private.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import pettingzoo
from pettingzoo.utils.conversions import parallel_to_aec
from pettingzoo.utils.env import AECEnv
from pettingzoo.utils.wrappers import AssertOutOfBoundsWrapper, OrderEnforcingWrapper

from malfl_env.games.key_and_door import key_and_door
from malfl_env.games.labyrinth import labyrinth
from malfl_env.games.matrix import matching_pennies, matrix_game, prisoners_dilemma
from malfl_env.games.pricing import monopoly_prices, nash_prices, pricing, profits
from malfl_env.games.two_step import two_step

__all__ = [
    "ENVIRONMENTS",
    "key_and_door",
    "labyrinth",
    "matching_pennies",
    "matrix_game",
    "monopoly_prices",
    "nash_prices",
    "pricing",
    "prisoners_dilemma",
    "profits",
    "register_environments",
    "two_step",
]

ENVIRONMENTS = (
    "key_and_door",
    "labyrinth",
    "matching_pennies",
    "matrix_game",
    "pricing",
    "prisoners_dilemma",
    "two_step",
)
"""Functions of this module that are registered, as `malfl/NAME-v0`."""


def register_environments() -> None:
    """Register the games in PettingZoo's parallel and AEC registries, once, if it has them."""
    register: Any = getattr(pettingzoo, "register", None)
    if register is None:
        return
    for name in ENVIRONMENTS:
        name_there = f"malfl/{name}-v0"
        if name_there not in pettingzoo.parallel_registry:
            register("parallel", name_there, entry_point=f"malfl_env.games:{name}")
        if name_there not in pettingzoo.aec_registry:
            register("aec", name_there, entry_point=partial(_in_turn, name))


def _in_turn(name: str, **options: Any) -> AECEnv:
    """A game as an AEC environment in PettingZoo's wrappers."""
    made = globals()[name](**options)
    return OrderEnforcingWrapper(AssertOutOfBoundsWrapper(parallel_to_aec(made)))
