"""The observer with networks: what it recovers, its promises, and bad input."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from observer_cases import DISCOUNT, TEMPERATURE, board, in_a_box, played

from malfl_algos import LearningTrace
from malfl_algos.learners.ma_spi import MaSpi
from malfl_algos.learners.ma_spi_network import MaSpiNetwork
from malfl_algos.networks.checkpoints import Checkpoint
from malfl_algos.networks.recovered_functions import RecoveredFunctions
from malfl_algos.observers.bayesian import MaLflBellman
from malfl_algos.observers.network import MaLflNetwork
from malfl_algos.plugins.inspection import describe_options
from malfl_algos.storage.arrays import read_arrays, write_arrays
from malfl_algos.testing import check_observer
from malfl_env import grid_world_v0
from malfl_env.markov_game import MarkovGame

QUICK = {"ensemble": 2, "epochs": 6, "hidden": (24,), "widths": (48,)}


def plenty():
    """Enough data to recover from."""
    return played(2, 5, 4000, 100)


def recover(trace=None, game: MarkovGame | str | None = "same", **options):
    game = board().without_rewards() if game == "same" else game
    observer = MaLflNetwork(**{**QUICK, **options})
    return observer.recover(
        played() if trace is None else trace,
        game=game,
        discount=DISCOUNT,
        temperature=TEMPERATURE,
    )


@pytest.fixture(scope="module")
def found():
    return recover()


@pytest.fixture(scope="module")
def well_found():
    return recover(plenty())


def correlation(one, other):
    return float(np.corrcoef(np.ravel(one), np.ravel(other))[0, 1])


def test_it_recovers_the_true_reward_and_agrees_with_the_table(well_found):
    game = board()
    tabular = MaLflBellman(learner="exact").recover(
        plenty(), game=game.without_rewards(), discount=DISCOUNT, temperature=TEMPERATURE
    )
    for index, agent in enumerate(game.agents):
        reward, truth = well_found.rewards[agent], game.reward(index)
        assert correlation(reward, truth) > 0.95
        assert correlation(reward, tabular.rewards[agent]) > 0.95
        gap = reward - truth + truth.mean()
        assert np.mean(np.abs(gap) < 2 * well_found.sd[agent]) >= 0.8
        assert reward.mean() == pytest.approx(0, abs=1e-9)
        assert {one["learner"] for one in well_found.diagnostics[agent]["members"]} == {"exact"}


def test_the_evidence_recognises_td_learners():
    learner = MaSpi(
        discount=DISCOUNT,
        temperature=TEMPERATURE,
        episodes=100,
        episode_length=100,
        keep_transitions=True,
    )
    env = grid_world_v0.parallel_env(size=2, rewards="heterogeneous")
    run = learner.learn(env, n_stages=5, rng=np.random.default_rng(0))
    found = recover(LearningTrace(tuple(stage.observed for stage in run)))
    assert {d["members"][0]["learner"] for d in found.diagnostics.values()} == {"td"}


def test_the_recovered_reward_predicts_a_stage_held_out(found):
    for said in found.diagnostics.values():
        scores = said["prediction"]
        assert scores["log_likelihood"] > scores["uniform"] + 0.01
        assert scores["stage"] == 3


def test_one_seed_gives_one_result_and_another_another(found):
    again, other = recover(), recover(seed=1)
    for agent in found.rewards:
        assert found.rewards[agent].tobytes() == again.rewards[agent].tobytes()
        assert found.sd[agent].tobytes() == again.sd[agent].tobytes()
        assert found.rewards[agent].tobytes() != other.rewards[agent].tobytes()


def test_twice_the_temperature_is_twice_the_reward(found):
    doubled = MaLflNetwork(**QUICK).recover(
        played(), game=board().without_rewards(), discount=DISCOUNT, temperature=2 * TEMPERATURE
    )
    for agent in found.rewards:
        assert doubled.rewards[agent] == pytest.approx(2 * found.rewards[agent], abs=1e-4)


@pytest.mark.parametrize("form", ["bellman", "potentials"])
@pytest.mark.parametrize("model", ["state", "own_action", "joint"])
def test_rewards_have_the_shape_of_their_model(form, model):
    result = recover(form=form, reward_model=model, epochs=2)
    shape = (16,) if model == "state" else (16, 5, 5)
    for agent in result.rewards:
        assert result.rewards[agent].shape == shape
        assert result.sd[agent].shape == shape
        assert np.all(result.sd[agent] > 0)


def test_a_reward_of_the_own_action_does_not_depend_on_the_others():
    table = recover(reward_model="own_action", epochs=2).rewards["agent_1"]
    assert table == pytest.approx(np.broadcast_to(table[:, :1], table.shape))


def test_the_potentials_form_correlates_with_the_ground_truth():
    result = recover(plenty(), form="potentials", epochs=25, ensemble=1)
    assert result.sd is None
    assert correlation(result.rewards["agent_0"], board().reward(0)) > 0.7


@pytest.mark.parametrize("trunk", ["policies", "potentials"])
def test_trained_trunks_work_as_well(trunk):
    result = recover(trunk=trunk)
    assert correlation(result.rewards["agent_1"], board().reward(1)) > 0.9


def test_bootstrapped_members_differ_in_their_policies():
    found = recover(bootstrap=True, epochs=2)
    assert np.all(found.sd["agent_0"] > 0)


def test_without_a_game_states_are_observed_by_their_number():
    result = recover(plenty(), game=None)
    assert correlation(result.rewards["agent_0"], board().reward(0)) > 0.9


def test_known_policies_are_taken_as_they_are():
    known = recover(epochs=1).estimated_policies["agent_1"]
    result = MaLflNetwork(**{**QUICK, "epochs": 1}).recover(
        played(),
        game=board().without_rewards(),
        discount=DISCOUNT,
        temperature=TEMPERATURE,
        known_policies={"agent_1": known},
    )
    assert result.estimated_policies["agent_1"] is known


# Functions of observations.


@pytest.fixture(scope="module")
def functions():
    trace = in_a_box(2, 100)
    return trace, MaLflNetwork(**QUICK).recover(
        trace, game=None, discount=DISCOUNT, temperature=TEMPERATURE
    )


def test_real_valued_observations_are_generalised_over(functions):
    _, found = functions
    game = board()
    states = np.arange(game.n_states)
    seen = game.observation(states).astype(np.float32)  # none of them was ever seen like this
    actions = np.zeros((len(states), 2), dtype=np.int64)
    for index, agent in enumerate(game.agents):
        mean, sd = found.reward_and_sd(agent, seen, actions)
        assert np.array_equal(mean, found.reward(agent, seen, actions))
        assert correlation(mean, game.reward(index)) > 0.8
        assert np.all(sd > 0)


def test_the_mean_over_the_data_is_zero(functions):
    trace, found = functions
    all_steps = [stage.transitions for stage in trace.stages]
    total = sum(
        found.reward("agent_0", steps.observations["agent_0"], steps.joint_actions).sum()
        for steps in all_steps
    )
    assert abs(total) / sum(steps.n_steps for steps in all_steps) < 1e-6


def test_functions_survive_their_file(functions, tmp_path):
    trace, found = functions
    found.save(tmp_path / "found.npz")
    loaded = RecoveredFunctions.load(tmp_path / "found.npz")
    steps = trace.stages[1].transitions
    seen = steps.observations["agent_1"]
    for before, after in zip(
        found.reward_and_sd("agent_1", seen, steps.joint_actions),
        loaded.reward_and_sd("agent_1", seen, steps.joint_actions),
        strict=True,
    ):
        assert np.array_equal(before, after)
    assert np.array_equal(
        found.log_policy("agent_1", seen, 1), loaded.log_policy("agent_1", seen, 1)
    )
    assert loaded.diagnostics == found.diagnostics


def test_files_of_version_0_1_are_read(functions, tmp_path):
    """They hold every network as a stack of one: weights (1, n_in, n_out), biases (1, 1, n_out)."""
    trace, found = functions
    found.save(tmp_path / "found.npz")
    arrays, manifest = read_arrays(tmp_path / "found.npz")
    for name, array in arrays.items():
        if "/hidden/" in name or "/policies/" in name:
            arrays[name] = array.reshape((1,) * (3 - array.ndim) + array.shape)
    write_arrays(tmp_path / "old.npz", arrays, manifest=manifest)
    loaded = RecoveredFunctions.load(tmp_path / "old.npz")
    seen = trace.stages[0].transitions.observations["agent_0"]
    assert np.array_equal(
        loaded.log_policy("agent_0", seen, 1), found.log_policy("agent_0", seen, 1)
    )


def test_other_files_are_rejected(functions, tmp_path):
    found = functions[1]
    found.save(tmp_path / "found.npz")
    content = (tmp_path / "found.npz").read_bytes()
    for damaged in (content[: len(content) // 2], b"PK\x03\x04junk", b""):
        (tmp_path / "bad.npz").write_bytes(damaged)
        with pytest.raises(ValueError, match=r"bad\.npz"):
            RecoveredFunctions.load(tmp_path / "bad.npz")
    own = found.functions["agent_0"]
    other = replace(own.members[0], mean=own.members[0].mean[:-3])
    broken = replace(own, members=(other,))
    RecoveredFunctions(functions={"agent_0": broken}).save(tmp_path / "bad.npz")
    with pytest.raises(ValueError, match=r"bad\.npz: not recovered functions"):
        RecoveredFunctions.load(tmp_path / "bad.npz")


# Checkpoints.


@pytest.mark.parametrize("kill_at", [1, 3, 4])
@pytest.mark.parametrize("form", ["bellman", "potentials"])
def test_a_killed_run_resumes_to_the_same_bytes(kill_at, form, tmp_path, monkeypatch):
    options = {"form": form, "epochs": 7, "hidden": (16,), "widths": (16,)}
    whole = recover(**options)
    saves = []

    def dying(self, arrays, state, save=Checkpoint.save):
        save(self, arrays, state)
        saves.append(self.path.name)
        if len(saves) == kill_at:
            raise KeyboardInterrupt

    monkeypatch.setattr(Checkpoint, "save", dying)
    with pytest.raises(KeyboardInterrupt):
        recover(**options, checkpoint_dir=str(tmp_path))
    done = len(saves)
    resumed = recover(**options, checkpoint_dir=str(tmp_path))
    for agent in whole.rewards:
        assert whole.rewards[agent].tobytes() == resumed.rewards[agent].tobytes()
    total = len(saves)
    again = recover(**options, checkpoint_dir=str(tmp_path))
    assert again.rewards["agent_0"].tobytes() == whole.rewards["agent_0"].tobytes()
    assert len(saves) == total > done  # all that was there was taken up


@pytest.mark.parametrize(
    ("changed", "named"),
    [({"widths": (32,)}, "widths"), ({"hidden": (8,)}, "hidden"), ({"seed": 3}, "seed")],
)
def test_checkpoints_of_another_architecture_are_rejected(changed, named, tmp_path):
    recover(epochs=1, checkpoint_dir=str(tmp_path))
    with pytest.raises(ValueError, match=f"another fit: {named} is .* checkpoint_dir"):
        recover(**{"epochs": 1, **changed}, checkpoint_dir=str(tmp_path))


def test_checkpoints_of_another_trace_or_game_are_rejected(tmp_path):
    recover(epochs=1, checkpoint_dir=str(tmp_path))
    with pytest.raises(ValueError, match="n_stages is 4 there and 3 here"):
        recover(played().first(3), epochs=1, checkpoint_dir=str(tmp_path))
    with pytest.raises(ValueError, match="observations"):
        recover(game=None, epochs=1, checkpoint_dir=str(tmp_path))
    other = played(2, 4, 30, 100)
    with pytest.raises(ValueError, match="data is"):
        recover(other, epochs=1, checkpoint_dir=str(tmp_path))


def test_damaged_checkpoints_are_rejected_by_name(tmp_path):
    recover(epochs=1, checkpoint_dir=str(tmp_path))
    file = tmp_path / "policies_0_0.npz"
    content = file.read_bytes()
    file.write_bytes(content[:-200])
    with pytest.raises(ValueError, match=r"policies_0_0\.npz"):
        recover(epochs=1, checkpoint_dir=str(tmp_path))


@pytest.mark.parametrize("change", ["shape", "nan", "missing"])
def test_checkpoints_with_other_contents_are_rejected(change, tmp_path, monkeypatch):
    def spoilt(self, arrays, state, save=Checkpoint.save):
        arrays = dict(arrays)
        name = "now/0" if "now/0" in arrays else "mean"
        if change == "missing":
            del arrays[name]
        elif change == "nan":
            arrays[name] = arrays[name] * np.nan
        else:
            arrays[name] = arrays[name][..., :1]
        save(self, arrays, state)

    with monkeypatch.context() as patched:
        patched.setattr(Checkpoint, "save", spoilt)
        recover(epochs=1, checkpoint_dir=str(tmp_path))
    with pytest.raises(ValueError, match=r"policies_0_0\.npz.*"):
        recover(epochs=1, checkpoint_dir=str(tmp_path))


def test_the_last_good_checkpoint_stays_when_the_loss_is_not_finite(tmp_path, monkeypatch):
    from malfl_algos.networks import estimated_policies

    options = {"epochs": 12, "checkpoint_dir": str(tmp_path)}
    made: list = []

    def remembered(*args, init=estimated_policies.init, **named):
        made.append(init(*args, **named))
        return made[-1]

    monkeypatch.setattr(estimated_policies, "init", remembered)
    rounds = []

    def saved(self, arrays, state, save=Checkpoint.save):
        save(self, arrays, state)
        rounds.append(state["epoch"])
        made[0][0].data.fill_(float("nan"))  # the policies' weights from now on

    monkeypatch.setattr(Checkpoint, "save", saved)
    with pytest.raises(RuntimeError, match=r"not finite in round 5.*lower learning_rate"):
        recover(**options)
    assert rounds == [5]
    arrays, state = _loaded(tmp_path / "policies_0_0.npz")
    assert state["epoch"] == 5
    assert all(np.all(np.isfinite(a)) for a in arrays.values() if a.dtype.kind == "f")


def _loaded(path):
    from malfl_algos.storage.arrays import read_arrays

    arrays, manifest = read_arrays(path)
    return arrays, manifest["state"]


# Bad input.


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"form": "free"}, "form"),
        ({"reward_model": "features"}, "reward_model"),
        ({"trunk": "none"}, "trunk"),
        ({"dynamics": "known"}, "dynamics"),
        ({"learner": "replay"}, "learner"),
        ({"improvement": "greedy"}, "improvement"),
        ({"prior_variance": 0.0}, "prior_variance"),
        ({"prior_variance": float("inf")}, "prior_variance"),
        ({"step_size": 1.0}, "step_size"),
        ({"ensemble": 0}, "ensemble"),
        ({"epochs": 0}, "epochs"),
        ({"batch_size": 0}, "batch_size"),
        ({"max_rows": 0}, "max_rows"),
        ({"widths": ()}, "widths"),
        ({"hidden": (0,)}, "hidden"),
        ({"learning_rate": 0.0}, "learning_rate"),
        ({"learning_rate": float("nan")}, "learning_rate"),
        ({"entropy_coefficient": -1.0}, "entropy_coefficient"),
        ({"seed": -1}, "seed"),
    ],
)
def test_options_out_of_their_range_are_rejected(options, named):
    with pytest.raises(ValueError, match=named):
        MaLflNetwork(**options)


def test_a_device_that_does_not_exist_is_rejected():
    for device in ("cuda:99", "abacus"):
        with pytest.raises(ValueError, match=f"device '{device}' cannot be used here"):
            recover(device=device)


def test_a_trace_without_transitions_is_rejected():
    bare = LearningTrace(tuple(replace(stage, transitions=None) for stage in played().stages))
    for game in ("same", None):
        with pytest.raises(ValueError, match=r"has no ordered transitions.*keep_transitions"):
            recover(bare, game=game)


def test_a_single_stage_is_rejected():
    with pytest.raises(ValueError, match="at least 2 stages"):
        recover(played().first(1))


@pytest.mark.parametrize(
    ("discount", "temperature", "named"),
    [(None, 3.0, "discount"), (1.0, 3.0, "discount"), (0.9, 0.0, "temperature")],
)
def test_discount_and_temperature_must_be_known(discount, temperature, named):
    with pytest.raises(ValueError, match=named):
        MaLflNetwork(**QUICK).recover(
            played(),
            game=board().without_rewards(),
            discount=discount,
            temperature=temperature,
        )


def test_functions_of_a_tabular_trace_equal_its_tables_up_to_a_constant(found):
    game = board()
    trace = played().with_observations(game.without_rewards())
    read = MaLflNetwork(**QUICK).recover(
        trace, game=None, discount=DISCOUNT, temperature=TEMPERATURE
    )
    seen = game.observation(np.arange(game.n_states))
    actions = np.zeros((game.n_states, 2), dtype=np.int64)
    mean = read.reward("agent_0", seen, actions)
    assert mean - mean.mean() == pytest.approx(found.rewards["agent_0"], abs=1e-9)


@pytest.mark.parametrize(
    "options", [{}, {"form": "potentials"}, {"reward_model": "joint", "trunk": "potentials"}]
)
def test_torchs_defaults_do_not_matter_and_stay(options):
    options = {"epochs": 1, "ensemble": 1, "hidden": (8,), "widths": (8,), **options}
    before = recover(**options)
    state = torch.get_rng_state()
    torch.set_default_dtype(torch.float64)
    torch.set_default_device("meta")
    try:
        after = recover(**options)
        assert torch.get_default_dtype() == torch.float64
        assert str(torch.get_default_device()) == "meta"
    finally:
        torch.set_default_dtype(torch.float32)
        torch.set_default_device(None)
    assert torch.equal(state, torch.get_rng_state())
    for agent in before.rewards:
        assert before.rewards[agent].tobytes() == after.rewards[agent].tobytes()


@pytest.mark.parametrize(
    "options", [{"improvement": 0.0}, {"form": "potentials", "reward_model": "joint"}]
)
def test_it_keeps_the_contract_of_an_observer(options):
    check_observer(MaLflNetwork, options={**QUICK, "epochs": 1, **options})


def test_tensorboard_logs_the_losses(tmp_path):
    recover(epochs=1, ensemble=1, log_dir=str(tmp_path))
    assert list(tmp_path.rglob("events.out.tfevents.*"))


@pytest.mark.parametrize("cls", [MaSpiNetwork, MaLflNetwork])
def test_every_option_is_documented(cls):
    for option in describe_options(cls):
        assert option.documentation, option.name
        assert option.allowed != "any value", option.name


@pytest.mark.parametrize(
    "options", [{}, {"reward_model": "own_action", "improvement": "proximal", "dynamics": "own"}]
)
def test_on_a_device_tables_stay_there_and_give_the_same(monkeypatch, options):
    """Tables are tensors on a device; here the device is the CPU. Noise and prior are searched in
    another way there, so results agree as far as the searches end at the same place.
    """
    expected = recover(**options)
    kinds = []

    def as_on_a_device(tensor):
        kinds.append(tensor.detach().double())
        return kinds[-1]

    monkeypatch.setattr("malfl_algos.networks.features.on_device", as_on_a_device)
    there = recover(**options)
    assert kinds
    for agent in expected.rewards:
        sd = expected.sd[agent]
        assert np.abs((there.rewards[agent] - expected.rewards[agent]) / sd).max() < 0.05
        np.testing.assert_allclose(there.sd[agent], sd, rtol=0.05)
