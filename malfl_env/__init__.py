"""Games of learning agents: PettingZoo environments and their exact tabular models.

Importing this package registers `malfl/grid_world-v0` in Gymnasium's registry and in PettingZoo's,
if it has any; and the games of `malfl_env.games` in PettingZoo's.

Public: the names in `__all__`, and `errors`, `games`, `markov_game`, `observations`, `testing` and
`vector`. The rest is private. Read `rules` first (the grid world as arrays), then `grid_world` (the
environment) and `markov_game` (the tabular model).
"""

from importlib import import_module
from types import ModuleType

from malfl_env import games, grid_world_v0
from malfl_env.errors import InputError, TooFewStages
from malfl_env.markov_game import Factor, MarkovGame
from malfl_env.single_agent import single_agent_env
from malfl_env.tabular import markov_game
from malfl_env.tabular_env import TabularEnv

__all__ = [
    "Factor",
    "InputError",
    "MarkovGame",
    "TabularEnv",
    "TooFewStages",
    "games",
    "grid_world_v0",
    "markov_game",
    "single_agent_env",
]

grid_world_v0.register_environments()
games.register_environments()


def __getattr__(name: str) -> ModuleType:
    if name == "testing":  # only tests need it
        return import_module("malfl_env.testing")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
