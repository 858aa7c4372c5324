"""Logs of training for TensorBoard."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

__all__ = ["Log", "tensorboard_log"]


class Log(Protocol):
    """Receives numbers."""

    def __call__(self, name: str, step: int, value: float) -> None:
        """Record a value under a name such as `agent_0/entropy`."""
        ...


@contextmanager
def tensorboard_log(folder: str | None, *, run: str) -> Iterator[Log | None]:
    """Open a log that TensorBoard can show; None if no folder is given.

    Args:
        folder: of all runs.
        run: name of this run's folder in it.

    Raises:
        ModuleNotFoundError: if tensorboard is not installed; the message names the command.
    """
    if folder is None:
        yield None
        return
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as fault:
        raise ModuleNotFoundError(
            'log_dir needs tensorboard: pip install "malfl-env[torch]", or leave log_dir out'
        ) from fault
    writer: Any = SummaryWriter(str(Path(folder) / run))

    def log(name: str, step: int, value: float) -> None:
        writer.add_scalar(name, value, step)

    try:
        yield log
    finally:
        writer.close()
