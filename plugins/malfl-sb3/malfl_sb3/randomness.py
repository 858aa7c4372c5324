"""Global random generators, one set for every agent, and torch's global settings.

Stable-baselines3 draws from the global generators of torch, NumPy and Python. If several algorithms
take turns in one process, each has its own state of these generators, which is installed while the
algorithm runs. The random numbers of one agent then do not depend on the other agents, and the
caller's generators are restored.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch

__all__ = ["RandomStreams", "torch_settings"]

# NPY002 forbids NumPy's global generator; this module exists to replace its state.


class RandomStreams:
    """States of the global generators by name; at most one is installed at a time.

    Args:
        names: of the streams.
        rng: one seed is drawn from it per stream, in the order of the names.
    """

    def __init__(self, names: Sequence[str], rng: np.random.Generator) -> None:
        self._states = {name: _State(int(rng.integers(2**63))) for name in names}
        self._current: _State | None = None

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """Allow `use` within this context; the caller's states are restored after it."""
        caller = _State.of_process()
        # NumPy's generator keeps a spare normal draw beside its bits, which is restored too
        legacy = np.random.get_state(legacy=False)  # noqa: NPY002
        try:
            yield
        finally:
            if self._current is not None:
                self._current.save()
                self._current = None
            caller.load()
            np.random.set_state(legacy)  # noqa: NPY002

    def use(self, name: str) -> None:
        """Install a stream in place of the present one."""
        chosen = self._states[name]
        if chosen is self._current:
            return
        if self._current is not None:
            self._current.save()
        chosen.load()
        self._current = chosen


class _State:
    """One state of all global generators."""

    def __init__(self, seed: int | None) -> None:
        self.seed = seed
        # NumPy's bit generator itself is exchanged, which is much faster than copying its state
        self.bits: Any = np.random.get_bit_generator()  # type: ignore[attr-defined]
        self.python: Any = random.getstate()
        self.torch = torch.get_rng_state()
        self.cuda: list[torch.Tensor] = []
        if seed is None:
            self.save()
            return
        seeds = np.random.SeedSequence(seed).generate_state(2, dtype=np.uint64).tolist()
        self.bits = np.random.MT19937(seed)  # the type that np.random.seed() uses
        self.python = random.Random(seeds[0]).getstate()
        self.torch = torch.Generator().manual_seed(seeds[1]).get_state()

    @classmethod
    def of_process(cls) -> _State:
        """Return the present state."""
        return cls(None)

    def save(self) -> None:
        self.python = random.getstate()
        self.torch = torch.get_rng_state()
        self.cuda = torch.cuda.get_rng_state_all() if _cuda_in_use() else []

    def load(self) -> None:
        np.random.set_bit_generator(self.bits)  # type: ignore[attr-defined]
        random.setstate(self.python)
        torch.set_rng_state(self.torch)
        if self.cuda:
            torch.cuda.set_rng_state_all(self.cuda)
        elif self.seed is not None and _cuda_in_use():  # the first time since CUDA was initialised
            torch.cuda.manual_seed_all(self.seed)


def _cuda_in_use() -> bool:
    return bool(torch.cuda.is_initialized())  # type: ignore[no-untyped-call]


@contextmanager
def torch_settings(threads: int | None) -> Iterator[None]:
    """Set torch's number of threads, default dtype and default device within this context.

    Stable-baselines3 hands 32-bit observations to networks of torch's default dtype. Within the
    context the defaults are float32 and the CPU; after it they are what they were before.

    Args:
        threads: of torch; None leaves the number unchanged.
    """
    threads_before, dtype_before = torch.get_num_threads(), torch.get_default_dtype()
    if threads is not None:
        torch.set_num_threads(threads)
    torch.set_default_dtype(torch.float32)
    try:
        with torch.device("cpu"):
            yield
    finally:
        torch.set_default_dtype(dtype_before)
        torch.set_num_threads(threads_before)
