"""Rewards from single steps of epsilon-greedy Q-learners: replay, likelihood, and what is found."""

from __future__ import annotations

import numpy as np
import pytest

from malfl_algos import LearningTrace, judge
from malfl_algos.learners.q_learning import QLearning
from malfl_algos.ma_lfl.chosen_steps import chosen_steps, joined
from malfl_algos.ma_lfl.held_out_steps import repeats
from malfl_algos.ma_lfl.q_replay import ReplayedQ
from malfl_algos.ma_lfl.reward_priors import prior_of_states
from malfl_algos.ma_lfl.stages import StageArrays, Steps
from malfl_algos.ma_lfl.step_likelihood import StepLikelihood
from malfl_algos.observers.reading import stage_arrays
from malfl_algos.observers.replay import MaLflReplay
from malfl_env import games, markov_game
from malfl_env.errors import InputError

GAMMA, BETA = 0.9, 0.15
KNOWN = {
    "reward_model": "next_state",
    "bootstrap": "q-learning",
    "policy": "moving",
    "choice": "greedy",
    "initial_q": "uniform_others",
    "step_size": BETA,
    "step_size_decay": 0.0,
}


def priced(n_prices=3, n_steps=2000, rule="q_learning", n_stages=2, cost=(1.0, 1.2)):
    env = games.pricing(n_prices=n_prices, cost=cost)
    learner = QLearning(
        discount=GAMMA,
        temperature=1.0,
        algorithm=rule,
        choice="epsilon_greedy",
        policy="moving",
        initial_q="uniform_others",
        step_size=BETA,
        epsilon_decay=2 / (n_stages * n_steps),
        episodes=1,
        episode_length=n_steps,
        keep_transitions=True,
    )
    stages = learner.learn(env, n_stages=n_stages, rng=np.random.default_rng(0))
    return LearningTrace(tuple(stage.observed for stage in stages)), markov_game(env)


def learner_of(game, rule="q-learning", reward=None):
    return ReplayedQ(
        "next_state",
        GAMMA,
        1.0,
        BETA,
        rule,
        moving=True,
        greedy=True,
        reward=reward,
        uniform_others=game.without_rewards(),
    )


def profits_of(game, agent):
    """Profits by next state, `(n_states,)`."""
    return np.asarray(game.reward(agent)[0], dtype=float).ravel()


def task_of(trace, game, agent=0, rule="q-learning"):
    steps, ends = joined(stage_arrays(trace))
    shape = trace.stages[0].counts.shape
    chosen = chosen_steps(steps, ends, shape, agent, shape[0], search=False)
    prior = prior_of_states(game.observation(np.arange(shape[0])))
    return StepLikelihood(learner_of(game, rule), prior, steps, shape, agent, chosen, None)


def values_at_choices(task, reward):
    """q of every chosen step's state before its update, `(m, n_actions)`."""
    blocks = task.chosen.blocks()
    numbers = [task.chosen.numbers[own] for own in blocks]
    rates = [task.chosen.epsilon[task.chosen.parts[own]].mean() for own in blocks]
    model = task.model.linearised(reward)
    rows = np.concatenate(list(model.choices(task.steps, numbers, rates, task.shape, task.index)))
    return rows[..., :-1] @ reward + rows[..., -1]


@pytest.mark.parametrize("rule", ["q_learning", "sarsa"])
def test_replayed_choices_are_those_of_the_learner(rule):
    """At the learner's own reward the action of greatest q is played, but for exploration."""
    trace, game = priced(rule=rule)
    for agent in range(2):
        task = task_of(trace, game, agent, rule.replace("_", "-"))
        q = values_at_choices(task, profits_of(game, agent))
        late = task.chosen.numbers > 3000
        played = q[np.arange(len(q)), task.chosen.actions] >= q.max(axis=1) - 1e-4
        epsilon = np.exp(-2 * task.chosen.numbers[late] / 4000).mean()
        assert played[late].mean() == pytest.approx(1 - epsilon * 2 / 3, abs=0.04)


def test_a_choice_is_seen_before_its_update():
    """The coefficients at step k are those of a log that ends before it."""
    trace, game = priced(n_steps=60)
    task = task_of(trace, game)
    reward = profits_of(game, 0)
    q = values_at_choices(task, reward)
    for number in (0, 7, 40):
        k = task.chosen.numbers[number]
        cut = Steps(*(column[:k] for column in task.steps))
        stage = StageArrays(trace.stages[0].counts, cut)
        policies = [[np.full((game.n_states, 3), 1 / 3)] * 2]
        frozen = ReplayedQ(
            "next_state", GAMMA, 1.0, BETA, "q-learning", reward=reward, uniform_others=game
        )
        rows = frozen.coefficients([stage], policies, 0)[0][task.steps.states[k]]
        np.testing.assert_allclose(q[number], rows[..., :-1] @ reward + rows[..., -1], atol=1e-4)


def test_gradient_and_information_are_derivatives_of_the_likelihood():
    trace, game = priced(n_steps=300)
    task = task_of(trace, game)
    rng = np.random.default_rng(0)
    theta, at = rng.normal(size=(2, game.n_states))
    epsilon = np.full(len(task.chosen.epsilon), 0.3)
    here = task.sums(theta, 0.5, epsilon, at=at)
    for direction in rng.normal(size=(3, game.n_states)):
        ahead, back = (
            task.sums(theta + sign * 1e-2 * direction, 0.5, epsilon, at=at) for sign in (1, -1)
        )
        slope = (ahead.log_likelihood - back.log_likelihood) / 2e-2
        assert here.gradient @ direction == pytest.approx(slope, rel=2e-2, abs=0.1)
    sure = task.sums(theta, 0.5, np.full_like(epsilon, 1e-9), at=at)  # no lapses: exact curvature
    direction = rng.normal(size=game.n_states)
    ahead, back = (
        task.sums(theta + sign * 1e-2 * direction, 0.5, np.full_like(epsilon, 1e-9), at=at)
        for sign in (1, -1)
    )
    bend = (ahead.gradient - back.gradient) @ direction / 2e-2
    assert direction @ sure.information @ direction == pytest.approx(-bend, rel=1e-2)


def test_every_state_has_as_many_steps_and_weights_count_all():
    trace, _ = priced(n_steps=500)
    steps, ends = joined(stage_arrays(trace))
    chosen = chosen_steps(steps, ends, trace.stages[0].counts.shape, 0, 20_000, search=False)
    assert 0 < len(chosen.numbers) < 1000
    numbers = np.bincount(steps.states[chosen.numbers], minlength=9)
    visits = np.bincount(steps.states, minlength=9)
    np.testing.assert_array_equal(numbers, np.minimum(visits, numbers.max()))
    assert chosen.weights.sum() == pytest.approx(1000)
    assert np.all(np.diff(chosen.numbers) > 0)
    few = chosen_steps(steps, ends, trace.stages[0].counts.shape, 0, 9, search=True)
    assert few.numbers.min() >= 500
    blocks = few._replace(block=7).blocks()
    np.testing.assert_array_equal(np.concatenate([few.numbers[own] for own in blocks]), few.numbers)
    assert all(len(set(few.parts[own])) == 1 for own in blocks)


def test_repeats_are_of_the_last_visit_of_a_state():
    states, actions = np.array([0, 1, 0, 1, 0, 2]), np.array([2, 1, 2, 0, 1, 0])
    np.testing.assert_array_equal(repeats(states, actions), [0, 0, 1, 0, 0, 0])


def test_prices_without_learning_are_not_believed():
    """Firms that draw every price evenly want nothing that their prices could show."""
    rng = np.random.default_rng(0)
    actions = rng.integers(0, 3, size=(3000, 2))
    after = actions @ [3, 1]
    trace = LearningTrace.from_transitions(
        np.append(0, after[:-1]),
        {"agent_0": actions[:, 0], "agent_1": actions[:, 1]},
        after,
        steps_per_stage=1000,
    )
    _, game = priced(n_steps=10)
    observer = MaLflReplay(**KNOWN)
    asked = {"game": game.without_rewards(), "discount": GAMMA, "temperature": None}
    verdict = judge(observer.recover(trace, **asked), trace, observer=observer, **asked)
    assert verdict.word == "do not believe"
    assert verdict.of(trace.agents[0]).numbers["gain_over_no_change"] < 0.02


def test_rewards_that_change_need_stages_on_both_sides():
    trace, game = priced(n_steps=60)
    with pytest.raises(InputError, match=r"reward_changes must be a stage below 2, .* got 2"):
        MaLflReplay(**KNOWN, reward_changes=2).recover(
            trace, game=game, discount=GAMMA, temperature=None
        )
    with pytest.raises(InputError, match="reward_changes must be a stage >= 1, got 0"):
        MaLflReplay(**KNOWN, reward_changes=0)
    with pytest.raises(InputError, match="reward_changes needs bootstrap"):
        MaLflReplay(reward_changes=1)


@pytest.mark.parametrize("given", [True, False])
def test_profits_are_recovered_from_prices_alone(given):
    """All of the profits, also what depends on the rival's price alone; see `greedy_steps`."""
    trace, game = priced(n_prices=4, n_steps=6000)
    result = MaLflReplay(**KNOWN).recover(
        trace, game=game.without_rewards() if given else None, discount=GAMMA, temperature=None
    )
    for index, agent in enumerate(trace.agents):
        profit = profits_of(game, index)
        found = result.diagnostics[agent]
        assert np.corrcoef(result.rewards[agent], profit)[0, 1] > 0.995
        assert found["explained_choices"] > 0.95
        assert found["rule"] == "q-learning, moving, greedy"
        assert found["scale"] == "open"
        assert found["epsilon"][0] == pytest.approx(0.63, abs=0.06)
        centred = profit - profit.mean()
        size = result.rewards[agent] @ result.rewards[agent] / (result.rewards[agent] @ centred)
        error = np.abs(result.rewards[agent] - size * centred)
        assert np.mean(error < 2 * result.sd[agent]) >= 0.85


def test_rewards_of_joint_actions_are_recovered_from_steps():
    """Unequal numbers of actions, and exchanged agents: the order of the unknowns is right."""
    rng = np.random.default_rng(1)
    actions = np.stack([rng.integers(0, 2, 900), rng.integers(0, 3, 900)], axis=1)
    after = rng.integers(0, 4, 900)
    found = []
    for order in ([0, 1], [1, 0]):
        trace = LearningTrace.from_transitions(
            np.append(0, after[:-1]),
            {f"agent_{own}": actions[:, own] for own in order},
            after,
            steps_per_stage=300,
        )
        options = {**KNOWN, "reward_model": "joint", "initial_q": "zero"}
        asked = {"game": None, "discount": GAMMA, "temperature": None}
        found.append(MaLflReplay(**options).recover(trace, **asked))
    for agent in ("agent_0", "agent_1"):
        assert found[0].rewards[agent].shape == (4, 2, 3)
        exchanged = found[1].rewards[agent].swapaxes(1, 2)
        np.testing.assert_allclose(found[0].rewards[agent], exchanged, atol=1e-4)
        assert found[0].diagnostics[agent]["steps_used"] > 0


def test_options_that_single_steps_do_not_have_are_named(monkeypatch):
    trace, game = priced(n_steps=60)
    asked = {"game": game.without_rewards(), "discount": GAMMA, "temperature": None}
    with pytest.raises(InputError, match="noise_variance and prior_variance must be left out"):
        MaLflReplay(**KNOWN, noise_variance=0.1, prior_variance=1.0).recover(trace, **asked)
    even = {"agent_0": np.full((2, 9, 3), 1 / 3)}
    result = MaLflReplay(**KNOWN).recover(trace, known_policies=even, **asked)
    assert result.diagnostics["agent_0"]["known_policies"].startswith("not used")
    assert "known_policies" not in result.diagnostics["agent_1"]
    monkeypatch.setattr("malfl_algos.observers.replay.MOST_UNKNOWNS", 8)
    with pytest.raises(InputError, match=r"reward_changes needs at most 8 unknowns.* got 9"):
        MaLflReplay(**KNOWN, reward_changes=1).recover(trace, **asked)


@pytest.mark.slow
def test_a_log_that_begins_in_mid_learning_is_not_believed_with_a_start():
    trace, game = priced(n_prices=4, n_steps=3000, n_stages=4)
    asked = {"game": game.without_rewards(), "discount": GAMMA, "temperature": None}
    observer = MaLflReplay(**KNOWN)
    words, deficits = [], []
    for stages in (trace.stages, trace.stages[2:]):
        seen = LearningTrace(stages, trace.agents)
        verdict = judge(observer.recover(seen, **asked), seen, observer=observer, **asked)
        words.append([verdict.of(agent).word for agent in trace.agents])
        deficits.append([verdict.of(agent).numbers["start_deficit"] for agent in trace.agents])
        reasons = verdict.of("agent_0").reasons
    assert words == [["believe"] * 2, ["do not believe"] * 2]
    assert max(deficits[0]) < -10 < 10 < min(deficits[1])
    assert any("zero is more probable" in reason for reason in reasons)


@pytest.mark.slow
def test_rewards_after_a_change_are_doubted_if_those_before_are():
    """The q after a first period of 40 steps follows from rewards that it cannot tell."""
    (few, game), (many, _) = (priced(n_steps=n, n_stages=1) for n in (40, 600))
    trace = LearningTrace((*few.stages, *many.stages, *many.stages), few.agents)
    asked = {"game": game.without_rewards(), "discount": GAMMA, "temperature": None}
    observer = MaLflReplay(**KNOWN, reward_changes=1)
    result = observer.recover(trace, **asked)
    verdict = judge(result, trace, observer=observer, **asked)
    for agent in trace.agents:
        assert verdict.of(agent).word != "believe"
        before = result.diagnostics[agent]["before_changes"]
        assert {"unsettled", "misfit", "start_deficit"} <= set(before)
        assert any("which these build on" in one for one in verdict.of(agent).reasons)
    other = MaLflReplay(**KNOWN, reward_changes=2).recover(trace, **asked)
    for agent in trace.agents:  # of three stages, each change is the only one beside the other
        one, two = (own.diagnostics[agent]["held_out"] for own in (result, other))
        assert (one["changes"], one["best_changes"]) == (1, 2)
        assert one["changes_deficit"] == pytest.approx(-two["changes_deficit"]) != 0
