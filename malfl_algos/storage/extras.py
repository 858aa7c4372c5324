"""Packages of optional extras, imported where they are needed."""

from __future__ import annotations

from importlib import import_module
from typing import Any

__all__ = ["needed"]


def needed(module: str, use: str, *, extra: str = "data", note: str = "") -> Any:
    """Import a module of an optional extra.

    Args:
        module: its name.
        use: what needs it, the subject of the message.
        extra: the extra that holds it.
        note: what to add to the message.

    Raises:
        ModuleNotFoundError: naming the missing package and the extra to install.
    """
    try:
        return import_module(module)
    except ImportError as fault:
        raise ModuleNotFoundError(
            f'{use} needs {fault.name or module}: pip install "malfl-env[{extra}]"{note}'
        ) from fault
