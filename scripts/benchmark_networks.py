"""Speed of learners and observers with networks.

The line `networks` of the benchmark: many games side by side against a loop over single states.

`python scripts/benchmark_networks.py --device cuda --json gpu.json` measures something else: how
long the learner `ma-spi-network` and the observer `ma-lfl-network` take on a device, on the 8x8
board and in simple_spread, with the settings of docs/how-to/networks.md. Run it once per device.

PyTorch is imported when it is asked for; the other lines of the benchmark do without.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
import zlib
from collections.abc import Callable, Iterator, Sequence
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from time import perf_counter, process_time
from typing import Any

import numpy as np
from benchmark_lines import Contest
from benchmark_reward_fit import reward_fit

from malfl_env import grid_world_v0

N_GAMES = {"3x3 game": 1024, "simple_spread": 256}
EPISODE_LENGTH = 25


def networks(fast: bool) -> list[Contest]:
    """Steps per second of collecting a stage, and of an epoch of the reward fit.

    A step of one game counts once, however many agents it has. Policies are networks with two
    hidden layers of 64; both sides use one processor. The other side is a loop as users write it:
    a call of the network for every agent at every step, and a draw from what it gives.
    """
    import torch

    torch.set_num_threads(1)
    games: dict[str, Callable[[], Any]] = {"3x3 game": grid_world_v0.parallel_env}
    if find_spec("mpe2"):
        games["simple_spread"] = _simple_spread
    gathering = [
        _gathering(name, make, 4 if fast else N_GAMES[name]) for name, make in games.items()
    ]
    return [*gathering, reward_fit(fast)]


def _simple_spread() -> Any:
    return import_module("mpe2.simple_spread_v3").parallel_env(N=2, continuous_actions=False)


def _gathering(name: str, make: Callable[[], Any], n_games: int) -> Contest:
    import torch

    from malfl_algos.learners.soft_q import new_agent, probabilities
    from malfl_algos.networks.encoding import Encoder
    from malfl_algos.networks.mlp import init
    from malfl_algos.play import games_of, play_stage

    games = games_of(make, n_games)
    generator = torch.Generator().manual_seed(0)
    agents = [
        new_agent(Encoder(space), n, hidden=(64, 64), generator=generator)
        for space, n in zip(games.spaces, games.n_actions, strict=True)
    ]
    for agent in agents:
        agent.policy = init(generator, agent.sizes)

    def ours() -> None:
        parts = play_stage(
            games,
            lambda index, seen: probabilities(agents[index], seen),
            episodes=n_games,
            episode_length=EPISODE_LENGTH,
            rng=np.random.default_rng(0),
        )
        for _ in parts:
            pass

    n_episodes = min(n_games, 8)
    loop = _loop(make(), agents, n_episodes)
    ours()
    loop()
    return Contest(
        f"networks, gathering, {name}",
        "steps/s",
        ours=ours,
        baseline=loop,
        against="a call of the network for every state",
        ours_steps=n_games * EPISODE_LENGTH,
        baseline_steps=n_episodes * EPISODE_LENGTH,
        notes={"games at once": n_games},
    )


def _loop(env: Any, agents: list[Any], n_episodes: int) -> Callable[[], None]:
    """Episodes one after another, one state at a time."""
    import torch

    from malfl_algos.networks.mlp import apply

    names = env.possible_agents
    generator = torch.Generator().manual_seed(0)

    def action(agent: Any, observation: Any) -> int:
        features = torch.from_numpy(agent.encoder.encode(observation[None]))
        with torch.no_grad():
            logits = apply(agent.policy, features)[0]
        return int(torch.multinomial(torch.softmax(logits, dim=-1), 1, generator=generator))

    def run() -> None:
        for episode in range(n_episodes):
            seen, _ = env.reset(seed=episode)
            for _ in range(EPISODE_LENGTH):
                actions = {
                    name: action(agent, seen[name])
                    for name, agent in zip(names, agents, strict=True)
                }
                seen = env.step(actions)[0]

    return run


def main(argv: Sequence[str] | None = None) -> int:
    """Measure learning and recovery on one device; print them, and write them as JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cpu", help="cpu, cuda, cuda:1, ... (default: cpu)")
    parser.add_argument("--threads", type=int, default=1, help="of PyTorch on the CPU (default: 1)")
    parser.add_argument(
        "--game-processes", type=int, default=1, help="that play simple_spread (default: 1)"
    )
    parser.add_argument("--repeats", type=int, default=1, help="of every part (default: 1)")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--json", type=Path, help="write the numbers into this file")
    given = parser.parse_args(argv)
    import torch

    torch.set_num_threads(given.threads)
    found: dict[str, Any] = {
        "device": given.device,
        "card": torch.cuda.get_device_name(given.device) if "cuda" in given.device else None,
        "torch": torch.__version__,
        "python": platform.python_version(),
        "threads": given.threads,
        "game_processes": given.game_processes,
        "rows": [],
    }
    print(json.dumps(found), flush=True)
    for row in _device_rows(given):
        print(json.dumps(row), flush=True)
        found["rows"].append(row)
        if given.json is not None:
            given.json.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    return 0


PARTS = ("8x8", "simple_spread")


def _device_rows(given: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Yield one row per part, kind and repeat; the parts before were run once in a small size."""
    for part in given.parts:
        for small in (True, *([False] * given.repeats)):
            learn, recover = (_board if part == "8x8" else _spread)(given, small)
            for kind, work in (("learn", learn), ("recover", recover)):
                wall, busy = perf_counter(), process_time()
                sums = work()
                yield {
                    "part": part,
                    "kind": kind,
                    "warm_up": small,
                    "seconds": perf_counter() - wall,
                    "processor_seconds": process_time() - busy,
                    **sums,
                }


Work = Callable[[], dict[str, Any]]


def _board(given: argparse.Namespace, small: bool) -> tuple[Work, Work]:
    """The 8x8 board: ten stages of 30 episodes; the observer sees exact learners."""
    from malfl_algos import LearningTrace
    from malfl_algos.learners.ma_spi import MaSpi
    from malfl_algos.learners.ma_spi_network import MaSpiNetwork
    from malfl_algos.observers.network import MaLflNetwork
    from malfl_env import markov_game

    env = grid_world_v0.parallel_env(size=8)
    game, n_stages = markov_game(env), 3 if small else 10
    rates: dict[str, Any] = {"discount": 0.9, "temperature": 3.0}
    played: dict[str, Any] = {**rates, "episodes": 30, "episode_length": 1000}
    short: dict[str, Any] = {"q_updates": 20, "policy_updates": 20} if small else {}
    exact = MaSpi(**played, evaluation="exact", keep_transitions=True)
    trace = LearningTrace(
        tuple(
            stage.observed
            for stage in exact.learn(env, n_stages=n_stages, rng=np.random.default_rng(0))
        )
    )

    def learn() -> dict[str, Any]:
        learner = MaSpiNetwork(**played, **short, device=given.device)
        stages = list(learner.learn(env, n_stages=n_stages, rng=np.random.default_rng(0)))
        exactly = MaSpi(**rates, evaluation="exact", episodes=1, episode_length=1)
        last = list(exactly.learn(env, n_stages=n_stages, rng=np.random.default_rng(0)))[-1]
        policies = stages[-1].joint_policy
        gaps = [np.abs(policies[a] - last.joint_policy[a]).sum(axis=1) for a in policies]
        return {
            "total_variation": float(np.mean(gaps)) / 2,
            "checksum": _checksum([policies[agent] for agent in policies]),
        }

    def recover() -> dict[str, Any]:
        observer = MaLflNetwork(
            widths=(256,),
            ensemble=1 if small else 5,
            epochs=3 if small else 200,
            device=given.device,
        )
        found = observer.recover(trace, game=game.without_rewards(), **rates)
        pairs = [(found.rewards[a], game.reward(i)) for i, a in enumerate(game.agents)]
        return {
            "pearson": [float(np.corrcoef(*pair)[0, 1]) for pair in pairs],
            "checksum": _checksum([mean for mean, _ in pairs]),
        }

    return learn, recover


def _spread(given: argparse.Namespace, small: bool) -> tuple[Work, Work]:
    """Two agents in simple_spread: three stages of 1,600 episodes."""
    from malfl_algos import LearningTrace
    from malfl_algos.learners.ma_spi_network import MaSpiNetwork
    from malfl_algos.observers.network import MaLflNetwork
    from malfl_algos.play import action_counts, observation_spaces

    env = _simple_spread()
    learner = MaSpiNetwork(
        discount=0.9,
        temperature=0.3,
        episodes=40 if small else 1600,
        episode_length=25,
        q_updates=20 if small else 1000,
        q_batch_size=256,
        policy_updates=20 if small else 300,
        policy_batch_size=256,
        game_copies=256 if given.game_processes == 1 else 1600,
        game_processes=given.game_processes,
        device=given.device,
    )
    stages: list[Any] = []

    def learn() -> dict[str, Any]:
        stages[:] = learner.learn(env, n_stages=3, rng=np.random.default_rng(0))
        rewards = [stage.truth.rewards["agent_0"] for stage in stages]
        return {
            "returns": [float(own.sum()) / learner.episodes for own in rewards],
            "checksum": _checksum(rewards),
        }

    def recover() -> dict[str, Any]:
        trace = LearningTrace(
            tuple(stage.observed for stage in stages),
            tuple(env.possible_agents),
            action_counts(env),
            observation_spaces(env),
        )
        observer = MaLflNetwork(
            widths=(256,),
            ensemble=1 if small else 2,
            prior_variance=2e-4,
            improvement="proximal",
            device=given.device,
        )
        found: Any = observer.recover(trace, game=None, discount=0.9, temperature=0.3)
        last, agent = stages[-1], env.possible_agents[0]
        steps = last.observed.transitions
        mean = found.reward(agent, steps.observations[agent], steps.joint_actions)
        truth = last.truth.rewards[agent]
        return {
            "pearson": float(np.corrcoef(mean, truth)[0, 1]),
            "checksum": _checksum([mean]),
        }

    return learn, recover


def _checksum(arrays: Sequence[Any]) -> int:
    found = 0
    for array in arrays:
        found = zlib.crc32(np.ascontiguousarray(array).tobytes(), found)
    return found


if __name__ == "__main__":
    sys.exit(main())
