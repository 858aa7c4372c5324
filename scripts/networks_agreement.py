"""Compare the policies of MA-SPI with networks and of exact MA-SPI on the paper's 3x3 game.

The table has one row per family and seed: the total variation between the two policies, averaged
over joint states and agents, largest over the stages; and the seconds per stage. Usage: python
scripts/networks_agreement.py [--seeds 0 1 2] [--iterations 10] [--option KEY=VALUE ...]
"""

from __future__ import annotations

import argparse
from time import perf_counter, process_time

import numpy as np

from malfl_algos.plugins import load_learner
from malfl_algos.storage.yaml_files import parse_yaml
from malfl_env import grid_world_v0

RATES = {"discount": 0.9, "temperature": 3.0}


def main() -> None:
    """Print a table."""
    import torch

    torch.set_num_threads(1)
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--iterations", type=int, default=10)
    parser.add_argument("--option", action="append", default=[], metavar="KEY=VALUE")
    arguments = parser.parse_args()
    pairs = (option.partition("=") for option in arguments.option)
    options = {key: parse_yaml(value) for key, _, value in pairs}
    print("| family | seed | largest over stages | seconds per stage | processor seconds |")
    print("|---|---|---|---|---|")
    for family in ("homogeneous", "heterogeneous"):
        for seed in arguments.seeds:
            walls, busy = perf_counter(), process_time()
            gaps = agreement(family, seed, arguments.iterations, options)
            n = max(1, arguments.iterations - 1)  # after the last stage nothing is learned
            walls, busy = (perf_counter() - walls) / n, (process_time() - busy) / n
            print(f"| {family} | {seed} | {max(gaps):.4f} | {walls:.1f} | {busy:.1f} |", flush=True)


def agreement(family: str, seed: int, n_stages: int, options: dict[str, object]) -> list[float]:
    """Total variation of every stage, averaged over joint states and agents."""
    env = grid_world_v0.parallel_env(rewards=family)
    exact = load_learner("ma-spi", **RATES, evaluation="exact", episodes=1, episode_length=1)
    network = load_learner("ma-spi-network", **RATES, **options)
    pairs = zip(
        exact.learn(env, n_stages=n_stages, rng=np.random.default_rng(0)),
        network.learn(env, n_stages=n_stages, rng=np.random.default_rng(seed)),
        strict=True,
    )
    return [
        float(
            np.mean(
                [
                    0.5 * np.abs(known.joint_policy[agent] - own).sum(axis=1)
                    for agent, own in found.joint_policy.items()
                ]
            )
        )
        for known, found in pairs
    ]


if __name__ == "__main__":
    main()
