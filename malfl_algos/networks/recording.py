"""Steps that are repeated: on a GPU they are recorded once as a CUDA graph and replayed.

A replay costs one launch, whatever the number of kernels in a step.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import cache
from typing import Any

import torch

__all__ = ["Recorded"]

WARM = 3
"""Calls before the recording, which let libraries choose their kernels."""


class Recorded:
    """A step that is called again and again.

    Args:
        step: changes tensors in place. It copies nothing to the host, and what it reads and writes
            stays where it is. On a GPU the numbers it computes with are those in memory when it is
            called, and Python runs a few times only.
        device: of its tensors.
    """

    def __init__(self, step: Callable[[], None], device: torch.device) -> None:
        self._step, self._device = step, device
        self._calls = 0
        self._graph: Any = None

    def __call__(self) -> None:
        """Make the step."""
        if self._device.type != "cuda":
            self._step()
            return
        with torch.cuda.device(self._device):
            if self._graph is None and self._calls < WARM:
                self._beside()
                return
            if self._graph is None:
                self._graph = torch.cuda.CUDAGraph()
                with torch.cuda.graph(self._graph, stream=_stream(self._device)):
                    self._step()
            self._graph.replay()

    def _beside(self) -> None:
        """Make the step in the stream of the recording."""
        self._calls += 1
        present, stream = torch.cuda.current_stream(), _stream(self._device)
        stream.wait_stream(present)
        with torch.cuda.stream(stream), warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*capturable")  # the recording follows
            self._step()
        present.wait_stream(stream)


@cache
def _stream(device: torch.device) -> Any:
    """Return the stream of all recordings on a device; gradients expect the same one."""
    return torch.cuda.Stream(device)
