"""Write docs/tutorials/rooms.csv, the log of two made-up learners: `python scripts/rooms_log.py`.

Alice and Bob walk between three rooms in a row. Alice likes the garden; Bob likes to be where Alice
is. Both improve by soft policy iteration with exact action values, after every 40 days. A day has
20 minutes and begins anywhere; its last row holds the final rooms and no moves. The file has no
trace of malfl: columns of names, no stages, no rewards.
"""

from __future__ import annotations

import argparse
import csv
import sys
from collections.abc import Iterator, Sequence
from itertools import product
from pathlib import Path

import numpy as np

from malfl_algos.learners.ma_spi import MaSpi
from malfl_env import MarkovGame
from malfl_env.tabular_env import TabularEnv

ROOMS = ("hall", "kitchen", "garden")
MOVES = ("back", "stay", "on")
TARGET = Path(__file__).parents[1] / "docs" / "tutorials" / "rooms.csv"
DAYS, MINUTES, STAGES = 40, 20, 4


def rooms_game() -> MarkovGame:
    """The game, with its rewards: 9 joint states, 3 moves for each agent."""
    places = np.array(list(product(range(3), repeat=2)))
    following = np.clip(
        places[:, None, None] + np.moveaxis(np.indices((3, 3)) - 1, 0, -1)[None], 0, 2
    )
    return MarkovGame.from_tables(
        following[..., 0] * 3 + following[..., 1],
        rewards=[(places[:, 0] == 2).astype(float), (places[:, 0] == places[:, 1]).astype(float)],
        states=[tuple(ROOMS[place] for place in own) for own in places],
        actions=[MOVES, MOVES],
    )


def rows(seed: int = 0) -> Iterator[list[object]]:
    """The rows of the log, header first."""
    yield ["day", "minute", "alice_room", "bob_room", "alice", "bob"]
    learner = MaSpi(
        discount=0.9,
        temperature=0.5,
        evaluation="exact",
        episodes=DAYS,
        episode_length=MINUTES,
        keep_transitions=True,
    )
    stages = learner.learn(
        TabularEnv(rooms_game()), n_stages=STAGES, rng=np.random.default_rng(seed)
    )
    day, minute = 1, 0
    for learned in stages:
        steps = learned.observed.transitions
        assert steps is not None
        assert steps.states is not None
        assert steps.next_states is not None
        for state, moves, after, ends in zip(
            steps.states, steps.joint_actions, steps.next_states, steps.episode_ends, strict=True
        ):
            yield [day, minute, *_rooms(state), *(MOVES[move] for move in moves)]
            minute += 1
            if ends:
                yield [day, minute, *_rooms(after), "", ""]
                day, minute = day + 1, 0


def _rooms(state: int) -> tuple[str, str]:
    return ROOMS[state // 3], ROOMS[state % 3]


def main(argv: Sequence[str] | None = None) -> int:
    """Write the file."""
    parser = argparse.ArgumentParser(prog="rooms_log.py", description="Write a tutorial's log.")
    parser.add_argument("--output", type=Path, default=TARGET, metavar="CSV")
    target = parser.parse_args(argv).output
    with target.open("w", newline="", encoding="utf-8") as stream:
        csv.writer(stream, lineterminator="\n").writerows(rows())
    print(target)
    return 0


if __name__ == "__main__":
    sys.exit(main())
