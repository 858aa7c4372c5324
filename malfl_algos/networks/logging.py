"""A log of training for TensorBoard."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

__all__ = ["Log", "tensorboard_log"]


class Log(Protocol):
    """A place for numbers."""

    def __call__(self, name: str, step: int, value: float) -> None:
        """Note a value under a name such as `agent_0/entropy`."""
        ...


@contextmanager
def tensorboard_log(folder: str | None, *, run: str) -> Iterator[Log | None]:
    """A log that TensorBoard can show; None where no folder is given.

    Args:
        folder: of several runs.
        run: name of this one's folder in it.

    Raises:
        ModuleNotFoundError: where tensorboard is not installed; it says how to.
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
