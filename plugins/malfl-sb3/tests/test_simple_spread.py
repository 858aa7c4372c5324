"""The study of simple spread: its parts on a few steps, with a stand-in for the observer."""

import json

import numpy as np
import pytest
import simple_spread
import simple_spread_scores
from gymnasium import spaces
from scipy.special import log_softmax
from simple_spread_learning import (
    HeldOut,
    Settings,
    environment,
    learned_stages,
    split_stages,
    true_rewards,
)
from simple_spread_report import write_report
from simple_spread_scores import likelihoods, next_policies, reward_correlations
from simple_spread_seed import ObserverPlan, Recovered, run_seed

from malfl_algos import LearningTrace, Stage, Transitions

SMALL = Settings(
    stages=2,
    timesteps=16,
    episodes=5,
    held_out=3,
    fresh_stages=1,
    curve_episodes=2,
    n_steps=16,
    batch_size=16,
    n_epochs=1,
)


def uniform(observations):
    return np.full((len(observations), 5), -np.log(5))


def all_knowing(trace, discount, rng, folder):
    """Returns the ground truth with the opposite sign."""
    rewards = {
        agent: lambda seen, actions, own=own: 3.0 - 2.0 * own(seen, actions)
        for agent, own in true_rewards().items()
    }
    return Recovered(rewards, dict.fromkeys(trace.agents, uniform), {"n_stages": trace.n_stages})


PLAN = ObserverPlan("stand-in", all_knowing)


@pytest.fixture(scope="module")
def stages():
    return list(learned_stages(SMALL, 7))


def files(root):
    found = {path.relative_to(root): path for path in root.rglob("*") if path.is_file()}
    contents = {}
    for name, path in found.items():
        content = path.read_bytes()
        if path.suffix == ".json" and "seconds" in json.loads(content):
            content = {k: v for k, v in json.loads(content).items() if k != "seconds"}
        contents[name] = content
    return contents


def test_the_ground_truth_reward_is_that_of_the_game(stages):
    rewards = true_rewards()
    for stage in stages:
        steps = stage.observed.transitions
        for agent, own in rewards.items():
            found = own(steps.observations, steps.joint_actions)
            np.testing.assert_allclose(found, stage.truth.rewards[agent], atol=2e-6)
    # close to one another, so that collisions count, too
    env = environment()
    env.reset(seed=0)
    world = env.unwrapped.world
    world.agents[1].state.p_pos = world.agents[0].state.p_pos + 0.2
    world.agents[2].state.p_pos = world.agents[0].state.p_pos - 0.2
    seen = {agent: env.unwrapped.observe(agent)[None] for agent in env.agents}
    _, paid, *_ = env.step(dict.fromkeys(env.agents, 0))
    for agent, own in rewards.items():
        assert own(seen, np.zeros((1, 3)))[0] == pytest.approx(paid[agent], abs=1e-6)
    assert paid["agent_0"] == pytest.approx(paid["agent_1"] - 0.5)


def test_held_out_episodes_are_not_shown(stages, tmp_path):
    trace, held_out = split_stages(stages, SMALL)
    assert trace.n_stages == len(held_out) == 3
    for stage, shown, own in zip(stages, trace.stages, held_out, strict=True):
        shown = shown.transitions
        assert len(shown.joint_actions) == 5 * 25
        assert len(own.joint_actions) == 3 * 25
        whole = np.concatenate([shown.observations["agent_1"], own.observations["agent_1"]])
        np.testing.assert_array_equal(whole, stage.observed.transitions.observations["agent_1"])
        np.testing.assert_array_equal(own.rewards["agent_2"], stage.truth.rewards["agent_2"][125:])
        np.testing.assert_array_equal(
            own.policies["agent_0"], stage.truth.policies["agent_0"][125:]
        )
    held_out[0].save(tmp_path / "own.npz")
    again = HeldOut.load(tmp_path / "own.npz")
    assert again.rewards["agent_0"].tobytes() == held_out[0].rewards["agent_0"].tobytes()
    assert again.observations.keys() == held_out[0].observations.keys()


def test_correlations_and_likelihoods(stages):
    _, held_out = split_stages(stages, SMALL)
    trace, *_ = split_stages(stages, SMALL)
    wrong = all_knowing(trace, 0.9, None, None).rewards
    for own in reward_correlations(wrong, held_out).values():
        assert own["pearson"] == pytest.approx(-1.0)
        assert own["spearman"] == pytest.approx(-1.0, abs=1e-3)
    found = likelihoods(dict.fromkeys(trace.agents, uniform), held_out[1])
    assert found == dict.fromkeys(trace.agents, pytest.approx(-np.log(5)))


@pytest.mark.parametrize("improvement", ["soft", "proximal"])
def test_the_next_stage_is_predicted_as_the_improvement_has_it(improvement):
    rng = np.random.default_rng(0)
    n, discount, temperature = 20_000, 0.8, 0.5
    reward = np.array([0.0, 1.0, -1.0])
    policy = np.array([[0.5, 0.5], [0.2, 0.8], [0.9, 0.1]])
    moves = np.array([[1, 2], [2, 0], [0, 1]])
    states = rng.integers(3, size=n)
    actions = (rng.random(n) > policy[states, 0]).astype(np.int16)
    steps = Transitions(
        states=None,
        joint_actions=actions[:, None],
        next_states=None,
        episode_ends=np.ones(n, dtype=bool),
        complete=False,
        observations={"a": states.astype(np.uint8)},
        next_observations={"a": moves[states, actions].astype(np.uint8)},
    )
    trace = LearningTrace((Stage(transitions=steps),), ("a",), (2,), (spaces.Discrete(3),))
    predicted = next_policies(
        {"a": lambda seen, joint: reward[seen["a"]] + 7.0},
        {"a": lambda seen: np.log(policy[seen])},
        trace,
        improvement=improvement,
        discount=discount,
        temperature=temperature,
        rng=np.random.default_rng(1),
    )["a"]
    onward = np.zeros((3, 3))
    for state in range(3):
        np.add.at(onward[state], moves[state], policy[state])
    soft = improvement == "soft"
    entropy = -(policy * np.log(policy)).sum(axis=1) * soft
    value = np.linalg.solve(np.eye(3) - discount * onward, reward + temperature * entropy)
    q = reward[:, None] + discount * value[moves]
    expected = log_softmax(q / temperature + (0 if soft else np.log(policy)), axis=1)
    np.testing.assert_allclose(predicted(np.arange(3, dtype=np.uint8)), expected, atol=0.05)


def test_a_seed_is_run_once_and_the_same_each_time(tmp_path, monkeypatch):
    monkeypatch.setattr(simple_spread_scores, "UPDATES", 20)  # tested above
    said = []
    for name in ("one", "two"):
        run_seed(SMALL, 3, tmp_path / name / "seed_3", [PLAN], say=said.append)
    one, two = files(tmp_path / "one"), files(tmp_path / "two")
    assert one.keys() == two.keys()
    assert all(one[name] == two[name] for name in one)
    assert len(said) == 8
    run_seed(SMALL, 3, tmp_path / "one" / "seed_3", [PLAN], say=said.append)
    assert len(said) == 8  # nothing was left to do
    scores = json.loads((tmp_path / "one" / "seed_3" / "stand-in" / "scores.json").read_text())
    assert scores["correlation"]["agent_2"]["pearson"] == pytest.approx(-1.0)
    assert scores["diagnostics"] == {"n_stages": 2}  # the last stage is not shown
    likely = scores["likelihood"]
    assert likely["no_change"]["agent_0"] == pytest.approx(-np.log(5))
    assert likely["uniform"] == pytest.approx(likely["no_change"])
    table = write_report(tmp_path / "one")
    assert "| return, uniform play | -" in table
    assert "| next stage: uniform play, nats per step above no change | 0.0000 |" in table
    assert "| Pearson r, stages shown | -1.000 |" in table
    for figure in ("returns.png", "rewards_stand-in.png"):
        assert (tmp_path / "one" / figure).stat().st_size > 10_000


def test_the_command_rejects_bad_input(tmp_path, capsys):
    for arguments, message in (
        (["--n-steps", "300"], "timesteps must be a multiple of n_steps (300)"),
        (["--tables-only"], "no finished seed of a study in"),
        (["--options", "[1]"], "must be a JSON mapping"),
        (["--stages", "1"], "stages must be"),
        (["--held-out", "0"], "held_out must be"),
        (["--options", '{"prior_variance": -1}'], "prior_variance must be > 0"),
    ):
        with pytest.raises(SystemExit) as ended:
            simple_spread.main([*arguments, "--output-dir", str(tmp_path / "out")])
        assert ended.value.code == 2
        assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
    (tmp_path / "old").mkdir()
    (tmp_path / "old" / "settings.json").write_text(json.dumps({"stages": 3}))
    with pytest.raises(SystemExit):
        simple_spread.main(["--output-dir", str(tmp_path / "old")])
    assert "holds a study with stages 3, not 8" in capsys.readouterr().err
