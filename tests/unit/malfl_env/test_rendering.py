"""The images: positions and colours of goals, walls and agents."""

from __future__ import annotations

import numpy as np
import pytest

from malfl_env import grid_world_v0
from malfl_env.drawing import blend, paint_disc, paint_lines
from malfl_env.rendering import AGENT_COLOURS, GOAL_COLOUR, cell_pixels, render_ansi, render_rgb
from malfl_env.rules import GridRules, grid_rules

WALL = (74, 80, 92)


def middle(image: np.ndarray, rules: GridRules, row: int, column: int) -> tuple[int, ...]:
    """Colour in the middle of a cell, slightly to the left, beside the numbers."""
    unit = cell_pixels(rules)
    y = unit // 4 + row * unit + unit // 2
    x = unit // 4 + column * unit + unit // 2 - unit // 5
    return tuple(int(part) for part in image[y, x])


def test_text_board_of_the_start() -> None:
    board = render_ansi(grid_rules(walls=[(1, 1)]), (0, 0), caption="step 0 of 9")
    assert board.splitlines() == [
        "step 0 of 9",
        "+-----+-----+-----+",
        "| 01  |     |     |",
        "+-----+-----+-----+",
        "|     |  #  |     |",
        "+-----+-----+-----+",
        "|     |     |  *  |",
        "+-----+-----+-----+",
    ]


def test_text_board_with_an_agent_on_its_goal() -> None:
    board = render_ansi(grid_rules(goals=[(0, 2), (2, 2)]), (2, 8), caption="")
    assert "| 0*  |" in board.splitlines()[2]
    assert "| 1*  |" in board.splitlines()[6]


def test_text_board_separates_numbers_of_two_digits() -> None:
    rules = grid_rules(n_agents=12)
    board = render_ansi(rules, (*range(8), 0, 0, 0, 0), caption="")
    assert "0,8,9,10,11" in board


def test_image_shows_goal_walls_and_agents() -> None:
    rules = grid_rules(size=4, walls=[(1, 1), (3, 0)])
    image = render_rgb(rules, [(2, 8)])
    side = 4 * cell_pixels(rules) + 2 * (cell_pixels(rules) // 4)
    assert image.shape == (side, side, 3)
    assert image.dtype == np.uint8
    assert middle(image, rules, 1, 1) == WALL
    assert middle(image, rules, 3, 0) == WALL
    assert middle(image, rules, 0, 2) == AGENT_COLOURS[0]
    assert middle(image, rules, 2, 0) == AGENT_COLOURS[1]
    unit = cell_pixels(rules)
    goal = round(unit // 4 + 3.5 * unit)
    assert tuple(image[goal, goal]) == GOAL_COLOUR
    assert tuple(image[0, 0]) == (255, 255, 255)
    free = middle(image, rules, 2, 2)
    assert free not in {WALL, GOAL_COLOUR, *AGENT_COLOURS}
    assert min(free) > 240


def test_an_own_goal_has_its_agents_colour() -> None:
    rules = grid_rules(goals=[(0, 2), (2, 2)])
    image = render_rgb(rules, [(3, 3)])
    unit = cell_pixels(rules)
    for agent_index, (row, column) in enumerate(rules.goals):
        y, x = (round(unit // 4 + (axis + 0.5) * unit) for axis in (row, column))
        assert tuple(image[y, x]) == AGENT_COLOURS[agent_index]


@pytest.mark.parametrize("n_agents", [2, 3, 5])
def test_agents_that_share_a_cell_are_all_visible_and_apart(n_agents: int) -> None:
    rules = grid_rules(n_agents=n_agents)
    unit = cell_pixels(rules)
    cell = render_rgb(rules, [(4,) * n_agents])[
        unit // 4 + unit : unit // 4 + 2 * unit, unit // 4 + unit : unit // 4 + 2 * unit
    ]
    areas = [int((cell == colour).all(axis=-1).sum()) for colour in AGENT_COLOURS[:n_agents]]
    assert min(areas) > 0.02 * unit**2
    assert max(areas) < 1.6 * min(areas)


def test_trails_fade_and_the_return_is_not_drawn() -> None:
    rules = grid_rules()
    still, goal, start = 6, 8, 0
    walk = [(0, still), (1, still), (2, still), (5, still), (goal, still), (start, still)]
    image = render_rgb(rules, walk).astype(int)
    empty = render_rgb(rules, [(start, still)]).astype(int)
    unit = cell_pixels(rules)
    shift = round(-unit / 9 / 2)  # the first of two trails is a little up and left

    def strength(row: float, column: float) -> int:
        y, x = (round(unit // 4 + (axis + 0.5) * unit) + shift for axis in (row, column))
        return int(np.abs(image[y, x] - empty[y, x]).sum())

    early, late, newest = strength(0, 0.9), strength(0.5, 2), strength(1.4, 2)
    assert 0 < early < late < newest
    assert strength(1, 1) == 0  # on the straight line from the goal to the start
    assert strength(0.6, 0.6) == 0


def test_everything_changes_the_image_of_any_size() -> None:
    for size in (2, 7, 60):
        rules = grid_rules(size=size)
        first, second = render_rgb(rules, [(0, 0)]), render_rgb(rules, [(0, 1)])
        assert first.shape == second.shape
        assert (first != second).any()


def test_edges_are_smooth_and_areas_right() -> None:
    image = np.zeros((60, 60, 3))
    paint_disc(image, (30.25, 29.5), 20, (255, 255, 255))
    assert image[..., 0].sum() / 255 == pytest.approx(np.pi * 20**2, rel=0.01)
    assert ((image > 20) & (image < 235)).any()
    line = np.zeros((40, 80, 3))
    paint_lines(line, [((20, 20), (60, 20))], 6, (255, 0, 0))
    assert line[..., 0].sum() / 255 == pytest.approx(40 * 6 + np.pi * 9, rel=0.02)
    assert line[..., 1:].sum() == 0


def test_where_lines_meet_the_higher_opacity_counts() -> None:
    image = np.zeros((40, 40, 3))
    lines = [((10, 10), (30, 10)), ((30, 10), (30, 30))]
    paint_lines(image, lines, 6, (200, 200, 200), opacities=[0.5, 1.0])
    assert image[10, 20, 0] == pytest.approx(100)
    assert image[20, 30, 0] == pytest.approx(200)
    assert image.max() <= 200 + 1e-9


def test_blend() -> None:
    assert blend((0, 100, 200), (200, 100, 0), 0.25) == (50, 100, 150)


def test_colours_can_be_distinguished() -> None:
    colours = np.array(AGENT_COLOURS, dtype=float)
    gaps = np.linalg.norm(colours[:, None] - colours[None], axis=-1)
    assert gaps[~np.eye(len(colours), dtype=bool)].min() > 60


def test_human_prints_each_step_and_returns_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    env = grid_world_v0.parallel_env(render_mode="human", max_cycles=5)
    env.reset()
    assert capsys.readouterr().out.startswith("step 0 of 5\n+--")
    env.step({"agent_0": 0, "agent_1": 3})
    assert capsys.readouterr().out.count("step 1 of 5") == 1
    assert env.render() is None
    assert "|  0  |" in capsys.readouterr().out


def test_ansi_and_rgb_array_return_what_they_show(capsys: pytest.CaptureFixture[str]) -> None:
    text = grid_world_v0.parallel_env(render_mode="ansi")
    text.reset()
    assert text.render().startswith("step 0 of 1000")
    image = grid_world_v0.parallel_env(render_mode="rgb_array")
    image.reset()
    before = image.render()
    kept = before.copy()
    image.step({"agent_0": 0, "agent_1": 3})
    assert (image.render() != before).any()
    np.testing.assert_array_equal(before, kept)
    assert capsys.readouterr().out == ""


def test_render_without_a_mode_warns() -> None:
    env = grid_world_v0.parallel_env()
    env.reset()
    with pytest.warns(UserWarning, match="render_mode"):
        assert env.render() is None


def test_trails_restart_with_an_episode() -> None:
    env = grid_world_v0.parallel_env(render_mode="rgb_array")
    env.reset()
    fresh = env.render()
    env.step({"agent_0": 0, "agent_1": 3})
    env.reset()
    np.testing.assert_array_equal(env.render(), fresh)
