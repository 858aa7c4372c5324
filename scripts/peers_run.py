"""Run one peer on one trace: `python scripts/peers_run.py PEER CODE DATA.npz RESULT.npz`.

`peers.py` starts this file with the interpreter of the peer's own environment, so it imports NumPy
and the peer alone. CODE is the folder of the checkouts. Every function below hands the data over,
calls the peer's own code with the settings that its authors publish, and returns the reward.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from argparse import Namespace
from collections.abc import Callable, Mapping
from configparser import ConfigParser
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from peers_packages import airl, density, econirl, mce_irl

Data = Mapping[str, Any]


def logel(code: Path, data: Data) -> Any:
    """`gridworld/logel.py` with behavioural cloning: weights of the colours.

    Its learner is replaced by one that returns the given steps, with the features of the cell that
    a step starts from, which the learner is rewarded for.
    """
    sys.path.insert(0, str(code / "LOGEL" / "gridworld"))
    _without_gym()
    peer = import_module("logel")
    steps, features = data["steps"].astype(float), data["features"]
    rewarded = features[data["steps"][..., 0]]
    peer.learn_trajectories = lambda *_: (steps, rewarded, None, None)  # type: ignore[attr-defined]
    n_stages, n_episodes, length = steps.shape[:3]
    settings = Namespace(
        expe="peer",
        alg_name="GPOMDP",
        size=5,
        batch_size=n_episodes,
        len_traj=length,
        n_learner_steps=n_stages,
        min_step_observed=n_stages - 1,
        max_step_observed=n_stages,
        steps_of_observation=1,
        gamma=float(data["discount"]),
        max_steps=50,
        epsilon=1e-2,
        epsilon_lr=0.01,
        learning_rate=None,
        num_iterations_bc=3,
        bc=True,
        dir_traj=None,
        dir_output=".",
    )
    peer.run(settings)
    return features @ np.load("weights_logel_peer_GPOMDP.npy")[-1]


def lfl(code: Path, data: Data) -> Any:
    """Jacq's LfL as `gridworld/lfl/trajectory_spi.py` of LOGEL's repository has it, where it takes
    given steps: reward of state and action. The episodes of a stage are joined, as its main does.
    """
    sys.path.insert(0, str(code / "LOGEL" / "gridworld"))
    _without_gym()
    peer = import_module("lfl.trajectory_spi")
    steps = data["steps"].astype(float)
    joined = steps.reshape(1, len(steps), -1, 2)
    place = Path("../results/comparison_learn/lfl_SPI-v3")
    place.mkdir(parents=True)
    peer.lfl(1, tmax=joined.shape[2], kmax=len(steps) - 1, trajectories=joined)
    return np.load(place / f"weights_svi_{len(steps)}.npy")[0]


def ma_lfl(code: Path, data: Data) -> Any:
    """MA-LfL by the authors' classes: reward of state and joint action, per agent.

    The steps of `MALFL.policy_iteration` and `reward_recovering` without its play: counts of each
    stage in place of `run_episode`, the agents' own policies in place of their improvements.
    """
    folder = code / "multiagent-learning-from-learners"
    sys.path.insert(0, str(folder))
    given = ConfigParser()
    given.read(folder / "experiments.cfg")
    for section in given.sections():
        for key, value in given[section].items():
            given[section][key] = value.split(",")[0].strip()
    given["PARAMS"]["n_iteration"] = str(len(data["counts"]))
    given["PARAMS"]["seed"] = str(int(data["seed"]))
    with open("config.cfg", "w", encoding="utf-8") as file:
        given.write(file)
    peer, torch = import_module("malfl"), import_module("torch")
    agents = [peer.Agent(name, "manhattan_disjoint") for name in ("agent_one", "agent_two")]
    estimation = peer.PolicyEstimation(peer.Grid())
    malfl = peer.MALFL(*agents, peer.SoftPolicy(), estimation)
    own = [torch.tensor(data[name].reshape(-1, 9, 9, 5)) for name in ("policies_0", "policies_1")]
    estimated: list[list[Any]] = [[], []]
    for counts in data["counts"].reshape(-1, 9, 9, 5, 5):
        agents[0].counter, agents[1].counter = counts.sum(axis=2) * 1.0, counts.sum(axis=3) * 1.0
        estimation.estimate_policies_from_trajectories(malfl)
        estimated[1].append(torch.tensor(agents[0].estimated_other_pi))
        estimated[0].append(torch.tensor(agents[1].estimated_other_pi))
    rewards = []
    for observed, observing in ((0, 1), (1, 0)):
        targets = [
            malfl.reward_expectation(
                estimated[observed][stage + 1],
                estimated[observed][stage],
                own[observing][stage],
                agent_type_self=agents[observing].agent_type,
            )
            for stage in range(len(own[0]) - 1)
        ]
        found = malfl.param_regression(targets, list(own[observing]), agents[observing])
        rewards.append(found.reshape(81, 5, 5))
    return np.stack(rewards)


@dataclass(frozen=True)
class Peer:
    """How a peer is run.

    Args:
        run: its function.
        distributions: those whose versions the result states.
        modules: imported before the clock starts, beside those of its own code.
        compiles: whether it compiles at the first run, so that the second is timed.
    """

    run: Callable[[Path, Data], Any]
    distributions: tuple[str, ...]
    modules: tuple[str, ...]
    compiles: bool = False


PEERS: Mapping[str, Peer] = {
    "logel-own-code": Peer(logel, ("torch", "numpy"), ("torch",)),
    "lfl-own-code": Peer(lfl, ("torch", "numpy"), ("torch",)),
    "ma-lfl-own-code": Peer(ma_lfl, ("torch", "numpy"), ("torch",)),
    "imitation-density": Peer(
        density,
        ("imitation", "stable-baselines3", "numpy"),
        ("torch", "imitation.algorithms.density", "stable_baselines3.common.vec_env"),
    ),
    "imitation-airl": Peer(
        airl,
        ("imitation", "stable-baselines3", "torch", "numpy"),
        ("torch", "imitation.algorithms.adversarial.airl", "stable_baselines3"),
    ),
    "imitation-mce-irl": Peer(
        mce_irl,
        ("imitation", "torch", "numpy"),
        ("torch", "imitation.algorithms.mce_irl", "imitation.rewards.reward_nets"),
    ),
    "econirl-mce-irl": Peer(
        econirl, ("econirl", "jax", "numpy"), ("econirl.estimators.mce_irl",), compiles=True
    ),
}


def _without_gym() -> None:
    """LOGEL's grid imports the drawing of a gym that no longer exists; nothing is drawn here."""
    for name in ("gym", "gym.envs", "gym.envs.classic_control"):
        sys.modules[name] = ModuleType(name)
    sys.modules["gym.envs.classic_control"].rendering = None  # type: ignore[attr-defined]


def main(arguments: list[str]) -> int:
    """Run the peer in a folder of its own; write reward, processor seconds and versions."""
    name, code, given, result = arguments
    peer = PEERS[name]
    with np.load(given, allow_pickle=False) as archive:
        data = dict(archive)
    target, place = Path(result).absolute(), Path(code).absolute()
    for module in peer.modules:
        import_module(module)
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        for number in range(1 + peer.compiles):
            inside = Path(folder) / str(number) / "run"
            inside.mkdir(parents=True)
            os.chdir(inside)
            started = time.process_time()
            reward = peer.run(place, data)
            seconds = time.process_time() - started
        os.chdir(target.parent)
    versions = ", ".join(f"{own} {version(own)}" for own in peer.distributions)
    np.savez(target, reward=reward, seconds=seconds, versions=versions)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
