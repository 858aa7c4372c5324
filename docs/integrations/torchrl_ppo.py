"""TorchRL: PPO with its stock MultiAgentMLP, one network for each agent."""

from tensordict.nn import TensorDictModule
from torch.distributions import Categorical
from torch.optim import Adam
from torchrl.envs import PettingZooWrapper
from torchrl.modules import MultiAgentMLP, ProbabilisticActor
from torchrl.objectives import ClipPPOLoss

from malfl_env import grid_world_v0

env = PettingZooWrapper(grid_world_v0.parallel_env(observations="one_hot", max_cycles=200))
names = ("action", "advantage", "value_target", "value", "reward", "done", "terminated")
seen, logits, chance = (("agent", name) for name in ("observation", "logits", "chance"))
mlp = {"n_agent_inputs": 12, "n_agents": 2, "centralized": False, "share_params": False}
policy = TensorDictModule(MultiAgentMLP(n_agent_outputs=5, **mlp), [seen], [logits])
how = {"distribution_class": Categorical, "return_log_prob": True, "log_prob_key": chance}
how["default_interaction_type"] = "random"
actor = ProbabilisticActor(policy, {"logits": logits}, [("agent", "action")], **how)
critic = TensorDictModule(MultiAgentMLP(n_agent_outputs=1, **mlp), [seen], [("agent", "value")])
loss = ClipPPOLoss(actor, critic)
loss.set_keys(sample_log_prob=chance, **{name: ("agent", name) for name in names})
optimiser = Adam(loss.parameters(), lr=1e-3)
for _ in range(10):
    steps = env.rollout(200, actor).detach()
    optimiser.zero_grad()
    sum(own for name, own in loss(steps).items() if name.startswith("loss_")).backward()
    optimiser.step()
    print(steps["next", "agent", "reward"].sum(0).flatten())
