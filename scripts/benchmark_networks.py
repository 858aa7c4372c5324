"""The line `networks`: many games side by side against a loop over single states.

PyTorch is imported when the line is asked for; the other lines do without.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec
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
