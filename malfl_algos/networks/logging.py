"""What training says of itself: to TensorBoard where it is asked for, and where it fails."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from math import isfinite
from pathlib import Path
from typing import Any, Protocol

__all__ = ["Log", "check_finite", "tensorboard_log"]


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


def check_finite(loss: float) -> float:
    """The loss, if training can go on.

    Raises:
        RuntimeError: if it is infinite or no number; it says what to change.
    """
    if not isfinite(loss):
        raise RuntimeError(
            f"the loss became {loss}: lower the learning rate, raise the batch size, or look for "
            "rewards or observations of extreme size and scale them down"
        )
    return loss
