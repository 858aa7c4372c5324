"""The study of continuous games: its games, its baselines, and its parts on a few steps."""

import json

import continuous_games
import continuous_observers
import numpy as np
import pytest
from continuous_baselines import AgentSteps, lfl_weights, logel_weights, trex_weights
from continuous_learning import HeldOut, Settings, learned_stages, split_stages
from continuous_report import write_report
from continuous_seed import run_seed
from malfl_sb3.copies import CopiesTraining
from particle_games import GAMES, MAX_CYCLES, ParticleGames
from scipy.special import log_softmax

from malfl_env.errors import InputError

SMALL = {
    "stages": 5,
    "timesteps": 40,
    "episodes": 6,
    "held_out": 2,
    "fresh_stages": 1,
    "n_steps": 40,
    "copies": 4,
    "batch_size": 20,
    "n_epochs": 1,
}


@pytest.mark.parametrize("name", list(GAMES))
def test_the_games_are_those_of_mpe2(name):
    game, rng = GAMES[name], np.random.default_rng(0)
    games, envs = ParticleGames(game, 3), [game.make() for _ in range(3)]
    games.reset(rng)
    games.places = 0.3 * games.places  # close to one another, so that agents touch
    for copy, env in enumerate(envs):
        env.reset(seed=1)
        world = env.unwrapped.world
        for agent, place in zip(world.agents, games.places[copy], strict=True):
            agent.state.p_pos, agent.state.p_vel = place.copy(), np.zeros(2)
            if game.goal:
                agent.goal_a = world.landmarks[games.goals[copy]]
        for landmark, place in zip(world.landmarks, games.landmarks[copy], strict=True):
            landmark.state.p_pos = place.copy()
    for _ in range(MAX_CYCLES):
        actions = rng.integers(5, size=(3, 3))
        moved = games.step(np.arange(3), actions)
        for copy, env in enumerate(envs):
            given = dict(zip(games.agents, actions[copy].tolist(), strict=True))
            seen, paid, _, truncated, _ = env.step(given)
            for index, agent in enumerate(games.agents):
                np.testing.assert_allclose(moved.observations[index][copy], seen[agent], atol=1e-6)
                assert moved.rewards[copy, index] == pytest.approx(paid[agent], abs=1e-9)
                assert moved.truncated[copy] == truncated[agent]


def trained(seed):
    settings = Settings(**SMALL)
    games = ParticleGames(GAMES["simple_spread"], 4)
    factory = settings.learner().model
    with CopiesTraining(
        games,
        dict.fromkeys(games.agents, factory),
        total_timesteps=80,
        rng=np.random.default_rng(seed),
    ) as training:
        start = training.models["agent_1"].policy.state_dict()["action_net.weight"].clone().numpy()
        training.advance(80)
        with pytest.raises(RuntimeError, match="has finished"):
            training.advance(4)
    model = training.models["agent_1"]
    assert model.num_timesteps == 80
    return start, model.policy.state_dict()["action_net.weight"].numpy().copy()


def test_learners_on_copies_learn_and_are_reproducible():
    (start, one), (_, same), (_, other) = trained(0), trained(0), trained(1)
    assert np.abs(one - start).max() > 1e-4
    np.testing.assert_array_equal(one, same)
    assert np.abs(one - other).max() > 1e-4


def test_a_training_on_copies_makes_whole_steps():
    games = ParticleGames(GAMES["simple_spread"], 4)
    factory = Settings(**SMALL).learner().model
    with (
        CopiesTraining(
            games,
            dict.fromkeys(games.agents, factory),
            total_timesteps=40,
            rng=np.random.default_rng(0),
        ) as training,
        pytest.raises(InputError, match="multiple of the 4 copies, got 6"),
    ):
        training.advance(6)


MOVES = np.array([[1.0, 0.0], [0.0, 1.0], [-1.0, -1.0]])
"""What each action adds to the two features."""


def test_baselines_find_which_feature_the_learners_move_to():
    rng, n, tilt = np.random.default_rng(0), 4000, np.array([1.0, -0.5, -0.5])
    stages, one = [], np.ones((n, 1))
    for number in range(4):
        now, following = (log_softmax((number + step) * 0.3 * tilt) for step in (0, 1))
        actions, seen = rng.choice(3, size=n, p=np.exp(now)), rng.normal(size=(n, 2))
        after = 0.5 * seen + MOVES[actions]
        stages.append(
            AgentSteps(
                np.concatenate([seen, one], axis=1),
                np.concatenate([after, one], axis=1),
                after,
                actions,
                np.arange(n) % 10 == 9,
                (np.broadcast_to(now, (n, 3)), np.broadcast_to(following, (n, 3))),
                following[actions],
            )
        )
    for weights in (trex_weights, lfl_weights, logel_weights):
        chosen = list(range(4 if weights is trex_weights else 3))
        found = weights(stages, chosen, 0.5, rng)
        assert found[0] > abs(found[1]), weights.__name__


def files(root):
    found = {path.relative_to(root): path for path in root.rglob("*") if path.is_file()}
    contents = {}
    for name, path in found.items():
        content = path.read_bytes()
        if path.suffix == ".json" and "seconds" in json.loads(content):
            content = {k: v for k, v in json.loads(content).items() if k != "seconds"}
        contents[name] = content
    return contents


def test_held_out_episodes_are_not_shown(tmp_path):
    settings = Settings(game="simple_adversary", **SMALL)
    stages = list(learned_stages(settings, 7))
    trace, held_out = split_stages(stages, settings)
    assert trace.n_stages == len(held_out) == 5
    for stage, shown, own in zip(stages, trace.stages, held_out, strict=True):
        whole = stage.observed.transitions
        assert len(shown.transitions.joint_actions) == 6 * 25
        assert len(own.joint_actions) == 2 * 25
        both = [shown.transitions.observations["agent_1"], own.observations["agent_1"]]
        np.testing.assert_array_equal(np.concatenate(both), whole.observations["agent_1"])
        np.testing.assert_array_equal(own.rewards["agent_0"], stage.truth.rewards["agent_0"][150:])
    held_out[0].save(tmp_path / "own.npz")
    again = HeldOut.load(tmp_path / "own.npz")
    assert again.rewards["agent_0"].tobytes() == held_out[0].rewards["agent_0"].tobytes()
    assert again.next_observations.keys() == held_out[0].next_observations.keys()


def test_a_seed_is_run_once_and_the_same_each_time(tmp_path, monkeypatch):
    small = {"epochs": 1, "widths": (8,)}
    monkeypatch.setattr(continuous_observers, "OPTIONS", {**continuous_observers.OPTIONS, **small})
    settings, said = Settings(game="simple_adversary", **SMALL), []
    observers = ["ma-lfl-network", "trex", "lfl", "logel", "log-policy"]
    for name in ("one", "two"):
        folder = tmp_path / name / "simple_adversary" / "seed_3"
        run_seed(settings, 3, folder, observers, say=said.append)
    one, two = files(tmp_path / "one"), files(tmp_path / "two")
    assert one.keys() == two.keys()
    assert all(one[name] == two[name] for name in one)
    assert len(said) == 16
    run_seed(settings, 3, tmp_path / "one/simple_adversary/seed_3", observers, say=said.append)
    assert len(said) == 16  # nothing was left to do
    table = write_report(tmp_path / "one", ["simple_adversary"])
    assert "| simple_adversary, adversary | uniform play | -" in table
    assert "| simple_adversary, good agents | trex | " in table
    for figure in ("returns.png", "rewards.png"):
        assert (tmp_path / "one" / "simple_adversary" / figure).stat().st_size > 10_000


def test_the_command_rejects_bad_input(tmp_path, capsys):
    for arguments, message in (
        (["--n-steps", "300"], "n_steps must be a multiple of copies, got 300"),
        (["--tables-only"], "no finished seed of a study in"),
        (["--stages", "1"], "stages must be"),
        (["--held-out", "0"], "held_out must be"),
    ):
        with pytest.raises(SystemExit) as ended:
            continuous_games.main([*arguments, "--output-dir", str(tmp_path / "out")])
        assert ended.value.code == 2
        assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
    (tmp_path / "simple_spread").mkdir()
    (tmp_path / "simple_spread" / "settings.json").write_text(json.dumps({"stages": 3}))
    with pytest.raises(SystemExit):
        continuous_games.main(["--output-dir", str(tmp_path)])
    assert "holds a study with" in capsys.readouterr().err
