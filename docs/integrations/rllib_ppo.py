"""RLlib, new API stack: one PPO policy for each agent, without a connector for observations."""

from ray.rllib.algorithms.ppo import PPOConfig
from ray.rllib.env.wrappers.pettingzoo_env import ParallelPettingZooEnv
from ray.tune.registry import register_env


def make(config: dict) -> ParallelPettingZooEnv:
    from malfl_env import grid_world_v0  # also in the processes of remote workers

    return ParallelPettingZooEnv(grid_world_v0.parallel_env(observations="one_hot", **config))


register_env("grid_world", make)
algorithm = (
    PPOConfig()
    .environment("grid_world", env_config={"max_cycles": 100})
    .multi_agent(policies={"agent_0", "agent_1"}, policy_mapping_fn=lambda agent, *_, **__: agent)
    .env_runners(num_env_runners=0)
    .training(train_batch_size_per_learner=1000, minibatch_size=250, num_epochs=5)
).build_algo()
for _ in range(3):
    print(algorithm.train()["env_runners"]["agent_episode_returns_mean"])
