"""Extreme numbers, and values of any kind where numbers belong: finite results or a clear error."""

from __future__ import annotations

import contextlib
import io
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from malfl_algos.cli.main import main
from malfl_algos.experiments.config import ExperimentConfig, from_mapping, to_mapping
from malfl_algos.experiments.scoring import read_scoring_files, rows_of_files
from malfl_algos.ground_truth import GroundTruth
from malfl_algos.learners.ma_spi import MaSpi
from malfl_algos.observers.bayesian import MaLflBellman
from malfl_algos.observers.lfl import Lfl
from malfl_algos.observers.log_policy import LogPolicy
from malfl_algos.observers.paper import MaLfl, MaLflState
from malfl_algos.plugins.options import option_hints
from malfl_algos.storage.arrays import write_arrays
from malfl_algos.storage.yaml_files import parse_yaml, yaml_text
from malfl_algos.trace import LearningTrace, NextStateCounts, Stage, Transitions
from malfl_env import grid_world_v0, markov_game

pytestmark = pytest.mark.filterwarnings("error")
BOUNDED = settings(max_examples=60)

NUMBERS = (
    *(0, -1, 1, 2, 0.5, -0.0, 5e-324, 1e-310, 1e308, -1e308, 10**400, -(10**400), 2**63, 2**64),
    *(True, float("nan"), float("inf"), -float("inf"), 1e6, 1e-3, 0.999),
)
TEXTS = (
    *("", "..", "../../x", "/etc/passwd", "a\nb", "\x00", "\ud800", "\xe9", "\uff11", "x" * 300),
    *("approach", "avoid", "homogeneous", "figures", "ma-spi", "ma-lfl", "NaN", "1e3", "a/b"),
    *("\u202e", "-"),
)
odd_numbers, odd_text = st.sampled_from(NUMBERS), st.sampled_from(TEXTS)
odd_values = st.recursive(
    st.none() | odd_numbers | odd_text | st.text(max_size=4) | st.binary(max_size=3) | st.dates(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(odd_text | odd_numbers, inner),
    max_leaves=8,
)


@BOUNDED
@given(
    st.dictionaries(st.sampled_from(list(option_hints(ExperimentConfig))), odd_values, max_size=3),
    st.dictionaries(
        st.sampled_from(["size", "n_agents", "starts", "goals", "walls", "slip"]),
        odd_values,
        max_size=2,
    ),
    st.fixed_dictionaries({"name": odd_text, "label": odd_text, "options": odd_values}),
)
def test_any_configuration_is_sound_or_refused(
    given_values: dict[str, object], game: dict[str, object], observer: dict[str, object]
) -> None:
    for more in ({}, {"game": game}, {"observers": [observer]}, {"families": {"own": observer}}):
        with contextlib.suppress(ValueError):
            config = from_mapping({**given_values, **more})
            text = yaml_text(to_mapping(config))
            assert from_mapping(parse_yaml(text)) == config
            labels = [config.learner.label, *(plugin.label for plugin in config.observers)]
            for name in (*labels, *config.reward_families, *config.families):
                assert Path("run", name).resolve().parent == Path("run").resolve()
                assert name != "run"
            board = config.game
            if not isinstance(board, str) and board.size <= 3 and board.n_agents == 2:
                config.rules()


@BOUNDED
@given(st.dictionaries(st.sampled_from(["game", "seeds", "learner", "families"]), odd_values))
def test_commands_say_it_in_one_line(tmp_path: Path, given_values: dict[str, object]) -> None:
    path = tmp_path / "odd.yaml"
    try:
        path.write_text(yaml_text(given_values), encoding="utf-8")
    except ValueError:  # YAML cannot say it
        return
    said = io.StringIO()
    with contextlib.redirect_stderr(said), contextlib.redirect_stdout(io.StringIO()):
        command = ["learn", "ma-spi", "--config", str(path), "--iterations", "2"]
        status = main([*command, "--episodes", "0", "--output-dir", str(tmp_path / "out")])
    assert status == 2
    assert len(said.getvalue().splitlines()) == 1
    assert len(said.getvalue()) < 2000
    assert not (tmp_path / "out").exists()


numbers = hnp.arrays(
    st.sampled_from(["f8", "f4", ">f8", "i8", "u8", "?", "c16", "U3", "O", "f2"]),
    st.sampled_from([(16,), (16, 5, 5), (16, 5), (0,), (), (4, 4), (15,)]),
)


@BOUNDED
@given(numbers)
def test_any_array_is_a_reward_or_refused(reward: np.ndarray) -> None:
    try:
        env = grid_world_v0.parallel_env(size=2, rewards=[reward, "approach"])
    except ValueError:
        return
    table = markov_game(env).reward(0)
    assert table.dtype == np.float64
    assert np.all(np.isfinite(table))
    np.testing.assert_array_equal(table, reward.astype(np.float64))


@BOUNDED
@given(
    counts=hnp.arrays(
        st.sampled_from(["i8", "i4", "f8", "u8"]),
        st.sampled_from([(4, 2, 2), (4,), (0, 2, 2), (4, 0)]),
    )
)
def test_any_counts_are_a_stage_or_refused(counts: np.ndarray) -> None:
    with contextlib.suppress(ValueError):
        stage = Stage(counts)
        assert stage.state_counts.min() >= 0
        assert stage.state_counts.sum() == counts.astype(object).sum()


@BOUNDED
@given(data=st.data())
def test_steps_outside_the_game_are_refused(data: st.DataObject) -> None:
    """Compiled loops take them as indices."""
    kinds = st.sampled_from(["u1", "i8", "u8", "f8", "i1"])
    draw = lambda shape: data.draw(hnp.arrays(data.draw(kinds), shape))  # noqa: E731
    counts = np.ones((4, 2, 2), dtype=np.int64)
    with contextlib.suppress(ValueError):
        ends = np.zeros(3, dtype=bool)
        steps = Transitions(draw((3,)), draw((3, 2)), draw((3,)), ends, complete=True)
        Stage(counts, None, steps)
        for array, size in ((steps.states, 4), (steps.joint_actions, 2), (steps.next_states, 4)):
            assert array.dtype.kind in "iu"
            assert 0 <= array.min() <= array.max() < size
    with contextlib.suppress(ValueError):
        seen = NextStateCounts(draw((3,)), draw((3,)), draw((3,)))
        Stage(counts, seen)
        assert 0 <= seen.rows.min() <= seen.rows.max() < 16
        assert 0 <= seen.next_states.min() <= seen.next_states.max() < 4
        assert seen.counts.min() > 0


@BOUNDED
@given(
    policy=hnp.arrays(
        "f8", (2, 4, 2), elements=st.sampled_from([0.0, 0.5, 1.0, 1e308, 5e-324, np.nan])
    ),
    reward=hnp.arrays("f8", st.sampled_from([(4,), (4, 2, 2), (3,)])),
)
def test_ground_truth_is_finite_distributions_or_refused(
    tmp_path: Path, policy: np.ndarray, reward: np.ndarray
) -> None:
    path = tmp_path / "truth.npz"
    GroundTruth({"agent_0": reward}, {"agent_0": policy}).save(path)
    with contextlib.suppress(ValueError):
        truth = GroundTruth.load(path)
        assert np.all(np.isfinite(truth.rewards["agent_0"]))
        np.testing.assert_allclose(truth.joint_policies["agent_0"].sum(axis=-1), 1, atol=1e-6)
        assert truth.joint_policies["agent_0"].min() >= 0


OBSERVERS = (
    MaLfl(),
    MaLfl(entropy_coefficient=0.0),
    MaLfl(entropy_coefficient=1e-3),
    MaLflState(),
    MaLflBellman(),
    Lfl(),
    LogPolicy(),
)
CONFIG = {"game": {"size": 2}, "episode_length": 20}


def learned(scale: float, temperature: float, discount: float, evaluation: str):
    rng = np.random.default_rng(1)
    rewards = [scale * rng.standard_normal(16) for _ in range(2)]
    env = grid_world_v0.parallel_env(size=2, rewards=rewards)
    learner = MaSpi(
        discount=discount,
        temperature=temperature,
        evaluation=evaluation,
        episodes=3,
        episode_length=20,
    )
    stages = list(learner.learn(env, n_stages=3, rng=np.random.default_rng(0)))
    game = markov_game(env)
    policies = {a: np.stack([stage.joint_policy[a] for stage in stages]) for a in game.agents}
    truth = GroundTruth({a: game.reward(i) for i, a in enumerate(game.agents)}, policies)
    return game, LearningTrace(tuple(stage.observed for stage in stages)), truth


def finite(value: object) -> bool:
    if isinstance(value, dict):
        return all(map(finite, value.values()))
    if isinstance(value, (list, tuple)):
        return all(map(finite, value))
    return not isinstance(value, float) or bool(np.isfinite(value))


@pytest.mark.parametrize("scale", [1e6, 1e-6])
@pytest.mark.parametrize("temperature", [1e-3, 1e3])
@pytest.mark.parametrize("discount", [0.0, 0.999])
@pytest.mark.parametrize("evaluation", ["td", pytest.param("exact", marks=pytest.mark.slow)])
def test_extremes_give_finite_rewards_and_scores(
    tmp_path: Path, scale: float, temperature: float, discount: float, evaluation: str
) -> None:
    game, trace, truth = learned(scale, temperature, discount, evaluation)
    for policies in truth.joint_policies.values():
        np.testing.assert_allclose(policies.sum(axis=-1), 1, atol=1e-12)
    trace.save(tmp_path / "trace.npz")
    truth.save(tmp_path / "truth.npz")
    config = from_mapping({**CONFIG, "discount": discount, "temperature": temperature})
    n_recovered, refusals = 0, []
    for number, observer in enumerate(OBSERVERS):
        for known in (None, truth.joint_policies):
            try:
                recovered = observer.recover(
                    trace,
                    game=game.without_rewards(),
                    discount=discount,
                    temperature=temperature,
                    known_policies=known,
                )
            except (ValueError, ArithmeticError) as fault:
                refusals.append(str(fault))
                continue
            n_recovered += 1
            assert all(np.all(np.isfinite(reward)) for reward in recovered.rewards.values())
            if known is not None or number in (1, 2, 5):
                continue
            place = tmp_path / f"{number}.npz"
            write_arrays(place, recovered.rewards)
            files = read_scoring_files(
                place,
                ground_truth=tmp_path / "truth.npz",
                trace=tmp_path / "trace.npz",
                config=config,
                config_given=True,
            )
            assert finite(rows_of_files(files))
    # exact zeros have no logarithm, and a posterior may be lost to rounding
    assert all("probability 0.0" in said or "double precision" in said for said in refusals)
    assert n_recovered >= len(OBSERVERS) - 2


@BOUNDED
@given(
    rewards=hnp.arrays(
        st.sampled_from(["f8", "f4", "i8", "?"]),
        st.sampled_from([(16,), (16, 5, 5), (16, 5), (15,), ()]),
    )
)
def test_any_rewards_are_scored_finitely_or_refused(
    tmp_path_factory: pytest.TempPathFactory, rewards: np.ndarray
) -> None:
    place = tmp_path_factory.getbasetemp()
    if not (place / "trace.npz").exists():
        _, trace, truth = learned(1.0, 1.0, 0.9, "exact")
        trace.save(place / "trace.npz")
        truth.save(place / "truth.npz")
    with contextlib.suppress(ValueError):
        write_arrays(place / "rewards.npz", {"agent_0": rewards})
        files = read_scoring_files(
            place / "rewards.npz",
            ground_truth=place / "truth.npz",
            trace=place / "trace.npz",
            config=from_mapping(CONFIG),
            config_given=True,
        )
        assert rewards.shape in ((16,), (16, 5, 5))
        assert finite(rows_of_files(files))
