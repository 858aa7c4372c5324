"""The verdict on results of observers, from traces of learners."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from logel_grid import Gpomdp, colour_features, logel_grid
from recovery_cases import SETTINGS, learn

from malfl_algos import LearningTrace, RecoveredRewards, Stage, judge
from malfl_algos.observers.bayesian import MaLflBellman
from malfl_algos.observers.logel import Logel
from malfl_env import TabularEnv, grid_world_v0, markov_game
from malfl_env.errors import InputError

OBSERVER = MaLflBellman(learner="exact")


@pytest.fixture(scope="module")
def played():
    return learn("homogeneous", episodes=300, n_stages=6, evaluation="exact", keep=False)


@pytest.fixture(scope="module")
def recovered(played):
    trace, game = played
    return OBSERVER.recover(trace, game=game, **SETTINGS)


def verdict(result, played, **changes):
    trace, game = played
    given = {"trace": trace, "game": game, "observer": OBSERVER, **SETTINGS, **changes}
    return judge(result, **given)


def test_a_good_reward_is_believed(recovered, played):
    found = verdict(recovered, played)
    assert found.word == "believe"
    assert set(found.agents) == set(played[0].agents)
    assert found.agents["agent_0"].numbers["unaccounted_visits"] == 0


def test_the_observer_is_not_needed(recovered, played):
    """Without it the rewards are recovered anew, and compared."""
    found = verdict(recovered, played, observer=None)
    assert found.word == "believe"
    assert found.agents["agent_0"].numbers["agrees_with_posterior_mean"] > 0.999


def test_a_reward_of_nothing_is_not_believed(recovered, played):
    rng = np.random.default_rng(0)
    random = {agent: rng.normal(size=81) for agent in played[0].agents}
    found = verdict(RecoveredRewards(random), played, observer=None)
    assert found.word == "do not believe"
    assert "Pearson r" in found.reasons[0]


def test_agents_that_do_not_learn_are_not_believed_and_this_is_the_first_reason():
    game = markov_game(grid_world_v0.parallel_env(size=2))
    rng = np.random.default_rng(0)
    policies = [rng.dirichlet(np.ones(5), game.n_states) for _ in range(2)]
    joint = np.einsum("sa,sb->sab", *policies).reshape(game.n_states, 25)
    stages = [rng.multinomial(2000, joint).reshape(-1, 5, 5) for _ in range(4)]
    played = LearningTrace(tuple(Stage(counts) for counts in stages)), game
    found = verdict(OBSERVER.recover(played[0], game=game, **SETTINGS), played)
    assert found.word == "do not believe"
    for own in found.agents.values():
        assert own.numbers["gain_over_no_change"] < 0
        assert "no better than drift without any reward" in own.reasons[0]
        assert own.advice[0] == "check that the agents learned while the log was written"


def test_agents_that_play_at_random_are_told_that_their_policies_do_not_change():
    """A reward that is the same everywhere explains them better than drift does."""
    game = markov_game(grid_world_v0.parallel_env(size=2))
    rng = np.random.default_rng(0)
    joint = np.full((game.n_states, 25), 1 / 25)
    stages = [rng.multinomial(500, joint).reshape(-1, 5, 5) for _ in range(4)]
    played = LearningTrace(tuple(Stage(counts) for counts in stages)), game
    found = verdict(OBSERVER.recover(played[0], game=game, **SETTINGS), played)
    assert found.word == "do not believe"
    assert found.advice[0] == "check that the agents learned while the log was written"
    for own in found.agents.values():
        assert own.numbers["gain_over_no_change"] > 0.02
        assert own.reasons[0].startswith("the policies hardly change from stage to stage")


def test_a_wrong_discount_and_stages_in_another_order_are_not_believed(played):
    trace, game = played
    low = {**SETTINGS, "discount": 0.3}
    result = OBSERVER.recover(trace, game=game, **low)
    assert verdict(result, played, discount=0.3).word != "believe"
    shuffled = LearningTrace(tuple(trace.stages[number] for number in (3, 0, 5, 1, 4, 2)))
    result = OBSERVER.recover(shuffled, game=game, **SETTINGS)
    found = verdict(result, (shuffled, game))
    assert found.word != "believe"
    assert "check the order of the stages" in " ".join(found.advice)


def test_repeated_stages_are_doubted(recovered, played):
    trace, game = played
    twice = LearningTrace((*trace.stages, trace.stages[-1]))
    result = OBSERVER.recover(twice, game=game, **SETTINGS)
    found = verdict(result, (twice, game))
    assert found.word != "believe"
    assert "exactly the counts of another stage" in " ".join(found.reasons)


def test_too_few_stages_name_the_missing_number(played):
    trace, game = played
    short = trace.first(2)
    result = OBSERVER.recover(short, game=game, **SETTINGS)
    found = verdict(result, (short, game))
    assert found.word == "doubt"
    reasons = found.agents["agent_0"].reasons
    (missing,) = [reason for reason in reasons if "missing" in reason]
    assert missing.startswith("expected_low, gain_over_no_change, expected, explained, misfit, ")
    assert missing.endswith(
        " are missing: it needs two improvements (3 stages), the trace has 2 stages"
    )


def test_impossible_transitions_are_not_believed(recovered):
    trace, _ = learn(episodes=30, n_stages=4)
    walled = learn(episodes=1, n_stages=2, walls=[(1, 1)])[1]
    found = verdict(recovered, (trace, walled))
    assert found.word == "do not believe"
    assert "another game" in found.reasons[0] or "cannot reach" in found.reasons[0]


def test_a_game_that_is_too_large_names_what_is_missing():
    trace, game = learn(episodes=1, n_stages=3, size=6, keep=False)
    zeros = RecoveredRewards({agent: np.zeros(game.n_states) for agent in trace.agents})
    found = judge(zeros, trace, game=game, **SETTINGS)
    assert found.word == "doubt"
    assert "a matrix of 1296 reward unknowns" in found.reasons[0]


def test_bad_arguments_are_bad_input(recovered, played):
    with pytest.raises(InputError, match="discount must be in"):
        verdict(recovered, played, discount=2.0)


def test_a_verdict_is_never_missing(recovered):
    assert recovered.verdict.word == "doubt"
    assert str(recovered.verdict).startswith("not judged yet: call malfl_algos.judge(")
    assert replace(recovered, rewards={}).verdict.word == "doubt"


def test_whole_histories_are_judged_by_their_own_model():
    """The steps that the learner learned from explain its policies, but not in another order."""
    game = logel_grid()
    stages = list(
        Gpomdp(episodes=200).learn(TabularEnv(game), n_stages=8, rng=np.random.default_rng(0))
    )
    trace = LearningTrace(tuple(stage.observed for stage in stages))
    observer = Logel(features=colour_features(), fit="history", parameters="last-fixed")
    given = {"game": game.without_rewards(), "discount": 0.96, "temperature": None}
    result = observer.recover(trace, **given)
    found = judge(result, trace, observer=observer, **given).of("agent_0")
    assert found.numbers["explained"] > 0.85
    assert found.numbers["misfit"] == pytest.approx(1, abs=0.15)
    assert found.numbers["gain_over_no_learning"] > 0.1
    assert found.word != "do not believe"
    nothing = replace(result, rewards={"agent_0": result.rewards["agent_0"][::-1].copy()})
    numbers = judge(nothing, trace, observer=observer, **given).of("agent_0").numbers
    assert numbers["expected"] < found.numbers["expected"] - 0.3
    trace = LearningTrace(trace.stages[::-1])
    again = judge(observer.recover(trace, **given), trace, observer=observer, **given)
    assert again.word == "do not believe"
    assert again.of("agent_0").numbers["explained"] < 0.5


@pytest.mark.parametrize(
    ("argument", "value"), [("result", object()), ("trace", 3), ("brief", np.ones(2))]
)
def test_a_wrong_type_is_bad_input_that_names_the_argument(argument, value):
    trace, game = learn(n_stages=2, episodes=2)
    given = {"result": RecoveredRewards({}), "trace": trace, "game": game, **SETTINGS}
    with pytest.raises(InputError, match=argument):
        judge(**{**given, argument: value})


def test_results_of_other_observers_of_one_trace_share_a_recovery(monkeypatch):
    trace, game = learn(n_stages=3, episodes=5, keep=False)
    copy = LearningTrace(tuple(replace(stage) for stage in trace.stages))
    calls = []
    recover = MaLflBellman.recover
    monkeypatch.setattr(
        MaLflBellman, "recover", lambda self, *a, **k: calls.append(1) or recover(self, *a, **k)
    )
    for one, own in ((trace, game), (copy, game), (trace.first(2), game), (trace, game)):
        rewards = {agent: own.reward(index) for index, agent in enumerate(own.agents)}
        judge(RecoveredRewards(rewards), one, game=own, brief=True, **SETTINGS)
    assert len(calls) == 3
