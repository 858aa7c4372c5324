"""Errors of plugins are named as theirs, wherever their code is; bad input stays bad input."""

from dataclasses import dataclass

import numpy as np
import pytest

from malfl_algos.contract import LearnedStage, Problem, RecoveredRewards, Stage, StageTruth
from malfl_algos.plugins.loading import Plugin, PluginFault
from malfl_algos.plugins.results import blaming, learned_stages, recovered_rewards
from malfl_algos.trace import LearningTrace
from malfl_env.errors import InputError

LEARNER = Plugin("learner", "tried", "tried:Tried", "some", "1")
OBSERVER = Plugin("observer", "tried", "tried:Tried", "some", "1")
TRACE = LearningTrace((Stage(np.ones((3, 2, 2), dtype=np.int64)),) * 2)


def raises(error):
    """A generator outside of any class: no frame of the traceback has the plugin as `self`."""
    raise error
    yield


def raise_it(error):
    raise error


def stages(n):
    policies = {agent: np.full((3, 2), 0.5) for agent in TRACE.agents}
    return (LearnedStage(TRACE.stages[0], StageTruth(policies)) for _ in range(n))


@dataclass(frozen=True)
class Tried:
    """Returns what it was given, or calls it if it is a function."""

    outcome: object

    def learn(this, env, *, n_stages, rng):
        return this.outcome() if callable(this.outcome) else this.outcome

    def recover(this, trace, *, game, discount, temperature, known_policies=None):
        return this.outcome() if callable(this.outcome) else this.outcome


def learn(outcome):
    with blaming(LEARNER):
        return list(
            learned_stages(
                Tried(outcome),
                None,
                n_stages=2,
                rng=np.random.default_rng(0),
                by="the learner",
                agents=TRACE.agents,
                shape=(3, 2, 2),
            )
        )


def recover(outcome):
    with blaming(OBSERVER):
        problem = Problem(TRACE, None, 0.9, 1.0)
        return recovered_rewards(Tried(outcome), problem, by="the observer")


FAULTS = [
    (ValueError("shapes"), "ValueError: shapes"),
    (SystemExit(0), "SystemExit: 0"),
    (GeneratorExit("early"), "GeneratorExit: early"),
]


@pytest.mark.parametrize(("error", "words"), FAULTS)
def test_any_exception_of_a_learner_names_it(error, words):
    with pytest.raises(PluginFault, match=rf"^learner 'tried' of .* failed: {words}$") as caught:
        learn(lambda: raises(error))
    assert caught.value.__cause__ is error


@pytest.mark.parametrize(("error", "words"), FAULTS)
def test_any_exception_of_an_observer_names_it(error, words):
    with pytest.raises(PluginFault, match=rf"^observer 'tried' of .* failed: {words}$") as caught:
        recover(lambda: next(raises(error)))
    assert caught.value.__cause__ is error


def test_an_input_error_rejects_the_input():
    with pytest.raises(InputError, match=r"^learner 'tried': too small$"):
        learn(lambda: raises(InputError("too small")))
    with pytest.raises(InputError, match=r"^observer 'tried': too short$"):
        recover(lambda: next(raises(InputError("too short"))))


def test_contradictory_arguments_are_no_fault_of_the_observer():
    with pytest.raises(InputError, match=r"^observer 'tried': discount must be"), blaming(OBSERVER):
        recovered_rewards(Tried(None), Problem(TRACE, None, 2.0, 1.0), by="the observer")


def test_an_input_error_of_its_own_stage_is_a_fault_of_the_learner():
    with pytest.raises(PluginFault, match="failed: joint_counts must be whole numbers"):
        learn(lambda: iter([Stage(np.zeros(3))]))


def test_a_person_may_interrupt():
    with pytest.raises(KeyboardInterrupt):
        learn(lambda: raises(KeyboardInterrupt()))


@pytest.mark.parametrize("chained", [True, False])
def test_an_interruption_in_compiled_code_is_no_fault_of_the_plugin(chained):
    interruption = KeyboardInterrupt("SIGTERM")

    def compiled():
        try:
            raise interruption
        except KeyboardInterrupt as fault:
            raise SystemError("an exception set") from (fault if chained else None)

    for call in (recover, learn):
        with pytest.raises(KeyboardInterrupt) as caught:
            call(compiled)
        assert caught.value is interruption
    with pytest.raises(PluginFault, match="SystemError: no signal"):
        recover(lambda: raise_it(SystemError("no signal")))


def test_stages_that_contradict_the_claimed_policies():
    """Scores are against the claimed policies, so false ones would give wrong scores."""

    def claimed(counts, policy):
        truth = StageTruth(dict.fromkeys(TRACE.agents, np.tile(policy, (3, 1))))
        return [LearnedStage(Stage(np.array(counts)), truth)] * 2

    with pytest.raises(PluginFault, match=r"stage 0: counts contradict .* of probability 0"):
        learn(claimed(np.ones((3, 2, 2), dtype=np.int64), [0.0, 1.0]))
    with pytest.raises(PluginFault, match=r"stage 0: counts contradict .* are not draws"):
        learn(claimed(np.full((3, 2, 2), 500), [0.4, 0.6]))
    # as of policies that move together within a stage, when their averages are claimed
    together = np.array([[500, 0], [0, 500]])
    assert len(learn(claimed([together] * 3, [0.5, 0.5]))) == 2
    assert len(learn(claimed(np.full((3, 2, 2), 500), [0.5, 0.5]))) == 2


def test_an_endless_generator_is_stopped():
    asked = []

    def endless():
        while True:
            asked.append(1)
            yield from stages(1)

    with pytest.raises(PluginFault, match="yielded more than 2 stages"):
        learn(endless)
    assert len(asked) == 3


@pytest.mark.parametrize(
    ("outcome", "words"),
    [
        (None, "learn must yield stages, it returned None"),
        ([{"agent_0": 1}] * 2, "stage 0: not a LearnedStage"),
        ([None] * 2, "stage 0: not a LearnedStage"),
        (stages(1), "yielded 1 stages, n_stages is 2"),
        (stages(10**9), "yielded more than 2 stages, n_stages is 2"),
    ],
)
def test_stages_that_break_the_contract(outcome, words):
    assert len(learn(stages(2))) == 2
    with pytest.raises(PluginFault, match=f"learner 'tried' of .*{words}"):
        learn(outcome)


REWARDS = {agent: np.zeros(3) for agent in TRACE.agents}


@pytest.mark.parametrize(
    ("outcome", "words"),
    [
        (None, "not a RecoveredRewards: recover returned None"),
        ({"agent_0": np.zeros(3)}, "not a RecoveredRewards"),
        (RecoveredRewards({"agent_0": np.zeros(3)}), "no reward for agent_1"),
        (RecoveredRewards(REWARDS, {"agent_0": 3}), r"diagnostics\['agent_0'\] is 3"),
        (RecoveredRewards(REWARDS, {"agent_7": {}}), "diagnostics has .*agent_7"),
        (RecoveredRewards(REWARDS, source="a trace"), "not a Source: source is 'a trace'"),
    ],
)
def test_results_that_break_the_contract(outcome, words):
    recovered = recover(RecoveredRewards(REWARDS))
    assert recovered.rewards is REWARDS
    assert recovered.source.agents == TRACE.agents
    with pytest.raises(PluginFault, match=f"observer 'tried' of .*{words}"):
        recover(outcome)
