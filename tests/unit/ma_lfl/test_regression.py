"""Equations (11) and (12) against dense algebra, and observers on incomplete or invalid traces."""

from __future__ import annotations

import numpy as np
import pytest
from exact import exact_policies

from malfl_algos.learners.ma_spi import MaSpi
from malfl_algos.ma_lfl.recovery import reward_targets
from malfl_algos.ma_lfl.regression import (
    design_matrix,
    least_squares,
    potential_matrix,
    reward_blocks,
)
from malfl_algos.observers.paper import MaLfl, MaLflFaithful, MaLflOwnAction, MaLflState
from malfl_algos.soft import averaged_transition
from malfl_algos.trace import LearningTrace, Stage
from malfl_env import grid_world_v0

OBSERVERS = [MaLfl, MaLflOwnAction, MaLflState, MaLflFaithful]


def noisy_problem(game, n_stages, seed):
    """Policies that follow from no reward at all, so that no solution fits."""
    rng = np.random.default_rng(seed)
    stages = [
        [rng.dirichlet(np.ones(5), size=game.n_states) for _ in range(2)] for _ in range(n_stages)
    ]
    steps = [averaged_transition(game, stage, 0) for stage in stages[:-1]]
    targets = np.stack(
        [
            reward_targets(before[0], after[0], step, discount=0.9, temperature=1.0)
            for before, after, step in zip(stages[:-1], stages[1:], steps, strict=True)
        ]
    )
    others = np.stack([stage[1] for stage in stages[:-1]])
    return others, steps, targets


@pytest.mark.parametrize("model", ["joint", "own_action", "state"])
@pytest.mark.parametrize("n_stages", [2, 3, 8])
def test_elimination_is_least_squares_nearest_to_zero(paper_game, model, n_stages):
    """Against a dense pseudo-inverse: same residual, same rank, and the shortest reward."""
    game = paper_game(size=2)
    others, steps, targets = noisy_problem(game, n_stages, 0)
    blocks = reward_blocks(model, others, 5)
    potentials = potential_matrix(steps, discount=0.9)
    seen = np.ones(targets.shape[:2], dtype=bool)
    fit = least_squares(blocks, potentials, targets, seen)
    design = design_matrix(blocks, potentials).toarray()
    n_rewards = fit.reward.size
    ours = np.concatenate([fit.reward.ravel(), fit.potentials.ravel()])
    best = np.linalg.pinv(design, rcond=1e-10) @ targets.ravel()
    smallest = np.sqrt(np.mean((design @ best - targets.ravel()) ** 2))
    assert fit.residual == pytest.approx(smallest, abs=1e-10)
    assert np.sqrt(np.mean((design @ ours - targets.ravel()) ** 2)) == pytest.approx(
        smallest, abs=1e-10
    )
    rank = np.linalg.matrix_rank(design, tol=1e-8) - potentials.shape[1]
    assert fit.rank == rank
    null = np.linalg.svd(design)[2][rank + potentials.shape[1] :, :n_rewards]
    assert np.abs(null @ fit.reward.ravel()).max(initial=0) < 1e-8


def test_rows_left_out_do_not_matter(paper_game):
    game = paper_game(size=2)
    others, steps, targets = noisy_problem(game, 6, 1)
    blocks = reward_blocks("state", others, 5)
    potentials = potential_matrix(steps, discount=0.9)
    seen = np.ones(targets.shape[:2], dtype=bool)
    seen[1, 3] = seen[4, 7] = False
    spoilt = targets.copy()
    spoilt[~seen] += 1e3
    clean = least_squares(blocks, potentials, targets, seen)
    other = least_squares(blocks, potentials, spoilt, seen)
    np.testing.assert_array_equal(clean.reward, other.reward)
    everything = least_squares(blocks, potentials, targets, np.ones_like(seen))
    assert np.abs(everything.reward - clean.reward).max() > 1e-3


@pytest.mark.parametrize("reward_model", ["joint", "own_action", "state"])
def test_states_that_are_hardly_ever_entered_do_not_spoil_the_fit(paper_game, reward_model):
    """Against dense algebra: potentials of unvisited states have tiny coefficients or no
    coefficients.
    """
    game = paper_game(size=2)
    others, steps, targets = noisy_problem(game, 5, 4)
    others = others**12 / (others**12).sum(axis=-1, keepdims=True)
    rng = np.random.default_rng(5)
    own = [rng.dirichlet(np.ones(5), size=game.n_states) for _ in others]
    steps = [averaged_transition(game, list(pair), 0) for pair in zip(own, others, strict=True)]
    seen = np.ones(targets.shape[:2], dtype=bool)
    seen[:, [3, 6, 7]] = seen[2, 9:14] = False
    blocks = reward_blocks(reward_model, others, 5)
    potentials = potential_matrix(steps, discount=0.9)
    fit = least_squares(blocks, potentials, targets, seen)

    used = np.repeat(seen.ravel(), 5)
    design = design_matrix(blocks, potentials).toarray()[used]
    rewards, shifts = np.split(design, [fit.reward.size], axis=1)
    left, sizes, _ = np.linalg.svd(
        shifts / np.maximum(np.linalg.norm(shifts, axis=0), 1e-300), full_matrices=False
    )
    left = left[:, sizes > 1e-9]
    apart = rewards - left @ (left.T @ rewards)
    assert fit.rank == np.linalg.matrix_rank(apart, tol=1e-9)
    best = np.linalg.pinv(apart, rcond=1e-9) @ targets.ravel()[used]
    scale = np.abs(best).max()
    np.testing.assert_allclose(fit.reward.ravel(), best, atol=1e-5 * scale)
    ours = np.concatenate([fit.reward.ravel(), fit.potentials.ravel()])
    rows = design @ ours - targets.ravel()[used]
    assert np.sqrt(np.mean(rows**2)) == pytest.approx(fit.residual, rel=1e-9, abs=1e-9)


def test_a_state_never_seen_is_unidentified(paper_game):
    game = paper_game(size=2)
    others, steps, targets = noisy_problem(game, 6, 2)
    blocks = reward_blocks("state", others, 5)
    potentials = potential_matrix(steps, discount=0.9)
    seen = np.ones(targets.shape[:2], dtype=bool)
    full = least_squares(blocks, potentials, targets, seen)
    seen[:, 5] = False
    fit = least_squares(blocks, potentials, targets, seen)
    assert fit.n_unidentified > full.n_unidentified
    assert np.all(np.isfinite(fit.reward))


def trained(options, *, episodes=20, **learner):
    env = grid_world_v0.parallel_env(**options)
    agents = MaSpi(discount=0.9, temperature=3.0, episodes=episodes, episode_length=200, **learner)
    stages = list(agents.learn(env, n_stages=4, rng=np.random.default_rng(0)))
    return LearningTrace(tuple(stage.observed for stage in stages)), stages


@pytest.mark.parametrize("observer", OBSERVERS)
def test_little_data_gives_finite_rewards_and_says_what_was_left_out(observer, paper_game):
    trace, _ = trained({}, episodes=1)
    game = paper_game().without_rewards()
    result = observer().recover(trace, game=game, discount=0.9, temperature=3.0)
    for agent in game.agents:
        assert np.all(np.isfinite(result.rewards[agent]))
        diagnostics = result.diagnostics[agent]
        assert diagnostics["rows_left_out"] > 0
        counted = (
            diagnostics["rank"] + diagnostics["n_unidentified"] + diagnostics["n_without_data"]
        )
        assert counted == diagnostics["n_unknowns"]
        assert 0 < diagnostics["n_without_data"] < diagnostics["n_unknowns"]
    shape = (81,) if observer is MaLflState else (81, 5, 5)
    assert result.rewards["agent_1"].shape == shape


def test_three_agents_and_slip(paper_game):
    trace, _ = trained({"n_agents": 3, "size": 2, "slip": 0.1})
    game = paper_game(n_agents=3, size=2, slip=0.1).without_rewards()
    result = MaLfl().recover(trace, game=game, discount=0.9, temperature=3.0)
    assert result.rewards["agent_2"].shape == (64, 5, 5, 5)
    assert result.targets["agent_2"].shape == (3, 64, 5)


def test_own_action_rewards_do_not_depend_on_the_others(paper_game):
    trace, _ = trained({})
    game = paper_game().without_rewards()
    result = MaLflOwnAction().recover(trace, game=game, discount=0.9, temperature=3.0)
    for index, agent in enumerate(game.agents):
        spread = np.ptp(result.rewards[agent], axis=2 - index)
        assert spread.max() == 0
        assert np.ptp(result.rewards[agent], axis=index + 1).max() > 0.1


def test_dynamics_estimated_from_transitions_are_the_games_own(paper_game):
    trace, _ = trained({"size": 2}, episodes=100, keep_transitions=True)
    given = MaLflState().recover(
        trace, game=paper_game(size=2).without_rewards(), discount=0.9, temperature=3.0
    )
    estimated = MaLflState().recover(trace, game=None, discount=0.9, temperature=3.0)
    assert estimated.diagnostics["agent_0"]["rows_left_out"] == 0
    np.testing.assert_allclose(estimated.rewards["agent_0"], given.rewards["agent_0"], atol=1e-8)


def test_states_with_joint_actions_never_seen_are_left_out_of_estimated_dynamics():
    trace, _ = trained({}, episodes=3, keep_transitions=True)
    result = MaLflState().recover(trace, game=None, discount=0.9, temperature=3.0)
    incomplete = (sum(stage.joint_counts for stage in trace.stages) == 0).any(axis=(1, 2))
    assert incomplete.sum() > 10
    assert result.diagnostics["agent_0"]["rows_left_out"] >= 3 * incomplete.sum()
    assert np.all(np.isfinite(result.rewards["agent_0"]))


def test_known_policies_replace_estimates(paper_game):
    trace, stages = trained({})
    game = paper_game().without_rewards()
    own = np.stack([stage.joint_policy["agent_1"] for stage in stages])
    own.flags.writeable = False
    result = MaLfl().recover(
        trace, game=game, discount=0.9, temperature=3.0, known_policies={"agent_1": own}
    )
    np.testing.assert_array_equal(result.estimated_policies["agent_1"], own)
    assert np.abs(result.estimated_policies["agent_0"] - own).max() > 1e-3


def test_faithful_depends_on_its_seed_only_through_the_first_logits(paper_game):
    trace, _ = trained({})
    options = {"game": paper_game().without_rewards(), "discount": 0.9, "temperature": 3.0}
    first, again, other = (
        MaLflFaithful(seed=s, reward_epochs=50).recover(trace, **options) for s in (1, 1, 2)
    )
    np.testing.assert_array_equal(first.rewards["agent_0"], again.rewards["agent_0"])
    assert np.abs(first.rewards["agent_0"] - other.rewards["agent_0"]).max() > 0
    assert (
        first.diagnostics["agent_0"]["residual"]
        > (first.diagnostics["agent_0"]["least_squares_residual"])
    )


def test_bad_input_is_named(paper_game):
    trace, _ = trained({})
    game = paper_game().without_rewards()
    short = trace.first(1)
    for observer in OBSERVERS:
        with pytest.raises(ValueError, match="at least 2 stages"):
            observer().recover(short, game=game, discount=0.9, temperature=3.0)
        with pytest.raises(ValueError, match="discount must be given"):
            observer().recover(trace, game=game, discount=None, temperature=3.0)
    with pytest.raises(ValueError, match="temperature must be > 0"):
        MaLfl().recover(trace, game=game, discount=0.9, temperature=0.0)
    with pytest.raises(ValueError, match=r"81 joint states.*has 16"):
        MaLfl().recover(
            trace, game=paper_game(size=2).without_rewards(), discount=0.9, temperature=3.0
        )
    with pytest.raises(ValueError, match="neither next-state counts nor transitions"):
        MaLfl().recover(trace, game=None, discount=0.9, temperature=3.0)
    for known, message in [
        ({"agent_9": np.ones((4, 81, 5))}, "agent_9"),
        ({"agent_0": np.ones((4, 81, 4)) / 4}, "shape"),
        ({"agent_0": np.ones((4, 81, 5))}, "not distributions"),
    ]:
        with pytest.raises(ValueError, match=message):
            MaLfl().recover(trace, game=game, discount=0.9, temperature=3.0, known_policies=known)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"reward_model": "states"}, "reward_model must be"),
        ({"entropy_coefficient": -1.0}, "entropy_coefficient must be"),
        ({"policy_epochs": 0}, "policy_epochs must be"),
        ({"reward_learning_rate": float("inf")}, "reward_learning_rate must be"),
        ({"design": "mine"}, "design must be"),
        ({"design": "published_code", "reward_model": "state"}, "needs reward_model joint"),
        ({"seed": -1}, "seed must be"),
    ],
)
def test_bad_options_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        MaLflFaithful(**options)


def test_too_large_a_game_is_rejected_before_allocating(monkeypatch, paper_game):
    monkeypatch.setattr("malfl_env.checks.MAX_TABLE_BYTES", 10_000)
    others, steps, targets = noisy_problem(paper_game(size=2), 8, 3)
    blocks = reward_blocks("state", others, 5)
    with pytest.raises(ValueError, match=r"7 potentials over 16 joint states.*would take"):
        least_squares(
            blocks,
            potential_matrix(steps, discount=0.9),
            targets,
            np.ones(targets.shape[:2], dtype=bool),
        )


def test_a_stage_of_another_shape_is_rejected():
    with pytest.raises(ValueError, match="different games"):
        LearningTrace(
            (Stage(np.zeros((4, 2, 2), dtype=np.int64)), Stage(np.zeros((4, 2), dtype=np.int64)))
        )


def test_policies_of_the_fixture_improve(paper_game):
    stages = exact_policies(paper_game(), 3, discount=0.9, temperature=3.0)
    assert np.abs(stages[2][0] - stages[1][0]).max() > 1e-2


def test_states_never_visited_count_where_every_policy_is_known(paper_game):
    game = paper_game()
    stages = exact_policies(game, 4, discount=0.9, temperature=3.0)
    nothing = Stage(np.zeros((81, 5, 5), dtype=np.int64))
    result = MaLflState().recover(
        LearningTrace((nothing,) * 4),
        game=game.without_rewards(),
        discount=0.9,
        temperature=3.0,
        known_policies={f"agent_{i}": np.stack([stage[i] for stage in stages]) for i in range(2)},
    )
    assert result.diagnostics["agent_0"]["rows_left_out"] == 0
    assert np.corrcoef(result.rewards["agent_0"], game.reward(0))[0, 1] > 0.9999
