"""Values of a wrong type in the public API: an `InputError` that names the argument.

Every public function and constructor is called with valid arguments, of which one at a time is
replaced by values of every kind. Such a call may succeed; any other exception is an error of ours.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import fields
from functools import cache
from typing import Any

import numpy as np
import pytest
from gymnasium.spaces import Discrete

import malfl_algos
import malfl_env
from malfl_algos import LearningTrace, RecoveredRewards, Stage, Transitions, contract, scores, soft
from malfl_algos import play as playing
from malfl_algos import testing as plugin_testing
from malfl_algos.learners.ma_spi import MaSpi
from malfl_algos.observers.paper import MaLflState
from malfl_algos.plugins import load_learner, load_observer
from malfl_env import InputError, MarkovGame, grid_world_v0, vector
from malfl_env import markov_game as tabular
from malfl_env import testing as env_testing
from malfl_env.markov_game import Factor, deterministic_game

Call = tuple[Callable[..., Any], dict[str, Any]]

WRONG: Mapping[str, Any] = {
    "None": None,
    "true": True,
    "whole": 3,
    "negative": -1,
    "real": 2.5,
    "nan": float("nan"),
    "complex": 1j,
    "text": "x",
    "bytes": b"x",
    "empty list": [],
    "list of text": ["x", "y"],
    "list of lists": [[1, 2], [3]],
    "list of objects": [object()],
    "empty mapping": {},
    "mapping to text": {"agent_0": "x"},
    "mapping to objects": {"agent_0": object(), "agent_1": object()},
    "mapping of numbers": {3: 4},
    "set": {1, 2},
    "object": object(),
    "class": int,
    "function": lambda *given, **named: object(),
    "array of text": np.array(["x"]),
    "array of objects": np.array([None, {}], dtype=object),
    "array of reals": np.array([0.5, np.nan]),
    "empty array": np.zeros((0, 3)),
    "scalar array": np.array(1.5),
    "complex array": np.array([1j, 2]),
    "dates": np.array(["2020-01-01"], dtype="datetime64[D]"),
}


@cache
def played() -> tuple[Any, MarkovGame, LearningTrace, Mapping[str, Any], Stage]:
    """Environment, game, trace, policies by agent, and a stage with steps."""
    env = grid_world_v0.parallel_env(size=2)
    learner = MaSpi(
        discount=0.9, temperature=3.0, episodes=4, episode_length=6, keep_transitions=True
    )
    stages = list(learner.learn(env, n_stages=3, rng=np.random.default_rng(0)))
    policies = {
        agent: np.stack([stage.joint_policy[agent] for stage in stages])
        for agent in env.possible_agents
    }
    trace = LearningTrace(tuple(stage.observed for stage in stages))
    return env, tabular(env), trace, policies, stages[0].observed


def environment_calls() -> Iterator[Call]:
    env = played()[0]
    board = {
        "size": 3,
        "n_agents": 2,
        "rewards": "homogeneous",
        "starts": (0, 0),
        "goals": (2, 2),
        "walls": [(1, 1)],
        "slip": 0.1,
        "max_cycles": 5,
        "render_mode": None,
        "observations": "cells",
    }
    yield grid_world_v0.parallel_env, board
    yield grid_world_v0.env, board
    yield grid_world_v0.raw_env, board
    yield tabular, {"env": env}
    yield malfl_env.single_agent_env, {"env": env, "agent": "agent_0", "policies": None}
    batch = {"autoreset_mode": "SameStep", "copy": True, "backend": "numpy"}
    yield vector.GridWorldVector, {"n_games": 2, **batch, **board}
    yield (
        vector.SingleAgentVector,
        {"num_envs": 2, "agent": "agent_0", "policies": None, **batch, "max_episode_steps": 3},
    )
    fresh = grid_world_v0.parallel_env(size=2)
    fresh.reset(seed=0)
    yield fresh.step, {"actions": {"agent_0": 1, "agent_1": 2}}
    yield fresh.reset, {"seed": 0, "options": None}
    yield fresh.observation_space, {"agent": "agent_0"}
    yield fresh.action_space, {"agent": "agent_0"}
    batch_env = vector.GridWorldVector(2)
    batch_env.reset(seed=0)
    yield batch_env.step, {"actions": np.zeros((2, 2), dtype=int)}
    yield batch_env.reset, {"seed": 0, "options": None}
    view = malfl_env.single_agent_env()
    view.reset(seed=0)
    yield view.step, {"action": 1}
    yield view.reset, {"seed": 0, "options": None}

    def checked(**given: Any) -> None:
        with suppress(AssertionError):  # the factory makes no environment
            env_testing.check_parallel_env(**given)

    yield (
        checked,
        {
            "factory": object,
            "seeds": (0, 1),
            "n_steps": 2,
            "episode_limit": 5,
            "n_episodes": 2,
            "compare_infos": True,
            "stochastic": None,
            "hash_seeds": (),
        },
    )


def game_calls() -> Iterator[Call]:
    game = played()[1]
    factor, table = game.factors[0], game.next_states
    yield (
        Factor,
        {
            "agents": (0,),
            "successors": factor.successors,
            "probabilities": factor.probabilities,
        },
    )
    yield MarkovGame, {**vars(game)}
    rewards = [game.reward(0), game.reward(1)]
    yield deterministic_game, {"next_states": table, "start": 0, "rewards": rewards}
    yield game.reward, {"agent_index": 0}
    given = {"states": None, "actions": None, "start": None}
    yield (
        MarkovGame.from_tables,
        {"next_states": table, "transitions": None, "rewards": rewards, **given},
    )
    game.save("game.npz")
    yield game.save, {"path": "again.npz"}
    yield MarkovGame.load, {"path": "game.npz"}
    yield game.at_start, {"values": np.zeros(game.n_states)}
    yield game.drawn_starts, {"n_episodes": 2, "rng": np.random.default_rng(0)}
    yield game.with_rewards, {"rewards": rewards}
    yield game.state_index, {"observation": [0, 0, 1, 1]}
    yield game.observation, {"states": 3}
    yield game.local_states, {"states": 3}
    digits = {"form": "one_hot", "shape": (2, 2)}
    observations = malfl_env.observations
    yield observations.observation_digits, {**digits, "observation": [0, 1]}
    yield observations.observation_space, digits
    yield observations.observations_of, {**digits, "digits": np.array([0, 1])}


def trace_calls() -> Iterator[Call]:
    _, game, trace, _, stage = played()
    seen = trace.with_observations(game)
    steps = seen.stages[0].transitions
    assert steps is not None
    yield Transitions, {**vars(steps), "terminations": np.zeros(steps.n_steps, dtype=bool)}
    yield Stage, {"joint_counts": stage.counts, "next_state_counts": None, "transitions": steps}
    counted = stage.seen_next_states
    assert counted is not None
    yield contract.NextStateCounts, {**vars(counted)}
    yield (
        LearningTrace,
        {name: getattr(seen, name) for name in ("stages", "agents", "n_actions", "spaces")},
    )
    yield trace.first, {"n_stages": 2}
    yield trace.with_observations, {"game": game}
    yield stage.action_counts, {"agent_index": 0}
    yield steps.slice, {"first": 0, "stop": 2}
    yield steps.map, {"function": np.array}
    yield Transitions.concat, {"parts": [steps, steps]}
    columns = {
        "state": [0, 1, 1],
        "episode": [0, 0, 0],
        "step": [0, 1, 2],
        "stage": [0, 0, 0],
        "who": [0, 0, 0],
        "left": [0, 1, 0],
        "right": [1, 1, 0],
        "next": [1, 1, 0],
        "over": [False, False, True],
    }
    told = {
        "frame": columns,
        "state": "state",
        "actions": {"a": "left", "b": "right"},
        "episode": "episode",
        "step": "step",
        "next_state": "next",
        "n_states": 4,
        "n_actions": 3,
        "terminated": "over",
        "gaps": "error",
    }
    one_way = {"stage": "stage", "agent": None, "action": None, "subject": None}
    yield LearningTrace.from_table, {**told, **one_way}
    for cut in ("n_stages", "episodes_per_stage", "steps_per_stage"):
        yield LearningTrace.from_table, {**told, cut: 1}
    yield LearningTrace.from_table, {**told, "stage": "stage", "change_points": False}
    yield LearningTrace.from_subjects, {**told, "stage": "stage", "subject": "who"}
    trace.save("trace.npz")
    yield LearningTrace.load, {"path": "trace.npz", "verify": True}
    yield trace.save, {"path": "again.npz"}


def contract_calls() -> Iterator[Call]:
    _, game, trace, policies, stage = played()
    rewards = {agent: game.reward(index) for index, agent in enumerate(game.agents)}
    first = {agent: own[0] for agent, own in policies.items()}
    truth = contract.StageTruth(first)
    yield contract.StageTruth, {"policies": first, "rewards": None}
    yield contract.LearnedStage, {"observed": stage, "truth": truth}
    yield (
        contract.Problem,
        {
            "trace": trace,
            "game": game,
            "discount": 0.9,
            "temperature": 3.0,
            "known_policies": policies,
        },
    )
    result = {
        "rewards": rewards,
        "diagnostics": {agent: {} for agent in rewards},
        "estimated_policies": policies,
        "targets": None,
        "potentials": None,
        "sd": rewards,
        "covariance": None,
        "functions": None,
        "verdict": contract.Verdict("doubt"),
    }
    yield RecoveredRewards, result
    yield (
        RecoveredRewards(functions={"agent_0": lambda seen, actions: np.zeros(len(seen))}).reward,
        {"agent": "agent_0", "observations": np.zeros((3, 1)), "actions": np.zeros((3, 2), int)},
    )
    diagnostics = {
        **dict.fromkeys(("rank", "n_unidentified", "n_unknowns", "n_stages"), 1),
        **dict.fromkeys(("noise_variance", "prior_variance", "log_evidence", "step_size"), 0.5),
        **dict.fromkeys(("identification", "reward_model", "learner_model"), "words"),
        "bounds_hit": [],
        "further": {},
    }
    yield contract.Diagnostics, diagnostics
    yield contract.Diagnostics.of, {"content": diagnostics}
    verdict = {"word": "doubt", "reasons": (), "numbers": {}, "advice": (), "agents": {}}
    yield contract.Verdict, verdict
    yield contract.Verdict("doubt").of, {"agent": "agent_0"}
    given = {"discount": 0.9, "temperature": 3.0, "known_policies": None}
    yield MaLflState().recover, {"trace": trace, "game": game, **given}
    yield (
        malfl_algos.judge,
        {
            "result": RecoveredRewards(rewards),
            "trace": trace.first(1),
            "game": game,
            **given,
            "observer": None,
        },
    )


def learner_calls() -> Iterator[Call]:
    env, game, _, _, _ = played()
    learner = MaSpi(discount=0.9, temperature=3.0, episodes=1, episode_length=1)

    def learn(**given: Any) -> Any:
        return list(learner.learn(given.pop("env"), **given))

    yield learn, {"env": env, "n_stages": 1, "rng": np.random.default_rng(0)}
    yield load_learner, {"name": "ma-spi", "discount": 0.9, "temperature": 3.0, "episodes": 1}
    yield load_observer, {"name": "ma-lfl-bellman", "passes": 1, "step_size": 0.5}
    yield plugin_testing.observer_checks, {"plugin": "log-policy", "options": {}}
    checked = {"plugin": "ma-spi", "options": {}, "factory": None}
    yield (
        plugin_testing.learner_checks,
        {**checked, "n_stages": 2, "seeds": (0, 1), "stochastic": True},
    )
    yield playing.action_counts, {"env": env}
    yield playing.observation_spaces, {"env": env}
    yield playing.tabular_game, {"env": env}
    yield playing.games_of, {"env": env, "n_games": 1}
    uniform = np.log(np.full((game.n_states, 5), 0.2))
    sampled = {
        "game": game,
        "log_policies": [uniform, uniform],
        "seed": 0,
        "episodes": 1,
        "episode_length": 2,
        "discount": 0.9,
        "temperature": 3.0,
        "step_size": 0.1,
        "keep_steps": True,
    }
    yield playing.sample_stage, sampled
    sample = playing.sample_stage(**sampled)
    yield (
        playing.observed_stage,
        {"game": game, "sample": sample, "keep_transitions": True, "complete": True},
    )

    def play(**given: Any) -> Any:
        return list(playing.play_stage(given.pop("games"), given.pop("act"), **given))

    yield (
        play,
        {
            "games": playing.games_of(env, 1),
            "act": lambda agent, seen: np.full((len(seen), 5), 0.2),
            "episodes": 1,
            "episode_length": 2,
            "rng": np.random.default_rng(0),
        },
    )
    writer = {"agents": ("a",), "n_actions": (2,), "spaces": (Discrete(2),)}
    yield malfl_algos.TraceWriter, {"folder": "absent", **writer}


def score_calls() -> Iterator[Call]:
    _, game, trace, policies, _ = played()
    last = [policies[agent][-1] for agent in game.agents]
    reward, states = game.reward(0), np.ones(game.n_states, dtype=bool)
    rewards = {agent: game.reward(index) for index, agent in enumerate(game.agents)}
    counts = [stage.counts for stage in trace.stages]
    of_learners = {"discount": 0.9, "temperature": 3.0}
    pair = {"estimate": reward, "truth": reward}
    yield scores.pearson, {**pair, "states": states}
    yield scores.spearman, {**pair, "states": states}
    yield scores.calibration, {**pair, "covariance": np.eye(game.n_states), "states": states}
    space = scores.joint_space(game, discount=0.9)
    yield scores.epic, {**pair, "space": space}
    yield scores.starc, {**pair, "space": space}
    yield scores.joint_space, {"game": game, "discount": 0.9, "weights": states}
    yield (
        scores.averaged_space,
        {
            "game": game,
            "joint_policy": last,
            "agent_index": 0,
            "discount": 0.9,
            "weights": states,
        },
    )
    yield scores.true_play, {"game": game, **of_learners, "n_stages": 1}
    truth = scores.true_play(game, **of_learners, n_stages=1)
    yield scores.regret, {"recovered": rewards, "truth": truth}
    yield scores.reference, {"game": game, **of_learners, "states": states}
    base = scores.Reference(rewards, states, game, 0.9)
    yield scores.with_policies, {"base": base, "policies": policies}
    held_out = {"game": game, "rewards": rewards, "joint_counts": counts, "first_stage": 1}
    yield scores.prediction_scores, {**held_out, **of_learners}
    yield scores.mean_interval, {"values_by_seed": {0: [0.5], 1: [1.0]}, "level": 0.95}
    yield scores.mean_of_rows, {"rows": [{"seed": 0, "pearson": 0.5}], "name": "pearson"}
    inputs = scores.ScoringInputs(rewards, base)
    yield scores.score_agent, {"inputs": inputs, "agent": "agent_0", "names": ["pearson"]}
    held = scores.HeldOut(**held_out, **of_learners)
    for made in (base, inputs, truth, space, held, scores.SCORES["pearson"]):
        yield type(made), {own.name: getattr(made, own.name) for own in fields(made)}
    yield scores.Score, {"value": 1.0, "reason": None}
    yield (
        scores.MeanInterval,
        {"mean": 1.0, "interval": (0.0, 2.0), "n_seeds": 2, "reason": None},
    )
    nothing = scores.Score(None, "no steps")
    yield scores.Prediction, {"log_likelihood": nothing, "divergence": nothing, "n_steps": 0}


def soft_calls() -> Iterator[Call]:
    game, policies = played()[1], played()[3]
    last = [policies[agent][-1] for agent in game.agents]
    of_agent = {"game": game, "joint_policy": last, "agent_index": 0}
    transition = soft.averaged_transition(**of_agent)
    q = np.zeros((game.n_states, 5))
    yield soft.averaged_reward, of_agent
    yield soft.averaged_transition, of_agent
    yield soft.transition_under, {**of_agent, "copies": 1}
    yield soft.soft_evaluation, {**of_agent, "discount": 0.9, "temperature": 3.0}
    yield soft.others_joint_policy, {"joint_policy": last, "agent_index": 0}
    yield soft.entropy, {"policy": last[0]}
    yield soft.expected_next, {"transition": transition, "values": np.zeros(game.n_states)}
    policy = soft.policy_transition(transition, last[0])
    yield soft.policy_transition, {"transition": transition, "policy": last[0]}
    yield (
        soft.discounted_sum,
        {"transition": policy, "gain": np.zeros(game.n_states), "discount": 0.9},
    )
    yield soft.log_soft_improvement, {"q": q, "temperature": 3.0}


FREE: Mapping[str, tuple[str, ...]] = {
    # checked where they enter the pipeline, with the name of the plugin
    **dict.fromkeys(("StageTruth", "LearnedStage", "RecoveredRewards", "Diagnostics"), ("",)),
    **dict.fromkeys(("GridWorld.reset", "SingleAgentView.reset"), ("options",)),
    "tabular_game": ("env",),  # None is the answer
    "Verdict.of": ("agent",),
    "Score": ("reason",),
    "judge": ("observer", "result"),
}
"""Arguments that may be anything, by function; "" stands for all."""

ALSO = {
    "frame": ("there is no column",),
    "path": ("no such file", "expected a malfl"),
    "name": ("unknown learner", "unknown observer"),
    "plugin": ("unknown",),
}
"""Other words for an argument."""

CALLS = (
    environment_calls,
    game_calls,
    trace_calls,
    contract_calls,
    learner_calls,
    score_calls,
    soft_calls,
)


def named(argument: str, message: str) -> bool:
    """Whether a message has the name of an argument; of `actions` also in the singular."""
    words = (argument, argument.rstrip("s"), *ALSO.get(argument, ()))
    return any(word.replace("_", " ") in message.replace("_", " ") for word in words)


def faults(call: Callable[..., Any], given: Mapping[str, Any]) -> list[str]:
    """One line for every wrong value whose answer is not an `InputError` with the argument's name.

    Functions that the caller gives may raise what they like.
    """
    call(**given)  # the other arguments are valid
    found = []
    free = FREE.get(getattr(call, "__qualname__", ""), ())
    for name in given:
        for kind, value in WRONG.items():
            if callable(given[name]) and callable(value):
                continue
            try:
                call(**{**given, name: value})
                if kind == "object" and name not in free and "" not in free:
                    found.append(f"{name} = object is accepted")
            except InputError as fault:
                if not named(name, str(fault)):
                    found.append(f"{name} = {kind} is not named: {fault}")
            except Exception as fault:
                found.append(f"{name} = {kind}: {type(fault).__name__}: {fault}")
    return found


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("calls", CALLS, ids=lambda calls: calls.__name__)
def test_a_wrong_type_is_bad_input_that_names_the_argument(
    calls: Callable[[], Iterator[Call]], tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    found = {
        getattr(call, "__qualname__", str(call)): faults(call, given) for call, given in calls()
    }
    assert not any(found.values()), "\n".join(
        f"{name}: {fault}" for name, own in found.items() for fault in own
    )
