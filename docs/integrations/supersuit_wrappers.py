"""SuperSuit: the nine observation wrappers that reject rows and columns (a MultiDiscrete)."""

import numpy as np
import pettingzoo
import supersuit

import malfl_env  # noqa: F401, registers the game

WRAPPERS = {
    "agent_indicator_v0": {},
    "black_death_v3": {},
    "dtype_v0": {"dtype": np.float64},
    "flatten_v0": {},
    "frame_stack_v1": {"stack_size": 3},
    "normalize_obs_v0": {},
    "observation_lambda_v0": {"change_observation_fn": lambda seen, space: seen},
    "pad_observations_v0": {},
    "reshape_v0": {"shape": (2, 2)},
}
for name, options in WRAPPERS.items():
    game = pettingzoo.make("parallel", "malfl/grid_world-v0", observations="coordinates")
    env = getattr(supersuit, name)(game, **options)
    observations, _ = env.reset(seed=0)
    assert all(seen in env.observation_space(agent) for agent, seen in observations.items())
    print(name, env.observation_space("agent_0"))
