"""One seed gives one result, and every agent has its own random numbers."""

import os
import random
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from gymnasium import spaces
from malfl_sb3 import IndependentTraining, agent_views, partner_view, train_independent
from sb3_games import FACTORIES, Call, Matching, dqn, global_state, ppo, weights
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.utils import set_random_seed

from malfl_algos.plugins import load_learner
from malfl_env import grid_world_v0
from malfl_env.errors import InputError


def trained(factories, *, seed=0, steps=48, env=None, **options):
    models = train_independent(
        env or Matching(),
        factories,
        total_timesteps=steps,
        rng=np.random.default_rng(seed),
        **options,
    )
    return {agent: weights(model) for agent, model in models.items()}


@pytest.mark.parametrize("mode", ["simultaneous", "alternating"])
@pytest.mark.parametrize("name", FACTORIES)
def test_one_seed_gives_identical_weights(name, mode):
    factories = dict.fromkeys(("agent_0", "agent_1"), FACTORIES[name])
    options = {"mode": mode, "turn_timesteps": 16 if mode == "alternating" else None}
    results = []
    for caller in (1, 2):
        set_random_seed(caller)
        np.random.normal()  # noqa: NPY002  # leaves a spare draw behind
        before = global_state()
        results.append(trained(factories, **options))
        assert global_state() == before
    assert results[0] == results[1]
    assert len(set(results[0].values())) == 2
    assert trained(factories, seed=1, **options) != results[0]


def test_models_built_by_hand_train_reproducibly_too():
    results = []
    for caller in (1, 2):
        env = Matching()
        models = {agent: dqn(view, seed=5) for agent, view in agent_views(env).items()}
        set_random_seed(caller)
        results.append(trained(models, env=env))
    assert results[0] == results[1]


@pytest.mark.parametrize("name", FACTORIES)
def test_an_agent_does_not_depend_on_agents_that_do_not_affect_it(name):
    alone = [
        trained({"agent_0": FACTORIES[name], "agent_1": FACTORIES[other]})["agent_0"]
        for other in FACTORIES
    ]
    assert len(set(alone)) == 1


def test_an_environment_that_draws_globally_is_reproducible_and_apart():
    one, other = ({"agent_0": ppo, "agent_1": FACTORIES[name]} for name in ("ppo", "dqn"))
    results = []
    for caller, factories in enumerate((one, one, other)):
        set_random_seed(caller)
        results.append(trained(factories, env=Matching(global_random=True)))
    assert results[0] == results[1]
    assert results[0]["agent_0"] == results[2]["agent_0"]


class _Seed(BaseCallback):
    def _on_training_start(self):
        set_random_seed(7)
        self.model.action_space.seed(7)

    def _on_step(self):
        return True


@pytest.mark.parametrize("name", FACTORIES)
def test_one_agent_learns_exactly_as_stable_baselines3_alone(name):
    plain = FACTORIES[name](partner_view(Matching(n_agents=1, random=False), "agent_0", {}), seed=3)
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    plain.learn(64, callback=_Seed())
    torch.set_num_threads(before)
    env = Matching(n_agents=1, random=False)
    model = FACTORIES[name](agent_views(env)["agent_0"], seed=3)
    start = weights(model)
    trained({"agent_0": model}, env=env, steps=64, callbacks={"agent_0": _Seed()})
    assert weights(model) == weights(plain) != start
    assert model.num_timesteps == plain.num_timesteps


def test_a_pause_changes_neither_results_nor_generators_of_the_caller():
    factories = {"agent_0": ppo, "agent_1": dqn}
    whole = trained(factories, steps=48)
    with IndependentTraining(
        Matching(), factories, total_timesteps=48, rng=np.random.default_rng(0)
    ) as training:
        going_on = True
        while going_on:
            before = global_state()
            going_on = training.advance(7)
            assert global_state() == before
            torch.rand(1), np.random.rand(), random.random()  # noqa: NPY002
        assert training.learning == []
    assert {agent: weights(model) for agent, model in training.models.items()} == whole


def test_torch_uses_as_many_threads_as_asked():
    seen = []
    before = torch.get_num_threads()
    note = {"agent_0": Call(lambda model: seen.append(torch.get_num_threads()))}
    for threads in (1, 2, None):
        trained(
            dict.fromkeys(("agent_0", "agent_1"), ppo), steps=2, callbacks=note, threads=threads
        )
    assert [seen[0], seen[16], seen[32]] == [1, 2, before]
    assert torch.get_num_threads() == before


def test_the_order_of_hashes_is_irrelevant():
    code = (
        "import numpy as np; from sb3_games import *; from malfl_sb3 import train_independent\n"
        "models = train_independent(Matching(n_agents=3), {'agent_2': dqn, 'agent_0': ppo, "
        "'agent_1': a2c}, total_timesteps=24, rng=np.random.default_rng(0))\n"
        "print({agent: weights(model) for agent, model in models.items()})"
    )
    results = [
        subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": str(Path(__file__).parent)},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    ]
    assert "agent_2" in results[0]
    assert results[0] == results[1]


def test_continuous_actions_are_reproducible():
    box = spaces.Box(-1.0, 1.0, (2,), np.float32)
    factories = dict.fromkeys(("agent_0", "agent_1"), ppo)
    first, second = (trained(factories, env=Matching(action_space=box)) for _ in range(2))
    assert first == second


@pytest.fixture
def odd_torch_defaults():
    torch.set_default_dtype(torch.float64)
    torch.set_default_device("meta")
    yield
    torch.set_default_dtype(torch.float32)
    torch.set_default_device(None)


@pytest.mark.parametrize("name", ["sb3-ppo", "sb3-dqn"])
def test_torch_defaults_do_not_matter_and_are_restored(name, request):
    def policies():
        rollouts = {"n_steps": 16, "batch_size": 8} if name == "sb3-ppo" else {}
        learner = load_learner(
            name, discount=0.9, episodes=2, episode_length=5, timesteps=32, **rollouts
        )
        stages = learner.learn(
            grid_world_v0.parallel_env(size=2), n_stages=2, rng=np.random.default_rng(0)
        )
        return [stage.truth.policies["agent_1"].tobytes() for stage in stages]

    usual = policies()
    request.getfixturevalue("odd_torch_defaults")
    assert policies() == usual
    assert torch.get_default_dtype() == torch.float64
    assert torch.get_default_device() == torch.device("meta")


def test_a_model_of_64_bit_parameters_is_rejected():
    env = Matching()
    models = {agent: ppo(view) for agent, view in agent_views(env).items()}
    models["agent_1"].policy.double()
    with pytest.raises(InputError, match=r"agent_1: the model has float64 parameters"):
        train_independent(env, models, total_timesteps=32, rng=np.random.default_rng(0))
