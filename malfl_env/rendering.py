"""The board as text and as an image, in plain NumPy.

The image shows goals as stars, starts as faint rings, walls as dark blocks and agents as numbered
discs, side by side when they share a cell. A fading trail shows the last steps of each agent. Every
agent has its colour; a shared goal is gold, a shared start is grey. Colour-blind readers can
distinguish the colours (Okabe and Ito's palette).
"""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil, sqrt

import numpy as np
from numpy.typing import NDArray

from malfl_env.drawing import (
    Colour,
    Image,
    blend,
    paint_box,
    paint_disc,
    paint_lines,
    paint_number,
    paint_ring,
    paint_star,
)
from malfl_env.rules import GridRules

__all__ = ["AGENT_COLOURS", "GOAL_COLOUR", "cell_pixels", "render_ansi", "render_rgb"]

AGENT_COLOURS: tuple[Colour, ...] = (
    (0, 114, 178),
    (213, 94, 0),
    (0, 158, 115),
    (204, 121, 167),
    (86, 180, 233),
    (90, 90, 90),
)
GOAL_COLOUR: Colour = (230, 159, 0)
_PAPER: Colour = (255, 255, 255)
_LINE: Colour = (221, 221, 226)
_FLOOR: Colour = (249, 249, 250)
_WALL: Colour = (74, 80, 92)
_NEUTRAL: Colour = (150, 154, 164)


def render_ansi(rules: GridRules, cells: Sequence[int], *, caption: str) -> str:
    """The board as text.

    Args:
        rules: the rules of the game.
        cells: the cell of every agent, in agent order.
        caption: the line above the board.

    Returns:
        Lines without a final line break. A cell shows the numbers of its agents, `*` for a goal and
        `#` for a wall.
    """
    marks = [_cell_text(rules, cells, cell) for cell in range(rules.n_cells)]
    width = max(3, *(len(mark) for mark in marks))  # the same wherever two agents stand
    rule = "+" + ("-" * (width + 2) + "+") * rules.size
    lines = [caption, rule]
    for first in range(0, rules.n_cells, rules.size):
        row = marks[first : first + rules.size]
        lines.append("|" + "|".join(f" {mark:^{width}} " for mark in row) + "|")
        lines.append(rule)
    return "\n".join(lines)


def cell_pixels(rules: GridRules) -> int:
    """Width and height of a cell in the image, 12 to 96 pixels."""
    return int(np.clip(672 // rules.size, 12, 96))


def render_rgb(rules: GridRules, trail: Sequence[Sequence[int]]) -> NDArray[np.uint8]:
    """The board as an image.

    Args:
        rules: the rules of the game.
        trail: the cell of every agent in the last joint states, oldest first. The last entry is the
            present joint state.

    Returns:
        uint8 `(height, width, 3)`: the board with a margin of a quarter cell around it.
    """
    unit = cell_pixels(rules)
    side = rules.size * unit + 2 * (unit // 4)
    image = np.empty((side, side, 3))
    image[:] = _PAPER
    _paint_floor(image, rules, unit)
    _paint_marks(image, rules, unit)
    for agent_index in range(rules.n_agents):
        _paint_trail(image, rules, unit, trail, agent_index)
    _paint_agents(image, rules, unit, trail[-1])
    return np.rint(image).astype(np.uint8)


def _cell_text(rules: GridRules, cells: Sequence[int], cell: int) -> str:
    if divmod(cell, rules.size) in rules.walls:
        return "#"
    separator = "" if rules.n_agents <= 10 else ","
    agents = separator.join(str(index) for index, own in enumerate(cells) if own == cell)
    return agents + ("*" if cell in rules.goal_cells else "")


def _colour(agent_index: int) -> Colour:
    return AGENT_COLOURS[agent_index % len(AGENT_COLOURS)]


def _corner(rules: GridRules, unit: int, cell: int) -> tuple[int, int]:
    """(x, y) of a cell's top left corner."""
    row, column = divmod(cell, rules.size)
    return unit // 4 + column * unit, unit // 4 + row * unit


def _centre(rules: GridRules, unit: int, cell: int) -> tuple[float, float]:
    x, y = _corner(rules, unit, cell)
    return x + unit / 2, y + unit / 2


def _tile(unit: int, colour: Colour) -> Image:
    """One cell: a rounded field, framed by the colour of the lines."""
    tile = np.empty((unit, unit, 3))
    tile[:] = _LINE
    gap = max(unit / 64, 0.5)
    paint_box(tile, (gap, gap), (unit - 2 * gap, unit - 2 * gap), colour, radius=unit / 20)
    return tile


def _lay_tile(image: Image, rules: GridRules, unit: int, cell: int, colour: Colour) -> None:
    x, y = _corner(rules, unit, cell)
    image[y : y + unit, x : x + unit] = _tile(unit, colour)


def _paint_floor(image: Image, rules: GridRules, unit: int) -> None:
    """The board without marks and agents, framed by a line."""
    gap = max(unit / 64, 0.5)
    margin, board = unit // 4, rules.size * unit
    corner, extent = (margin - gap, margin - gap), (board + 2 * gap, board + 2 * gap)
    paint_box(image, corner, extent, _LINE, radius=unit / 16)
    inside = slice(margin, margin + board)
    image[inside, inside] = np.tile(_tile(unit, _FLOOR), (rules.size, rules.size, 1))
    for wall in rules.walls:
        _lay_tile(image, rules, unit, rules.cell_number(wall), _WALL)


def _paint_marks(image: Image, rules: GridRules, unit: int) -> None:
    """Stars on goals and rings on starts, in the agent's colour unless agents share the cell."""
    for cell in sorted(set(rules.goal_cells)):
        colour = _mark_colour(rules.goal_cells, cell, GOAL_COLOUR)
        _lay_tile(image, rules, unit, cell, blend(colour, _FLOOR, 0.8))
        paint_star(image, _centre(rules, unit, cell), 0.38 * unit, colour)
    for cell in sorted(set(rules.start_cells)):
        colour = blend(_mark_colour(rules.start_cells, cell, _NEUTRAL), _FLOOR, 0.6)
        paint_ring(image, _centre(rules, unit, cell), 0.36 * unit, max(unit / 24, 1), colour)


def _mark_colour(own_cells: tuple[int, ...], cell: int, shared: Colour) -> Colour:
    owners = [index for index, own in enumerate(own_cells) if own == cell]
    return _colour(owners[0]) if len(owners) == 1 else shared


def _paint_trail(
    image: Image, rules: GridRules, unit: int, trail: Sequence[Sequence[int]], agent_index: int
) -> None:
    """The last steps of one agent; the jump from the goal back to the start is not drawn."""
    shift = (agent_index - (rules.n_agents - 1) / 2) * min(unit / 9, unit / 2 / rules.n_agents)
    cells = [joint[agent_index] for joint in trail]
    centres = [_centre(rules, unit, cell) for cell in cells]
    spots = [(x + shift, y + shift) for x, y in centres]
    lines, opacities = [], []
    for step in range(1, len(cells)):
        if cells[step - 1] not in (cells[step], rules.goal_cells[agent_index]):
            lines.append((spots[step - 1], spots[step]))
            opacities.append(0.7 * step / (len(cells) - 1))
    colour = _colour(agent_index)
    paint_lines(image, lines, max(unit / 14, 1.5), colour, opacities=opacities)


def _paint_agents(image: Image, rules: GridRules, unit: int, cells: Sequence[int]) -> None:
    for cell in sorted(set(cells)):
        here = [index for index, own in enumerate(cells) if own == cell]
        per_row = ceil(sqrt(len(here)))
        n_rows = ceil(len(here) / per_row)
        room = unit / per_row
        radius = 0.3 * unit if len(here) == 1 else 0.42 * room
        x, y = _centre(rules, unit, cell)
        for place, agent_index in enumerate(here):
            row, column = divmod(place, per_row)
            spot = (
                x + (column - (per_row - 1) / 2) * room,
                y + (row - (n_rows - 1) / 2) * room,
            )
            paint_disc(image, spot, radius + max(unit / 32, 1), _PAPER)
            paint_disc(image, spot, radius, _colour(agent_index))
            if radius >= 8:
                paint_number(image, spot, 1.1 * radius, agent_index, _PAPER)
