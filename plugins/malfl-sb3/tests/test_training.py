"""Learning side by side: episodes, ends, turns, callbacks and logs."""

import numpy as np
import pytest
import torch
from malfl_sb3 import agent_views, partner_view, train_independent
from mpe2 import simple_spread_v3
from sb3_games import FACTORIES, Call, Matching, a2c, dqn, learner_threads, ppo, weights
from stable_baselines3 import PPO
from stable_baselines3.common.callbacks import BaseCallback, EvalCallback
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator


@pytest.fixture(autouse=True)
def _no_thread_is_left():
    yield
    assert learner_threads() == []


def train(env, models, *, steps=32, seed=0, **options):
    return train_independent(
        env, models, total_timesteps=steps, rng=np.random.default_rng(seed), **options
    )


def test_everyone_learns_what_it_is_paid_for():
    env = Matching(n_agents=3, lengths=25)
    options = {"learning_rate": 3e-3, "gamma": 0.0}
    models = train(
        env,
        {
            "agent_0": lambda view: ppo(view, n_steps=64, **options),
            "agent_1": lambda view: a2c(view, **options),
            "agent_2": lambda view: dqn(view, exploration_fraction=0.3, **options),
        },
        steps=1024,
    )
    for agent, model in models.items():
        mean, _ = evaluate_policy(model, Monitor(partner_view(Matching(n_agents=3), agent, models)))
        assert mean > 4  # of 5; acting at random gives 5 / 3


def test_runs_on_simple_spread_with_an_algorithm_for_each():
    env = simple_spread_v3.parallel_env(max_cycles=10)
    models = train(env, dict(zip(env.possible_agents, FACTORIES.values(), strict=True)), steps=40)
    assert [type(model).__name__ for model in models.values()] == ["PPO", "A2C", "DQN"]
    # whole rollouts of 16 and of 8; single steps
    assert [model.num_timesteps for model in models.values()] == [48, 40, 40]


def test_runs_on_simple_spread_with_continuous_actions():
    env = simple_spread_v3.parallel_env(max_cycles=10, continuous_actions=True)
    models = train(env, dict.fromkeys(env.possible_agents, ppo), steps=16, seed=1)
    assert all(model.num_timesteps == 16 for model in models.values())


@pytest.mark.parametrize("terminates", [False, True])
def test_a_time_limit_is_bootstrapped_and_a_termination_is_not(terminates):
    env = Matching(lengths=4, terminates=terminates, random=False)
    seen = {}

    class Check(BaseCallback):
        def _on_step(self):
            if self.locals["dones"][0]:
                info = self.locals["infos"][0]
                assert info["TimeLimit.truncated"] is not terminates
                self.last = info["terminal_observation"]
                self.paid = float(self.locals["rewards"][0])
            return True

        def _on_rollout_end(self):
            observation = self.model.policy.obs_to_tensor(self.last)[0]
            with torch.no_grad():
                value = float(self.model.policy.predict_values(observation))
            buffer = self.model.rollout_buffer
            seen[self.model] = (float(buffer.rewards[3, 0]), self.paid, value)
            # the step after the end begins an episode
            assert buffer.episode_starts[:, 0].tolist() == [1, 0, 0, 0, 1]

    agents = env.possible_agents
    train(
        env,
        dict.fromkeys(agents, lambda view: ppo(view, n_steps=5, batch_size=5, gamma=0.5)),
        steps=5,
        callbacks={agent: Check() for agent in agents},
    )
    assert len(seen) == 2
    for stored, paid, value in seen.values():
        assert abs(value) > 1e-3
        assert stored == pytest.approx(paid + (0 if terminates else 0.5 * value), abs=1e-6)


@pytest.mark.parametrize("terminates", [False, True])
def test_dqn_sees_time_limits_too(terminates):
    env = Matching(lengths=4, terminates=terminates)
    models = train(env, dict.fromkeys(env.possible_agents, dqn), steps=8)
    for model in models.values():
        buffer = model.replay_buffer
        assert buffer.dones[:8, 0].tolist() == [0, 0, 0, 1] * 2
        assert buffer.timeouts[:8, 0].tolist() == [0, 0, 0, not terminates] * 2


def test_an_agent_stopped_by_its_callback_acts_by_its_last_policy():
    env = Matching()
    last = {}

    def stop(model):
        last["weights"] = weights(model)
        return model.num_timesteps < 20

    models = train(
        env, dict.fromkeys(env.possible_agents, ppo), steps=64, callbacks={"agent_0": Call(stop)}
    )
    assert [model.num_timesteps for model in models.values()] == [20, 64]
    assert weights(models["agent_0"]) == last["weights"]
    assert env.calls.count("step") == 64


def test_eval_callback_on_a_view_whose_partners_learn_on(tmp_path):
    env = Matching()
    models = {agent: ppo(view) for agent, view in agent_views(env).items()}
    evaluated = EvalCallback(
        Monitor(partner_view(Matching(), "agent_0", models)),
        eval_freq=10,
        n_eval_episodes=2,
        log_path=str(tmp_path),
        verbose=0,
    )
    train(env, models, steps=32, callbacks={"agent_0": evaluated})
    assert np.load(tmp_path / "evaluations.npz")["timesteps"].tolist() == [10, 20, 30]


def test_tensorboard_has_a_run_of_each_agent(tmp_path):
    env = Matching()
    models = {
        agent: ppo(view, tensorboard_log=str(tmp_path)) for agent, view in agent_views(env).items()
    }
    train(env, models, steps=32)
    train(env, models, steps=16, reset_num_timesteps=False)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["agent_0_1", "agent_1_1"]
    for run in tmp_path.iterdir():
        events = EventAccumulator(str(run))
        events.Reload()
        rewards = events.Scalars("rollout/ep_rew_mean")
        assert [event.step for event in rewards] == [16, 32, 48]
        assert all(0 <= event.value <= 5 for event in rewards)


def test_learning_can_be_continued_and_saved_models_can_be_taken_up(tmp_path):
    env = Matching()
    models = {agent: ppo(view) for agent, view in agent_views(env).items()}
    train(env, models, steps=16)
    models["agent_1"].save(tmp_path / "model")
    models["agent_1"] = PPO.load(tmp_path / "model")
    before = {agent: weights(model) for agent, model in models.items()}
    train(env, models, steps=16, reset_num_timesteps=False)
    assert [model.num_timesteps for model in models.values()] == [32, 32]
    assert all(weights(model) != before[agent] for agent, model in models.items())


def test_normalised_observations_reach_a_policy_that_acts_on():
    env = Matching()
    seen = []
    models = {
        agent: ppo(VecNormalize(DummyVecEnv([lambda view=view: Monitor(view)])))
        for agent, view in agent_views(env).items()
    }
    own = models["agent_0"]
    plain = own.predict

    def watched(observation, *arguments, **options):
        seen.append(observation)
        return plain(observation, *arguments, **options)

    own.predict = watched
    train(env, models, steps=32, callbacks={"agent_0": Call(lambda model: False)})
    assert len(seen) == 31
    assert any(observation.min() < 0 for observation in seen)  # the game's own are never


@pytest.mark.parametrize("name", FACTORIES)
def test_taking_turns_freezes_the_others(name):
    env = Matching(lengths=9)
    views = agent_views(env)
    models = {agent: FACTORIES[name](view) for agent, view in views.items()}
    order, infos = [], []

    def note(agent):
        def noted(model):
            other = models["agent_1" if agent == "agent_0" else "agent_0"]
            order.append((agent, weights(other)))

        return Call(noted)

    class Ends(BaseCallback):
        def _on_step(self):
            infos.append((self.num_timesteps, self.locals["infos"][0]["TimeLimit.truncated"]))
            return True

    train(
        env,
        models,
        steps=48,
        mode="alternating",
        turn_timesteps=16,
        callbacks={"agent_0": [note("agent_0"), Ends()], "agent_1": note("agent_1")},
    )
    turns = [order[start : start + 16] for start in range(0, len(order), 16)]
    assert [turn[0][0] for turn in turns] == ["agent_0", "agent_1"] * 3
    for turn in turns:
        assert len(set(turn)) == 1  # one agent, whose partner keeps its weights
    for agent in models:
        partners = [turn[0][1] for turn in turns if turn[0][0] == agent]
        assert len(set(partners)) > 1  # and learns in its own turns
    assert env.calls.count("step") == 96
    # an end of its own after 9 steps, and the end of each turn of 16
    assert [step for step, cut in infos if cut] == [9, 16, 25, 32, 41, 48]


def test_all_due_updates_are_made_before_the_next_turn():
    env = Matching()
    updates = []
    models = {agent: ppo(view) for agent, view in agent_views(env).items()}
    train(
        env,
        models,
        steps=32,
        mode="alternating",
        turn_timesteps=16,
        callbacks={"agent_1": Call(lambda model: updates.append(models["agent_0"]._n_updates))},
    )
    assert updates == [2] * 16 + [4] * 16  # two epochs after every rollout of 16 steps
