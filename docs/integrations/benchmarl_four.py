"""BenchMARL: MAPPO, IPPO, IQL and QMIX."""

from benchmarl.algorithms import IppoConfig, IqlConfig, MappoConfig, QmixConfig
from benchmarl.environments.pettingzoo.common import PettingZooClass
from benchmarl.experiment import Experiment, ExperimentConfig
from benchmarl.models import MlpConfig
from torchrl.envs import PettingZooWrapper

from malfl_env import grid_world_v0


class GridWorld(PettingZooClass):
    supports_discrete_actions = has_state = lambda self: True

    def get_env_fun(self, num_envs, continuous_actions, seed, device):
        make = grid_world_v0.parallel_env
        return lambda: PettingZooWrapper(make(**self.config), return_state=True, seed=seed)


config, model = ExperimentConfig.get_from_yaml(), MlpConfig.get_from_yaml()
config.loggers, config.evaluation, config.render, config.max_n_frames = [], False, False, 1000
config.on_policy_collected_frames_per_batch = config.off_policy_collected_frames_per_batch = 500
config.off_policy_n_optimizer_steps = config.on_policy_n_minibatch_iters = 5
for algorithm in (MappoConfig, IppoConfig, IqlConfig, QmixConfig):
    task = GridWorld("GRID_WORLD", {"observations": "one_hot", "max_cycles": 100})
    Experiment(task, algorithm.get_from_yaml(), model, seed=0, config=config).run()
