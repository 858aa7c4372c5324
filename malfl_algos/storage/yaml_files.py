"""YAML, read strictly: plain values, no key twice, nothing that grows when it is read."""

from __future__ import annotations

from collections.abc import Hashable
from pathlib import Path
from typing import Any

import yaml

from malfl_env.errors import InputError

__all__ = ["parse_yaml", "read_mapping", "yaml_text"]


MAX_BYTES = 16 * 2**20
"""Of a YAML file."""
_MAX_REPEATED = 100_000  # values that aliases may stand for, all together
_MAX_DEPTH = 50


class _StrictLoader(yaml.SafeLoader):
    """Plain values only, and no key twice in one mapping."""

    def get_single_node(self) -> yaml.Node | None:
        node: yaml.Node | None = super().get_single_node()
        if node is not None:
            _check_growth(node)
        return node

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


def _check_growth(root: yaml.Node) -> None:
    """Refuse aliases that multiply, and what is nested deeply or within itself."""
    sizes: dict[int, int] = {}
    open_nodes: set[int] = set()

    def size(node: yaml.Node, depth: int) -> int:
        if id(node) in open_nodes:
            raise yaml.YAMLError(f"an alias stands within what it names{_place(node)}")
        if depth > _MAX_DEPTH:
            raise yaml.YAMLError(f"nested too deeply{_place(node)}")
        if id(node) not in sizes:
            open_nodes.add(id(node))
            sizes[id(node)] = 1 + sum(size(child, depth + 1) for child in _children(node))
            open_nodes.remove(id(node))
        return sizes[id(node)]

    repeated = size(root, 1) - len(sizes)
    if repeated > _MAX_REPEATED:
        raise yaml.YAMLError(
            f"its aliases stand for {float(repeated):.3g} values, at most {_MAX_REPEATED} are taken"
        )


def _children(node: yaml.Node) -> list[yaml.Node]:
    if isinstance(node, yaml.MappingNode):
        return [child for pair in node.value for child in pair]
    return list(node.value) if isinstance(node, yaml.SequenceNode) else []


def parse_yaml(text: str) -> Any:
    """The value of a YAML text.

    Raises:
        InputError: where it is not YAML, has a key twice, is nested more than 50 deep, has aliases
            that multiply, or asks for anything but plain values.
    """
    try:
        return yaml.load(text, Loader=_StrictLoader)  # a SafeLoader: plain values only
    except RecursionError:
        raise InputError("nested too deeply") from None
    # beside YAMLError, PyYAML lets out whatever a value of the wrong form raises in it
    except Exception as fault:
        words = str(fault) if isinstance(fault, (yaml.YAMLError, ValueError)) else repr(fault)
        raise InputError(" ".join(words.split())[:500]) from fault


def read_mapping(path: Path) -> dict[str, Any]:
    """The mapping in a YAML file.

    Raises:
        InputError: where the file cannot be read, is not YAML, empty, or not a mapping; it names
            the file.
    """
    try:
        with path.open("rb") as stream:
            content = stream.read(MAX_BYTES + 1)
        if len(content) > MAX_BYTES:
            raise InputError(f"more than {MAX_BYTES} bytes")
        value = parse_yaml(content.decode("utf-8"))
    except OSError as fault:
        raise InputError(f"{path}: cannot be read: {fault.strerror}") from fault
    except ValueError as fault:
        raise InputError(f"{path}: not valid YAML: {fault}") from fault
    if value is None:
        raise InputError(f"{path}: the file is empty, expected a mapping of keys to values")
    if not isinstance(value, dict):
        raise InputError(
            f"{path}: expected a mapping of keys to values, got {type(value).__name__}"
        )
    return value


def yaml_text(value: Any) -> str:
    """Plain values as YAML, mappings in their order."""
    return yaml.safe_dump(value, sort_keys=False)
