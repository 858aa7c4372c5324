"""The part of the line `networks` on the network observer: an epoch of its reward fit.

PyTorch is imported when the line is asked for.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from benchmark_lines import Contest
from gymnasium.spaces import Box

from malfl_algos.trace import LearningTrace, Stage, Transitions

N_STAGES, N_ACTIONS, WIDTH = 4, 5, 18
HIDDEN = (64, 64)
DISCOUNT = 0.9


def reward_fit(fast: bool) -> Contest:
    """Steps per second of fitting reward and potentials to (11)-(12).

    The data are random real-valued observations, none of them twice: no step can be left out. Ours
    are whole epochs in mini-batches, what they need at the start with them. The other side calls
    the networks for every step by itself, as the earlier reproduction did, with a gradient step
    for every 32.
    """
    n_steps = 500 if fast else 20_000
    epochs = 2 if fast else 20
    ours = _batched(_trace(n_steps), epochs)
    n_loop = 64 if fast else 512
    loop = _loop(n_loop)
    ours()
    loop()
    return Contest(
        "networks, epoch of the reward fit",
        "steps/s",
        ours=ours,
        baseline=loop,
        against="a call of the networks for every step",
        ours_steps=epochs * n_steps * (N_STAGES - 1),
        baseline_steps=n_loop,
        notes={"steps of an epoch": n_steps * (N_STAGES - 1)},
    )


def _trace(n_steps: int) -> LearningTrace:
    rng = np.random.default_rng(0)
    stages = []
    for _ in range(N_STAGES):
        seen = rng.normal(size=(n_steps + 1, WIDTH)).astype(np.float32)
        ends = np.zeros(n_steps, dtype=np.bool_)
        ends[24::25] = ends[-1] = True
        stages.append(
            Transitions(
                states=None,
                joint_actions=rng.integers(N_ACTIONS, size=(n_steps, 1)),
                next_states=None,
                episode_ends=ends,
                complete=True,
                observations={"agent_0": seen[:-1]},
                next_observations={"agent_0": seen[1:]},
            )
        )
    space = Box(-np.inf, np.inf, (WIDTH,), np.float32)
    return LearningTrace(
        tuple(Stage(transitions=own) for own in stages), ("agent_0",), (N_ACTIONS,), (space,)
    )


def _batched(trace: LearningTrace, epochs: int) -> Callable[[], object]:
    import torch

    from malfl_algos.networks.gathering import gather
    from malfl_algos.networks.potentials import fit_potentials
    from malfl_algos.networks.training import TrainingSettings

    view = gather(trace)[0]
    counts = [steps.counts() for steps in view.stages]

    def uniform(rows: Any, stage: int) -> list[Any]:
        return [np.full((len(rows), N_ACTIONS), 1 / N_ACTIONS)]

    def run() -> object:
        return fit_potentials(
            view,
            counts,
            counts,
            uniform,
            model="state",
            hidden=HIDDEN,
            discount=DISCOUNT,
            settings=TrainingSettings(epochs, 4096, 1e-3, steady=True, least_steps=1),
            generator=torch.Generator().manual_seed(0),
            device=torch.device("cpu"),
        )

    return run


def _loop(n_steps: int) -> Callable[[], object]:
    import torch

    from malfl_algos.networks.mlp import apply, init

    generator = torch.Generator().manual_seed(0)
    reward = init(generator, [WIDTH, *HIDDEN, 1])
    potentials = init(generator, [WIDTH, *HIDDEN, N_STAGES - 1])
    optimizer = torch.optim.Adam([*reward, *potentials], lr=1e-3)
    seen = torch.randn((n_steps + 1, WIDTH), generator=generator)

    def run() -> None:
        for begin in range(0, n_steps, 32):
            optimizer.zero_grad()
            losses = []
            for step in range(begin, begin + 32):
                here, after = seen[step][None], seen[step + 1][None]
                g, g_after = apply(potentials, here)[0, 0], apply(potentials, after)[0, 0]
                gap = apply(reward, here)[0, 0] + g - DISCOUNT * g_after
                losses.append(gap**2)
            torch.autograd.backward(torch.stack(losses).mean())
            optimizer.step()

    return run
