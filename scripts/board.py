"""Draw README's board: `python scripts/board.py docs/images/board.png`."""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from matplotlib.image import imsave

from malfl_env import grid_world_v0
from malfl_env.rules import ACTIONS

WALKS = {
    "agent_0": ("right", "right", "right", "down", "down", "down", "stay"),
    "agent_1": ("right", "right", "right", "right", "up", "right", "up"),
    "agent_2": ("stay", "stay", "stay", "stay", "down", "left", "right"),
}


def main() -> None:
    """Let three agents walk on a board of 6 x 6, and write the rendered board."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("path", type=Path, metavar="FILE", help="write this png file")
    path: Path = parser.parse_args().path
    if path.suffix != ".png" or not path.parent.is_dir():
        parser.error(f"FILE must be a .png in an existing folder, got {path}")
    env = grid_world_v0.parallel_env(
        size=6,
        n_agents=3,
        rewards=("approach", "approach", "approach"),
        starts=((0, 0), (5, 0), (0, 5)),
        goals=((5, 5), (0, 5), (5, 0)),
        walls=((1, 1), (1, 2), (2, 4), (3, 4), (4, 1), (4, 2)),
        render_mode="rgb_array",
    )
    env.reset(seed=0)
    for moves in zip(*WALKS.values(), strict=True):
        env.step({agent: ACTIONS.index(move) for agent, move in zip(WALKS, moves, strict=True)})
    image = env.render()
    assert isinstance(image, np.ndarray)
    imsave(path, image)


if __name__ == "__main__":
    main()
