"""skrl: IPPO with the models of its runner."""

from skrl.envs.wrappers.torch import wrap_env
from skrl.utils.runner.torch import Runner

from malfl_env import grid_world_v0

env = wrap_env(grid_world_v0.parallel_env(observations="one_hot"), wrapper="pettingzoo")
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
