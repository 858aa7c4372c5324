"""XuanCe: IPPO with its settings for MPE and discrete actions."""

from xuance.common import get_arguments
from xuance.environment import REGISTRY_MULTI_AGENT_ENV, RawMultiAgentEnv, make_envs
from xuance.environment.multi_agent_env.mpe import MPE_Env
from xuance.torch.agents import IPPO_Agents

from malfl_env import grid_world_v0


class GridWorld(MPE_Env):
    def __init__(self, config):
        RawMultiAgentEnv.__init__(self)
        env = self.env = grid_world_v0.parallel_env(observations="one_hot", max_cycles=100)
        self.continuous_actions, self.agents = False, env.possible_agents
        self.num_agents, self.max_episode_steps = len(self.agents), env.max_cycles
        self.state_space, self.action_space = env.state_space, env.action_spaces
        self.observation_space = env.observation_spaces
        self.individual_episode_reward = dict.fromkeys(self.agents, 0.0)


REGISTRY_MULTI_AGENT_ENV["grid_world"] = GridWorld
config = get_arguments("ippo", "mpe", "simple_spread_v3")
config.env_name, config.vectorize = "grid_world", "DummyVecMultiAgentEnv"
config.policy = "Categorical_MAAC_Policy"
config.continuous_action, config.parallels, config.buffer_size = False, 4, 400
IPPO_Agents(config, make_envs(config)).train(300)
