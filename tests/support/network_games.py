"""Small games for tests of networks: parallel environments written out, each with one oddity."""

from __future__ import annotations

import numpy as np
from gymnasium import spaces
from pettingzoo import ParallelEnv

from malfl_algos import LearningTrace
from malfl_algos.play import games_of, joined, play_stage


class Corridor(ParallelEnv):
    """Two walkers on a line of five cells; each sees its own cell and the other's.

    Action 0 goes left, 1 right. Both are paid for being on the right. With `ends`, the game
    terminates when the first walker reaches the right end.
    """

    metadata = {"name": "corridor"}  # noqa: RUF012

    def __init__(self, *, ends=False, start=0, box=False, max_cycles=30, noise=0.0):
        self.possible_agents = ["left one", "right one"]
        self.agents = []
        self.ends, self.start, self.box = ends, start, box
        self.max_cycles, self.noise = max_cycles, noise

    def observation_space(self, agent):
        return spaces.Box(0, 4, (2,)) if self.box else spaces.MultiDiscrete([5, 5])

    def action_space(self, agent):
        return spaces.Discrete(2, start=self.start)

    def reset(self, seed=None, options=None):
        if seed is not None:
            self.rng = np.random.default_rng(seed)
        self.agents = list(self.possible_agents)
        self.cells, self.clock = [2, 2], 0
        return self._seen(), {agent: {} for agent in self.agents}

    def step(self, actions):
        rewards = {a: float(cell) for a, cell in zip(self.agents, self.cells, strict=True)}
        for index, agent in enumerate(self.agents):
            move = 2 * (actions[agent] - self.start) - 1
            if self.rng.random() >= self.noise:
                self.cells[index] = int(np.clip(self.cells[index] + move, 0, 4))
        self.clock += 1
        over = self.ends and self.cells[0] == 4
        seen = self._seen()
        cut = self.clock >= self.max_cycles
        results = tuple(dict.fromkeys(self.agents, flag) for flag in (over, cut and not over))
        infos = {agent: {} for agent in self.agents}
        if over or cut:
            self.agents = []
        return seen, rewards, *results, infos

    def _seen(self):
        kind = np.float32 if self.box else np.int64
        first, second = self.cells
        return {
            "left one": np.array([first, second], dtype=kind),
            "right one": np.array([second, first], dtype=kind),
        }


class Deserted(Corridor):
    """The first walker leaves while the other goes on."""

    def step(self, actions):
        seen, rewards, terminations, truncations, infos = super().step(actions)
        terminations["left one"] = True
        return seen, rewards, terminations, truncations, infos


class Late(Corridor):
    """The second walker is not there at the beginning."""

    def reset(self, seed=None, options=None):
        found = super().reset(seed=seed)
        self.agents = ["left one"]
        return found


class Ruinous(Corridor):
    """Rewards of a size that no network follows, or no number at all."""

    scale = 1e30

    def step(self, actions):
        seen, rewards, *rest = super().step(actions)
        return seen, {agent: self.scale * own for agent, own in rewards.items()}, *rest


class Bottomless(Ruinous):
    scale = float("nan")


class Uncopied(Corridor):
    def __deepcopy__(self, memo):
        raise TypeError("cannot pickle a window")


class Steered(Corridor):
    def action_space(self, agent):
        return spaces.Box(-1, 1)


class Told(Corridor):
    def observation_space(self, agent):
        return spaces.Dict({"text": spaces.Text(5)})


def corridor_trace():
    """Two stages of five episodes of observations, which end at different lengths."""
    env = Corridor(ends=True, box=True, max_cycles=9)
    rng = np.random.default_rng(0)
    stages = tuple(
        joined(
            play_stage(
                games_of(env, 3),
                lambda agent, seen: np.full((len(seen), 2), 0.5),
                episodes=5,
                episode_length=9,
                rng=rng,
            )
        ).observed
        for _ in range(2)
    )
    own = tuple(env.observation_space(agent) for agent in env.possible_agents)
    return LearningTrace(stages, tuple(env.possible_agents), (2, 2), own)
