"""Bad input is rejected before anything runs; later errors stop all learners cleanly."""

import signal
import threading
import time
from functools import partial

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces
from malfl_sb3 import IndependentTraining, agent_views, partner_view, train_independent
from mpe2 import simple_spread_v3
from sb3_games import FACTORIES, Call, Matching, dqn, learner_threads, ppo, weights
from stable_baselines3 import DQN, PPO
from stable_baselines3.common.callbacks import EvalCallback
from stable_baselines3.common.vec_env import DummyVecEnv, VecFrameStack

BOTH = ("agent_0", "agent_1")
MODES = [{}, {"mode": "alternating", "turn_timesteps": 16}]


def train(env, models, *, steps=32, **options):
    options = {"rng": np.random.default_rng(0), **options}
    return train_independent(env, models, total_timesteps=steps, **options)


class Boom(Exception):
    """Raised by a learner."""


def boom_at(step):
    def raises(model):
        if model.num_timesteps == step:
            raise Boom("the network is on fire")

    return Call(raises)


@pytest.mark.parametrize("options", MODES)
@pytest.mark.parametrize("agent", BOTH)
@pytest.mark.parametrize("step", [1, 5, 20])  # the first; the end of an episode; after an update
def test_an_error_in_one_stops_all(agent, step, options):
    before = threading.enumerate()
    env = Matching()
    models = {agent: ppo(view) for agent, view in agent_views(env).items()}
    with pytest.raises(Boom, match="on fire") as caught:
        train(env, models, callbacks={agent: boom_at(step)}, **options)
    assert f"raised by the learner of {agent}" in caught.value.__notes__[0]
    assert threading.enumerate() == before
    # the same environment and models can be used again
    trained = train(env, models, **options)
    assert [model.num_timesteps for model in trained.values()] == [32, 32]


def test_an_error_in_the_algorithm_itself_stops_all():
    class Broken(PPO):
        def train(self):
            raise Boom("nothing learned")

    before = threading.enumerate()
    factories = {"agent_0": ppo, "agent_1": lambda view: Broken("MlpPolicy", view, n_steps=64)}
    with pytest.raises(Boom, match="nothing learned"):
        train(Matching(), factories, steps=100)
    assert threading.enumerate() == before


@pytest.mark.parametrize("options", MODES)
def test_an_error_of_the_environment_stops_all(options):
    class Failing(Matching):
        def step(self, actions):
            if self.calls.count("step") == 7:
                raise Boom("no step")
            return super().step(actions)

    env = Failing()
    with pytest.raises(Boom, match="no step"):
        train(env, dict.fromkeys(BOTH, ppo), **options)
    assert learner_threads() == []


def test_a_learner_that_takes_too_long():
    wake = threading.Event()
    callbacks = {"agent_1": Call(lambda model: model.num_timesteps < 3 or wake.wait(30))}
    env = Matching()
    with pytest.raises(TimeoutError, match=r"learner of agent_1 took more than 0\.3 seconds"):
        train(env, dict.fromkeys(BOTH, ppo), timeout=0.3, callbacks=callbacks)
    assert learner_threads() == ["malfl-sb3 agent_1"]
    wake.set()  # its thread ends at its next step
    for _ in range(100):
        if not learner_threads():
            break
        time.sleep(0.05)
    assert learner_threads() == []
    train(env, dict.fromkeys(BOTH, ppo))


@pytest.fixture
def _listening():
    """Let Ctrl-C take effect, which tests in the background of a script ignore otherwise."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("_listening")
@pytest.mark.skipif(not hasattr(signal, "pthread_kill"), reason="needs POSIX signals")
def test_ctrl_c():
    def interrupt(model):
        if model.num_timesteps == 10:
            signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)
            time.sleep(0.2)

    env = Matching()
    with pytest.raises(KeyboardInterrupt):
        train(env, dict.fromkeys(BOTH, ppo), callbacks={"agent_1": Call(interrupt)})
    assert learner_threads() == []
    train(env, dict.fromkeys(BOTH, ppo))


def test_agents_that_do_not_end_together():
    env = Matching(n_agents=3, lengths={"agent_0": 9, "agent_1": 7, "agent_2": 9})
    with pytest.raises(ValueError, match="at step 7 of an episode agent_1 ended while agent_0, ag"):
        train(env, dict.fromkeys(env.possible_agents, ppo))
    assert learner_threads() == []


def test_agents_that_do_not_begin_together():
    class Late(Matching):
        def reset(self, seed=None, options=None):
            result = super().reset(seed, options)
            self.agents = ["agent_0"]
            return result

    with pytest.raises(ValueError, match="agent_1 did not begin"):
        train(Late(), dict.fromkeys(BOTH, ppo))
    assert learner_threads() == []


def test_evaluating_on_the_view_that_is_in_training():
    env = Matching()
    models = {agent: ppo(view) for agent, view in agent_views(env).items()}
    evaluation = EvalCallback(models["agent_1"].get_env(), eval_freq=4, verbose=0)
    with pytest.raises(RuntimeError, match="agent_1 asked for a new episode in the middle of one"):
        train(env, models, callbacks={"agent_1": evaluation})
    assert learner_threads() == []


def test_taking_turns_in_a_game_that_ignores_its_seed():
    class Moody(Matching):
        def reset(self, seed=None, options=None):
            return super().reset(None, options)

    with pytest.raises(ValueError, match=r"reset\(seed\) always begins the same episode"):
        train(Moody(), dict.fromkeys(BOTH, ppo), mode="alternating", turn_timesteps=16)
    assert learner_threads() == []


def stacked(view):
    return ppo(VecFrameStack(DummyVecEnv([lambda: view]), 2))


def two_games(view):
    return ppo(DummyVecEnv([lambda: view, lambda: agent_views(Matching())["agent_0"]]))


CARTPOLE = gymnasium.make("CartPole-v1")


@pytest.mark.parametrize(
    ("factories", "options", "message"),
    [
        ({"agent_0": ppo}, {}, r"models lacks \['agent_1'\]"),
        ({**dict.fromkeys(BOTH, ppo), "agent_7": ppo}, {}, r"unknown \['agent_7'\]"),
        ({"agent_0": ppo, "agent_1": 3}, {}, "agent_1: expected a stable-baselines3 model"),
        ({"agent_0": ppo, "agent_1": lambda view: 3}, {}, "agent_1: the factory must return"),
        ({"agent_0": ppo, "agent_1": stacked}, {}, "agent_1: the wrapper VecFrameStack is between"),
        ({"agent_0": two_games, "agent_1": ppo}, {}, "agent_0: the model has 2 environments"),
        ({"agent_0": ppo, "agent_1": lambda view: ppo(CARTPOLE)}, {}, "agent_1: the model is bui"),
        (dict.fromkeys(BOTH, ppo), {"callbacks": {"agent_2": None}}, "callbacks has the unknown"),
        (dict.fromkeys(BOTH, ppo), {"rng": 0}, "rng must be a generator"),
        (dict.fromkeys(BOTH, ppo), {"steps": 0}, "total_timesteps must be a whole number >= 1"),
        (dict.fromkeys(BOTH, ppo), {"mode": "turns"}, "mode must be one of"),
        (dict.fromkeys(BOTH, ppo), {"mode": "alternating"}, "turn_timesteps must be a whole"),
        (dict.fromkeys(BOTH, ppo), {"turn_timesteps": 5}, "allowed in the mode 'alternating' only"),
        (dict.fromkeys(BOTH, ppo), {"timeout": 0}, "timeout must be None or"),
        (dict.fromkeys(BOTH, ppo), {"verbose": 1}, "unknown option 'verbose'"),
    ],
)
def test_bad_input_is_rejected_before_anything_runs(factories, options, message):
    env = Matching()
    with pytest.raises(ValueError, match=message):
        train(env, factories, **options)
    assert env.calls == []
    assert learner_threads() == []
    train(env, dict.fromkeys(BOTH, ppo), steps=1)  # nothing was left behind


def test_a_model_on_the_view_of_another_agent_or_game():
    env = Matching()
    views = agent_views(env)
    crossed = {"agent_0": ppo(views["agent_1"]), "agent_1": ppo(views["agent_0"])}
    with pytest.raises(ValueError, match="agent_0: the model is built on <AgentView of agent_1"):
        train(env, crossed)
    elsewhere = {agent: ppo(view) for agent, view in agent_views(Matching()).items()}
    with pytest.raises(ValueError, match=r"build it on agent_views\(env\)"):
        train(env, elsewhere)


@pytest.mark.parametrize("name", FACTORIES)
def test_continuous_actions(name):
    env = simple_spread_v3.parallel_env(continuous_actions=True)
    factories = dict.fromkeys(env.possible_agents, ppo) | {"agent_1": FACTORIES[name]}
    training = partial(
        IndependentTraining, env, factories, total_timesteps=1, rng=np.random.default_rng(0)
    )
    if name != "dqn":
        training().close()
        return
    with pytest.raises(ValueError, match=r"agent_1, with actions Box.*only supports.*Discrete"):
        training()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"space": spaces.Text(3)}, "the observation space of agent_0 is Text"),
        ({"space": spaces.Dict({"a": spaces.Dict({})})}, r"space\['a'\] of agent_0 is Dict"),
        ({"space": spaces.Discrete(3, start=1)}, "observation space of agent_0 is Discrete"),
        ({"action_space": spaces.Discrete(3, start=1)}, "action space of agent_0 is Discrete"),
        ({"action_space": spaces.Box(-np.inf, np.inf)}, "action space of agent_0 is Box"),
        ({"action_space": spaces.MultiDiscrete([[2, 2]])}, "action space of agent_0 is Multi"),
    ],
)
def test_spaces_that_stable_baselines3_does_not_know(options, message):
    env = Matching(**options)
    with pytest.raises(ValueError, match=message):
        train(env, dict.fromkeys(BOTH, ppo))
    assert env.calls == []


def test_an_environment_that_is_not_parallel():
    with pytest.raises(ValueError, match="aec_to_parallel"):
        agent_views(simple_spread_v3.env())
    with pytest.raises(ValueError, match="must be a PettingZoo parallel environment"):
        agent_views(CARTPOLE)


def test_a_view_can_be_stepped_in_training_alone():
    env = Matching()
    views = agent_views(env)
    with pytest.raises(RuntimeError, match="the view of agent_0 can be used only while"):
        views["agent_0"].reset()
    models = {agent: ppo(view) for agent, view in views.items()}
    rng = np.random.default_rng(0)
    with IndependentTraining(env, models, total_timesteps=9, rng=rng) as training:
        training.advance(3)
        with pytest.raises(RuntimeError, match="only its learner may use it"):
            views["agent_0"].step(0)
        with pytest.raises(ValueError, match="agent_0: its view is in use by another training"):
            train(env, models)
        before = weights(models["agent_0"])
    assert learner_threads() == []
    assert weights(models["agent_0"]) == before
    with pytest.raises(RuntimeError, match="closed"):
        training.advance(1)


def test_partners_that_do_not_fit():
    models = dict.fromkeys(BOTH, None)
    with pytest.raises(ValueError, match="unknown agent 'agent_5'"):
        partner_view(Matching(), "agent_5", models)
    with pytest.raises(ValueError, match=r"partners lacks \['agent_1'\]"):
        partner_view(Matching(), "agent_0", {})


def test_a_loaded_model_of_other_spaces(tmp_path):
    other = Matching(space=spaces.Box(0.0, 1.0, (4,), np.float32))
    dqn(agent_views(other)["agent_0"]).save(tmp_path / "model")
    env = Matching()
    models = {"agent_0": ppo, "agent_1": DQN.load(tmp_path / "model")}
    with pytest.raises(ValueError, match="agent_1: the spaces of the model do not fit"):
        train(env, models)
    assert env.calls == []
