"""All agents trained at once against one agent after the other."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from gymnasium import spaces

from malfl_algos.learners.soft_q import (
    AgentSteps,
    Descent,
    fit_soft_q,
    new_agent,
    project_policy,
)
from malfl_algos.learners.soft_q_together import Task, drawn_batches, improve_together
from malfl_algos.networks.encoding import Encoder

RATES = {"target_rate": 0.05, "discount": 0.9, "temperature": 0.7}
Q, POLICY = Descent(60, 0.01, 32), Descent(40, 0.01, 16)


def agent_and_steps(n_actions, width, rng, generator):
    box = spaces.Box(-9, 9, (width,), np.float32)
    agent = new_agent(Encoder(box), n_actions, hidden=(16, 8), generator=generator)
    for network in (agent.q, agent.policy):
        for tensor in network:
            tensor.data += 0.3 * torch.randn(tensor.shape, generator=generator)
    seen, after = (rng.standard_normal((200, width)).astype(np.float32) for _ in range(2))
    steps = AgentSteps(
        observations=seen,
        actions=rng.integers(n_actions, size=200),
        rewards=rng.standard_normal(200),
        next_observations=after,
        episode_ends=np.zeros(200, dtype=bool),
        terminations=rng.random(200) < 0.1,
    )
    return agent, steps


@pytest.mark.parametrize("shapes", [[(5, 4), (5, 4)], [(5, 4), (3, 6), (5, 4)]])
def test_training_at_once_equals_training_in_turn(shapes):
    rng, generator = np.random.default_rng(0), torch.Generator().manual_seed(1)
    pairs = [agent_and_steps(*shape, rng, generator) for shape in shapes]
    tasks, logged = [], []
    state = generator.get_state()
    for number, (agent, steps) in enumerate(pairs):
        batches = [drawn_batches(200, one, generator) for one in (Q, POLICY)]

        def log(name, update, value, number=number):
            logged.append((number, name, update, value))

        tasks.append(Task(copy.deepcopy(agent), steps, *batches, log))
    improve_together(tasks, Q, POLICY, **RATES)
    generator.set_state(state)
    expected = []
    for number, (agent, steps) in enumerate(pairs):

        def note(name, update, value, number=number):
            expected.append((number, name, update, value))

        before = [tensor.detach().clone() for tensor in agent.q]
        fit_soft_q(agent, steps, Q, **RATES, generator=generator, log=note)
        project_policy(agent, steps.observations, POLICY, generator=generator, log=note)
        together = tasks[number].agent
        assert together.offset == agent.offset
        for mine, own in zip(
            [*together.q, *together.policy], [*agent.q, *agent.policy], strict=True
        ):
            assert mine.shape == own.shape
            assert mine.requires_grad
            torch.testing.assert_close(mine, own, rtol=0, atol=1e-4)
        assert (
            max(float((a - b).detach().abs().max()) for a, b in zip(before, agent.q, strict=True))
            > 0.05
        )
    for mine, own in zip(sorted(logged), sorted(expected), strict=True):
        assert mine[:3] == own[:3]
        assert mine[3] == pytest.approx(own[3], rel=1e-3)


def test_a_loss_that_is_not_finite_is_an_error():
    rng, generator = np.random.default_rng(0), torch.Generator().manual_seed(1)
    agent, steps = agent_and_steps(3, 4, rng, generator)
    steps.rewards[:] = 1e30
    batches = [drawn_batches(200, one, generator) for one in (Q, POLICY)]
    with pytest.raises(RuntimeError, match="lower the learning rate"):
        improve_together([Task(agent, steps, *batches)], Q, POLICY, **RATES)
