"""What the parts of a fit by networks share: its settings, the counts, the policies."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from malfl_algos.networks.action_values import RewardModel
from malfl_algos.networks.checkpoints import Checkpoints
from malfl_algos.networks.dynamics import Chances
from malfl_algos.networks.estimated_policies import EstimatedPolicies, estimate_policies
from malfl_algos.networks.gathering import Gathered, IntArray
from malfl_algos.networks.logging import Log
from malfl_algos.networks.training import TrainingSettings

__all__ = ["Counts", "Fitting", "chances_of", "counts_of", "policies_of"]

FloatArray = NDArray[np.float64]

HELD_OUT = 0.1
"""Share of every stage's episodes by which training stops."""


@dataclass(frozen=True, eq=False)
class Fitting:
    """How a fit is made; see `MaLflNetwork` for the options."""

    form: Literal["bellman", "potentials"]
    reward_model: RewardModel
    trunk: Literal["random", "policies", "potentials"]
    learner: Literal["auto", "exact", "td"]
    improvement: Literal["soft", "proximal"]
    prior_variance: float | None
    step_size: float
    dynamics: Literal["auto", "joint", "own"]
    widths: tuple[int, ...]
    hidden: tuple[int, ...]
    ensemble: int
    bootstrap: bool
    entropy_coefficient: float
    training: TrainingSettings
    max_rows: int
    seed: int
    discount: float
    temperature: float
    device: torch.device
    checkpoints: Checkpoints
    log: Log | None = None
    policies: dict[tuple[int, int], EstimatedPolicies] = field(default_factory=dict)

    def sequence(self, *key: int) -> np.random.SeedSequence:
        """A source of randomness of its own for a part of the fit."""
        return np.random.SeedSequence(self.seed, spawn_key=key)

    def generator(self, *key: int) -> torch.Generator:
        """Likewise for torch."""
        return torch.Generator().manual_seed(int(self.sequence(*key).generate_state(1)[0]))

    def logging(self, name: str) -> Callable[[int, float, float], None] | None:
        """A log of training and held-out loss."""
        log = self.log
        if log is None:
            return None

        def note(step: int, training: float, held_out: float) -> None:
            log(f"{name}/training", step, training)
            log(f"{name}/held_out", step, held_out)

        return note


@dataclass(frozen=True, eq=False)
class Counts:
    """Per stage, counts of the distinct steps: all of them, and in two parts."""

    everything: list[FloatArray]
    training: list[FloatArray]
    held_out: list[FloatArray]


def counts_of(gathered: Gathered, fitting: Fitting, number: int) -> Counts:
    """The counts that a member of that number is fitted to."""
    apart = np.random.default_rng(fitting.sequence(gathered.view, 0))
    drawn = np.random.default_rng(fitting.sequence(gathered.view, 1, number))
    found = Counts([], [], [])
    for steps in gathered.stages:
        kept = np.ones(steps.n_blocks)
        kept[apart.permutation(steps.n_blocks)[: max(1, round(HELD_OUT * steps.n_blocks))]] = 0.0
        weights = np.ones(steps.n_blocks)
        if fitting.bootstrap:
            share = np.full(steps.n_blocks, 1 / steps.n_blocks)
            weights = drawn.multinomial(steps.n_blocks, share).astype(np.float64)
        parts = [steps.counts(w) for w in (weights, weights * kept, weights * (1 - kept))]
        # of a stage with a single block, or none drawn, all of it serves both ends
        parts = [part if part.any() else parts[0] for part in parts]
        for kind, part in zip(
            (found.everything, found.training, found.held_out), parts, strict=True
        ):
            kind.append(part)
    return found


def policies_of(
    gathered: Gathered, fitting: Fitting, data: Counts, number: int
) -> EstimatedPolicies:
    """The policies that a member takes, trained at most once."""
    key = gathered.view, number if fitting.bootstrap else 0
    if key not in fitting.policies:
        name = f"policies_{key[0]}_{key[1]}"
        fitting.policies[key] = estimate_policies(
            gathered,
            data.training,
            data.held_out,
            hidden=fitting.hidden,
            entropy_coefficient=fitting.entropy_coefficient,
            settings=fitting.training,
            generator=fitting.generator(*key, 2),
            device=fitting.device,
            saver=fitting.checkpoints.named(name),
            log=fitting.logging(name),
        )
    return fitting.policies[key]


def chances_of(
    gathered: Gathered, policies: EstimatedPolicies, known: Mapping[int, FloatArray]
) -> Chances:
    """Everyone's policies, as estimated, or by agent index as known for certain."""

    def chances(rows: IntArray, stage: int) -> list[FloatArray]:
        found = [np.exp(own) for own in policies.log_policies(gathered.inputs[rows], stage)]
        return [
            known[agent][stage, rows] if agent in known else own for agent, own in enumerate(found)
        ]

    return chances
