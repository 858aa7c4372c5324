"""Faults of seeds and generators."""

from __future__ import annotations

import random
from typing import Any

import numpy as np

from broken_envs.line import LENGTH, Line
from broken_envs.sound import Deterministic, NoisyReward


class NumpyGlobalInReset(Line):
    def start(self) -> Any:
        return np.random.randint(LENGTH, size=2)  # noqa: NPY002


class SeedsTheGlobal(Line):
    def reseed(self, seed: int | None) -> None:
        super().reseed(seed)
        random.seed(seed)


class NumpyGlobalFromStepTwo(Line):
    def noise(self) -> float:
        return np.random.random() if self.clock > 1 else super().noise()  # noqa: NPY002


class PythonGlobalInStep(Line):
    def noise(self) -> float:
        return random.random()


class GlobalInConstructor(Line):
    def __init__(self) -> None:
        super().__init__()
        self.slip = np.random.uniform(0.1, 0.2)  # noqa: NPY002


class UnseededStart(Line):
    def observe(self, agent: str) -> Any:
        observed = super().observe(agent)
        if self.clock == 0:
            observed[:] = np.random.default_rng().random(2)
        return observed


class SeedIgnored(NoisyReward):
    def reseed(self, seed: int | None) -> None:
        self.rng = np.random.default_rng()


class SamplesItsSpace(NoisyReward):
    """Draws from a space, which no seed has reached."""

    def noise(self) -> float:
        return float(self.observation_space("agent_0").sample()[0])


class OneStepSeed(NoisyReward):
    def noise(self) -> float:
        return super().noise() if self.clock <= 1 else np.random.default_rng().random()


class SevenStepSeed(NoisyReward):
    def noise(self) -> float:
        return super().noise() if self.clock <= 7 else np.random.default_rng().random()


class FreshEntropyAtReset(Line):
    def reseed(self, seed: int | None) -> None:
        self.rng = np.random.default_rng(seed)


class RememberedSeed(Line):
    seed: int | None = None

    def reseed(self, seed: int | None) -> None:
        self.seed = self.seed if seed is None else seed
        self.rng = np.random.default_rng(self.seed)


class FixedSeedAtReset(Line):
    def reseed(self, seed: int | None) -> None:
        self.rng = np.random.default_rng(0 if seed is None else seed)


class EverySeedTheSame(Line):
    def reseed(self, seed: int | None) -> None:
        if seed is not None:
            self.rng = np.random.default_rng(0)


class KeepsItsGenerator(Line):
    """Takes a seed once, then never again."""

    seeded = False

    def reseed(self, seed: int | None) -> None:
        if not self.seeded:
            super().reseed(seed)
            self.seeded = seed is not None


class KeepsACounter(Line):
    """A cooldown that runs on through resets."""

    ticks = 0

    def noise(self) -> float:
        self.ticks += 1
        return 0.0 if self.ticks % 7 == 0 else super().noise()


class OneGeneratorForAll(Line):
    """All environments of a process draw from one generator."""

    common = np.random.default_rng(0)

    def reseed(self, seed: int | None) -> None:
        if seed is not None:
            OneGeneratorForAll.common = np.random.default_rng(seed)
        self.rng = OneGeneratorForAll.common


class AlternatingStart(Deterministic):
    """No chance, but every second reset without a seed starts the other way round."""

    episode = 0

    def reseed(self, seed: int | None) -> None:
        self.episode = 0 if seed is not None else self.episode + 1

    def start(self) -> Any:
        return [0, LENGTH - 1] if self.episode % 2 == 0 else [LENGTH - 1, 0]


FAULTS: list[tuple[type[Line], str]] = [
    (NumpyGlobalInReset, "the global generator of numpy moved (reset after reset(seed=0))"),
    (SeedsTheGlobal, "global random state touched: the global generator of random moved (reset"),
    (NumpyGlobalFromStepTwo, "the global generator of numpy moved (step 2 after reset(seed=0))"),
    (PythonGlobalInStep, "the global generator of random moved (step 1 after reset(seed=0))"),
    (GlobalInConstructor, "the global generator of numpy moved (in the factory)"),
    (UnseededStart, "reset observations differ for one seed: observations['agent_0']"),
    (SeedIgnored, "seed ignored: "),
    (SamplesItsSpace, "seed ignored: "),
    (OneStepSeed, "seed holds for 1 step only"),
    (SevenStepSeed, "seed holds for 7 steps only"),
    (FreshEntropyAtReset, "reset() without a seed is not reproducible"),
    (RememberedSeed, "reset() repeats the seeded episode"),
    (FixedSeedAtReset, "reset() returns to a fixed stream"),
    (EverySeedTheSame, "every seed gives the same episode"),
    (AlternatingStart, "every seed gives the same episode"),
    (KeepsItsGenerator, "used environment cannot be re-seeded"),
    (KeepsACounter, "used environment cannot be re-seeded"),
    (OneGeneratorForAll, "environments share state"),
]
