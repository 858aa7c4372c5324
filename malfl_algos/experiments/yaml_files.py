"""YAML, read strictly: plain values, no key twice."""

from __future__ import annotations

from collections.abc import Hashable
from pathlib import Path
from typing import Any

import yaml

__all__ = ["parse_yaml", "read_mapping", "yaml_text"]


class _StrictLoader(yaml.SafeLoader):
    """Plain values only, and no key twice in one mapping."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen: set[Any] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, Hashable):
                raise yaml.YAMLError(f"a key must be text, got {key!r}{_place(key_node)}")
            if key in seen:
                raise yaml.YAMLError(f"the key {key!r} stands twice{_place(key_node)}")
            seen.add(key)
        return super().construct_mapping(node, deep=deep)


def _place(node: yaml.Node) -> str:
    return f", line {node.start_mark.line + 1}"


def parse_yaml(text: str) -> Any:
    """The value of a YAML text.

    Raises:
        ValueError: where it is not YAML, has a key twice, or asks for anything but plain values.
    """
    try:
        return yaml.load(text, Loader=_StrictLoader)  # a SafeLoader: plain values only
    except yaml.YAMLError as fault:
        raise ValueError(" ".join(str(fault).split())) from fault
    except RecursionError:
        raise ValueError("nested too deeply") from None


def read_mapping(path: Path) -> dict[str, Any]:
    """The mapping in a YAML file.

    Raises:
        ValueError: where the file cannot be read, is not YAML, empty, or not a mapping; it names
            the file.
    """
    try:
        value = parse_yaml(path.read_text(encoding="utf-8"))
    except OSError as fault:
        raise ValueError(f"{path}: cannot be read: {fault.strerror}") from fault
    except ValueError as fault:
        raise ValueError(f"{path}: not valid YAML: {fault}") from fault
    if value is None:
        raise ValueError(f"{path}: the file is empty, expected a mapping of keys to values")
    if not isinstance(value, dict):
        raise ValueError(
            f"{path}: expected a mapping of keys to values, got {type(value).__name__}"
        )
    return value


def yaml_text(value: Any) -> str:
    """Plain values as YAML, mappings in their order."""
    return yaml.safe_dump(value, sort_keys=False)
