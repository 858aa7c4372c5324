"""skrl: IPPO with the models of its runner."""

import pettingzoo
from skrl.envs.wrappers.torch import wrap_env
from skrl.utils.runner.torch import Runner

import malfl_env  # noqa: F401, registers the game

game = pettingzoo.make("parallel", "malfl/grid_world-v0", observations="one_hot")
env = wrap_env(game, wrapper="pettingzoo")
network = [{"name": "net", "input": "OBSERVATIONS", "layers": [64], "activations": "elu"}]
settings = {
    "models": {
        "separate": True,
        "policy": {"class": "CategoricalMixin", "network": network, "output": "ACTIONS"},
        "value": {"class": "DeterministicMixin", "network": network, "output": "ONE"},
    },
    "memory": {"class": "RandomMemory", "memory_size": -1},
    "agent": {
        "class": "IPPO",
        "rollouts": 256,
        "learning_rate_scheduler_kwargs": {agent: {} for agent in env.possible_agents},
    },
    "trainer": {"class": "SequentialTrainer", "timesteps": 1024, "headless": True},
}
Runner(env, settings).run()
