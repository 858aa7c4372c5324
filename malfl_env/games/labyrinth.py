"""The labyrinth of Rosenberg, Zhang, Perona, Meister (2021), eLife 10, e66175: a binary tree."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from malfl_env.checks import check_count, is_whole, shown
from malfl_env.errors import InputError
from malfl_env.markov_game import Factor, MarkovGame
from malfl_env.tabular_env import TabularEnv

__all__ = ["labyrinth"]


def labyrinth(*, depth: int = 6, port: int | None = None, **options: Any) -> TabularEnv:
    """One agent walks in a binary tree from the entrance, node 0.

    Node s has the children 2 s + 1 and 2 s + 2. The corridors of two successive junctions are at
    right angles; actions 0 and 1 lead to the two children, and action 2 (3) leads back to the
    parent from a node that action 0 (1) reached. Every other action leaves the agent where it is.
    This is the numbering and the table of the published trajectories as SWIRL prepared them
    (BRAINML-GT/SWIRL, labyrinth/data). The reward is 1 in the node of the water port, before the
    move, and 0 elsewhere.

    Args:
        depth: number of junctions on the way to a leaf, >= 1; 6 gives the 127 nodes of the
            experiment.
        port: node of the reward; None: 116 as in the experiment, or the last node of a tree that
            is smaller.
        **options: of `malfl_env.TabularEnv`.

    Raises:
        InputError: for an option out of its range.
    """
    if check_count("depth", depth, minimum=1) > 16:
        raise InputError(f"depth must be at most 16, got {depth}")
    moves = _moves(depth)
    n_nodes = len(moves)
    goal = min(116, n_nodes - 1) if port is None else port
    if not is_whole(goal) or not 0 <= goal < n_nodes:
        raise InputError(f"port must be a node 0..{n_nodes - 1}, got {shown(port)}")
    reward = np.zeros(n_nodes)
    reward[goal] = 1.0
    game = MarkovGame(
        (4,),
        (Factor((0,), moves[..., None], np.ones((*moves.shape, 1))),),
        0,
        rewards=(reward,),
        states=tuple(_name(node, goal) for node in range(n_nodes)),
        actions=(("first child", "second child", "back from first", "back from second"),),
    )
    return TabularEnv(game, name="labyrinth", **options)


def _moves(depth: int) -> NDArray[np.int64]:
    """The next node of every node and action, `(n_nodes, 4)`."""
    n_nodes, n_junctions = 2 ** (depth + 1) - 1, 2**depth - 1
    moves = np.repeat(np.arange(n_nodes)[:, None], 4, axis=1)
    turned = np.zeros(n_nodes, dtype=np.int64)  # the child that action 0 leads to
    for node in range(n_nodes):
        level = int(node + 1).bit_length() - 1
        if node:
            side = (node - 1) % 2
            turned[node] = side if level % 2 else 1 - side
            parent = (node - 1) // 2
            moves[node, 2 + (side != turned[parent])] = parent
        if node < n_junctions:
            moves[node, :2] = 2 * node + 1 + turned[node], 2 * node + 2 - turned[node]
    return moves


def _name(node: int, port: int) -> str:
    if node == port:
        return f"{node} (port)"
    return f"{node} (entrance)" if node == 0 else str(node)
