"""AgileRL: IPPO."""

from agilerl.algorithms import IPPO
from agilerl.training.train_multi_agent_on_policy import train_multi_agent_on_policy

from malfl_env import grid_world_v0

env = grid_world_v0.parallel_env(observations="one_hot", max_cycles=100)
agents = env.possible_agents
learner = IPPO(
    [env.observation_space(agent) for agent in agents],
    [env.action_space(agent) for agent in agents],
    agent_ids=agents,
    learn_step=200,
)
learners, fitness = train_multi_agent_on_policy(
    env, "grid_world", "IPPO", [learner], max_steps=1000, evo_steps=400, verbose=False
)
print(fitness)
