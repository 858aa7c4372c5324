"""Tianshou: one DQN for each agent."""

import pettingzoo
from tianshou.algorithm import DQN
from tianshou.algorithm.modelfree.dqn import DiscreteQLearningPolicy
from tianshou.algorithm.multiagent.marl import MultiAgentOffPolicyAlgorithm
from tianshou.algorithm.optim import AdamOptimizerFactory
from tianshou.data import Collector, VectorReplayBuffer
from tianshou.env import DummyVectorEnv, PettingZooEnv
from tianshou.trainer import OffPolicyTrainerParams
from tianshou.utils.net.common import Net

import malfl_env  # noqa: F401, registers the game


def make():
    return PettingZooEnv(pettingzoo.make("aec", "malfl/grid_world-v0", observations="one_hot"))


envs = DummyVectorEnv([make] * 4)
algorithms = []
for _ in range(2):
    net = Net(state_shape=(12,), action_shape=5, hidden_sizes=[64])
    policy = DiscreteQLearningPolicy(model=net, action_space=make().action_space, eps_training=0.1)
    algorithms.append(DQN(policy=policy, optim=AdamOptimizerFactory(lr=1e-3)))
both = MultiAgentOffPolicyAlgorithm(algorithms=algorithms, env=make())
collector = Collector(both, envs, VectorReplayBuffer(20_000, 4))
steps = {"max_epochs": 1, "epoch_num_steps": 2000, "collection_step_num_env_steps": 200}
print(both.run_training(OffPolicyTrainerParams(training_collector=collector, **steps)))
