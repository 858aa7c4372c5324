"""Peers that are packages, for one agent: imitation and econirl; `peers_run.py` calls them."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

__all__ = ["airl", "density", "econirl", "mce_irl"]

Data = Mapping[str, Any]

AIRL_STEPS = 50_000
"""Steps that the generator of AIRL plays. The tutorial has 20,000 for a try."""


def density(code: Path, data: Data) -> Any:
    """`DensityAlgorithm` of imitation on the last stage: log density of cells by row and column."""
    del code
    peer = import_module("imitation.algorithms.density")
    cells = np.stack(np.divmod(np.arange(25), 5), axis=1).astype(np.float32)
    algorithm = peer.DensityAlgorithm(
        demonstrations=_demonstrations(data, cells),
        venv=_boards(data, cells, 1),
        rng=np.random.default_rng(int(data["seed"])),
        density_type=peer.DensityType.STATE_DENSITY,
    )
    algorithm.train()
    return algorithm(cells, np.zeros(25, int), cells, np.zeros(25, bool))


def airl(code: Path, data: Data) -> Any:
    """`AIRL` of imitation on the last stage: reward of a cell, by the settings of its tutorial.

    The reward of the cell is shaped by a potential; the generator is PPO, which plays the board.
    """
    del code
    peer = import_module("imitation.algorithms.adversarial.airl")
    nets = import_module("imitation.rewards.reward_nets")
    learners, torch = import_module("stable_baselines3"), import_module("torch")
    cells, discount = np.eye(25, dtype=np.float32), float(data["discount"])
    boards = _boards(data, cells, 8)
    net = nets.BasicShapedRewardNet(
        boards.observation_space,
        boards.action_space,
        use_action=False,
        discount_factor=discount,
    )
    generator = learners.PPO(
        "MlpPolicy",
        boards,
        batch_size=64,
        ent_coef=0.0,
        learning_rate=0.0005,
        gamma=discount,
        clip_range=0.1,
        vf_coef=0.1,
        n_epochs=5,
        seed=int(data["seed"]),
    )
    algorithm = peer.AIRL(
        demonstrations=_demonstrations(data, cells),
        demo_batch_size=512,
        gen_replay_buffer_capacity=512,
        n_disc_updates_per_round=16,
        venv=boards,
        gen_algo=generator,
        reward_net=net,
    )
    algorithm.train(AIRL_STEPS)
    with torch.no_grad():
        return net.base(torch.tensor(cells), None, None, None).numpy()


def mce_irl(code: Path, data: Data) -> Any:
    """`MCEIRL` of imitation on the last stage, with a reward that is linear in the colours."""
    del code
    peer = import_module("imitation.algorithms.mce_irl")
    nets = import_module("imitation.rewards.reward_nets")
    envs, torch = import_module("seals.base_envs"), import_module("torch")
    torch.manual_seed(int(data["seed"]))
    features, table = data["features"], data["next_states"]
    moves = np.eye(len(table))[table]
    states, _ = _last_episodes(data)
    game = envs.TabularModelPOMDP(
        transition_matrix=moves,
        observation_matrix=features.astype(np.float32),
        reward_matrix=np.zeros(len(table)),
        horizon=states.shape[1] - 1,
        initial_state_dist=np.eye(len(table))[0],
    )
    net = nets.BasicRewardNet(
        game.observation_space,
        game.action_space,
        use_action=False,
        use_next_state=False,
        use_done=False,
        hid_sizes=[],
    )
    visits = np.bincount(states[:, :-1].ravel(), minlength=len(table)) / len(states)
    algorithm = peer.MCEIRL(
        visits,
        game,
        net,
        rng=np.random.default_rng(int(data["seed"])),
        optimizer_kwargs={"lr": 0.01},
        discount=float(data["discount"]),
        log_interval=None,
    )
    algorithm.train()
    shown = torch.tensor(features.astype(np.float32))
    return net(shown, None, None, None).detach().numpy()


def econirl(code: Path, data: Data) -> Any:
    """`MCEIRL` of econirl on the last stage, colours as features, standard errors by its Hessian.

    One colour is left out: it is the constant of the reward.
    """
    del code
    peer, pandas = import_module("econirl.estimators.mce_irl"), import_module("pandas")
    features, table = data["features"][:, 1:], data["next_states"]
    states, actions = _last_episodes(data)
    frame = pandas.DataFrame(
        {
            "episode": np.repeat(np.arange(len(states)), actions.shape[1]),
            "state": states[:, :-1].ravel(),
            "action": actions.ravel(),
            "next": states[:, 1:].ravel(),
        }
    )
    model = peer.MCEIRL(
        n_states=len(table),
        n_actions=table.shape[1],
        discount=float(data["discount"]),
        feature_matrix=features,
        feature_names=["V", "N", "P", "G"],
        se_method="hessian",
    )
    moves = np.eye(len(table))[table].transpose(1, 0, 2)
    model.fit(
        frame, state="state", action="action", id="episode", next_state="next", transitions=moves
    )
    return features @ np.asarray(model.coef_)


def _demonstrations(data: Data, cells: Any) -> list[Any]:
    """The episodes of the last stage, with a row of `cells` for a cell."""
    types = import_module("imitation.data.types")
    return [
        types.Trajectory(obs=cells[own], acts=acts, infos=None, terminal=True)
        for own, acts in zip(*_last_episodes(data), strict=True)
    ]


def _boards(data: Data, cells: Any, number: int) -> Any:
    """Copies of the board without rewards, as stable-baselines3 takes them."""
    gym, vector = import_module("gymnasium"), import_module("stable_baselines3.common.vec_env")
    length, table = data["steps"].shape[2], data["next_states"]

    class Board(gym.Env):  # type: ignore[misc, name-defined]
        """The board; an episode is as long as the learner's."""

        observation_space = gym.spaces.Box(0, 4, cells[0].shape, np.float32)
        action_space = gym.spaces.Discrete(4)

        def reset(self, **options: Any) -> Any:
            """Begin at the start."""
            self.cell, self.passed = 0, 0
            return cells[0], {}

        def step(self, action: Any) -> Any:
            """Move."""
            self.cell, self.passed = table[self.cell, action], self.passed + 1
            return cells[self.cell], 0.0, self.passed == length, False, {}

    return vector.DummyVecEnv([Board] * number)


def _last_episodes(data: Data) -> tuple[Any, Any]:
    """Cells, one more than actions, and actions of the last stage, `(n_episodes, length)`."""
    states, actions = data["steps"][-1, ..., 0], data["steps"][-1, ..., 1]
    after = data["next_states"][states[:, -1], actions[:, -1]]
    return np.column_stack([states, after]), actions
