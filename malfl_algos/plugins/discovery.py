"""The plugins of installed distributions, read from their metadata. No plugin is imported.

Distributions are read one by one, so a malformed file hides only the plugins of its distribution.
The metadata also show which distribution to install for a missing plugin or module.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import (
    Distribution,
    PackageNotFoundError,
    distribution,
    distributions,
    requires,
)
from typing import Literal

__all__ = [
    "GROUPS",
    "Kind",
    "Plugin",
    "Unreadable",
    "brought_by_extra",
    "canonical_name",
    "clashes",
    "discover",
    "install_plugin",
    "missing_module",
]

Kind = Literal["learner", "observer"]

GROUPS: dict[Kind, str] = {"learner": "malfl.learners", "observer": "malfl.observers"}
"""Entry-point groups."""

_VALUE = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_][\w.]*")
_NAME = re.compile(r"[^\s:]+")
_FILE = "entry_points.txt"

_OWN = "malfl-env"
_NOT_ON_BOARD = {"sb3-": "malfl-sb3", "example-": "malfl-example"}
"""Our own further distributions, in the folder `plugins/`, by the first part of their names."""

_REQUIREMENT = re.compile(r"\s*([A-Za-z0-9][\w.-]*)")
_EXTRA = re.compile(r"\bextra\s*==\s*[\"']([^\"']+)")


@dataclass(frozen=True)
class Plugin:
    """The entry point of a plugin.

    Args:
        kind: "learner" or "observer".
        name: the name of the entry point.
        value: `module:Class`.
        distribution: name of the distribution that contains it.
        version: of that distribution.
    """

    kind: Kind
    name: str
    value: str
    distribution: str
    version: str

    def __str__(self) -> str:
        return f"{self.kind} {self.name!r} of distribution {self.distribution!r} {self.version}"

    @property
    def full_name(self) -> str:
        """`distribution:name`, which is unique among distributions."""
        return f"{self.distribution}:{self.name}"

    @property
    def identity(self) -> dict[str, str]:
        """Name, distribution and version, for records."""
        return {
            "name": self.name,
            "distribution": self.distribution,
            "version": self.version,
        }

    @property
    def is_own(self) -> bool:
        """Whether it belongs to malfl-env itself, whose names no other distribution can take."""
        return canonical_name(self.distribution) == _OWN

    @property
    def malformed(self) -> str | None:
        """The error in the text of the entry; None if there is none."""
        if not _NAME.fullmatch(self.name):
            return f"malformed name {self.name!r}, expected one without spaces and colons"
        if not _VALUE.fullmatch(self.value):
            return f"malformed entry {self.value!r}, expected 'module:Class'"
        return None


@dataclass(frozen=True)
class Unreadable:
    """A distribution whose list of plugins cannot be read.

    Args:
        distribution: its name.
        version: its version.
        reason: why the list cannot be read.
    """

    distribution: str
    version: str
    reason: str

    def __str__(self) -> str:
        return f"distribution {self.distribution!r} {self.version}: {_FILE}: {self.reason}"


def discover() -> tuple[list[Plugin], list[Unreadable]]:
    """All installed plugins, sorted by kind, name and distribution, and the unreadable ones.

    If a distribution is on the path twice (installed, and as metadata in its checkout), the first
    one counts, as it does for an import.
    """
    plugins: list[Plugin] = []
    unreadable: list[Unreadable] = []
    known: set[str] = set()
    for found in distributions():
        try:
            text = found.read_text(_FILE)
        except (OSError, ValueError) as fault:
            unreadable.append(Unreadable(*_identity(found), str(fault)))
            continue
        if text is None or not any(group in text for group in GROUPS.values()):
            continue
        name, version = _identity(found)
        if canonical_name(name) in known:
            continue
        known.add(canonical_name(name))
        try:
            entries = _entries(found, text)
        except Exception as fault:
            unreadable.append(Unreadable(name, version, " ".join(str(fault).split())))
            continue
        plugins += dict.fromkeys(
            Plugin(kind, entry, value, name, version) for kind, entry, value in entries
        )
    plugins.sort(key=lambda plugin: (plugin.kind, plugin.name, plugin.distribution))
    return plugins, unreadable


def clashes(plugin: Plugin, installed: list[Plugin]) -> list[Plugin]:
    """The other plugins of the same kind and name that keep it from being found by this name.

    Those of other distributions do not keep malfl-env's own plugins from being found.
    """
    return [
        other
        for other in installed
        if (other.kind, other.name) == (plugin.kind, plugin.name)
        and other != plugin
        and (other.is_own or not plugin.is_own)
    ]


def canonical_name(name: str) -> str:
    """A distribution's name in the one form in which names are compared (PEP 503)."""
    return re.sub(r"[-_.]+", "-", name).lower()


def _entries(distribution: Distribution, text: str) -> list[tuple[Kind, str, str]]:
    """Kind, name and value of each plugin of a distribution."""
    try:
        return [
            (kind, entry.name, entry.value)
            for entry in distribution.entry_points
            for kind, group in GROUPS.items()
            if entry.group == group
        ]
    except Exception:
        # `entry_points` fails for a whole file with one bad line; here that line has no value
        found = list(_entries_by_line(text))
        if not found:
            raise
        return found


def _entries_by_line(text: str) -> Iterator[tuple[Kind, str, str]]:
    kinds = {f"[{group}]": kind for kind, group in GROUPS.items()}
    kind = None
    for line in map(str.strip, text.splitlines()):
        if line.startswith("["):
            kind = kinds.get(line)
        elif kind is not None and line and not line.startswith(("#", ";")):
            name, _, value = line.partition("=")
            yield kind, name.strip(), value.strip()


def _identity(distribution: Distribution) -> tuple[str, str]:
    """Name and version from the metadata, or "unknown"."""
    try:
        metadata = distribution.metadata
        return metadata["Name"] or "unknown", metadata["Version"] or "unknown"
    except Exception:
        return "unknown", "unknown"


def install_plugin(name: str) -> str | None:
    """How to install our distribution that contains a plugin of this name.

    None if no such distribution is known, or if it is installed and the name is wrong.
    """
    for beginning, wanted in _NOT_ON_BOARD.items():
        if name.startswith(beginning) and not _installed(wanted):
            command = f"pip install ./plugins/{wanted}"
            return f"it is part of {wanted}: {command} (in a checkout of malfl-env)"
    return None


def missing_module(plugin: Plugin, module: str | None) -> str:
    """How to install a module that a plugin could not import.

    Args:
        plugin: the plugin.
        module: dotted name of the missing module.
    """
    top = (module or "").partition(".")[0]
    if top == re.split(r"[.:]", plugin.value)[0]:
        return f"its own module is missing: install {plugin.distribution!r} again"
    wanted = _requirement(plugin.distribution, top)
    if wanted is None:
        return f"no requirement of {plugin.distribution!r} provides the module {module!r}"
    requirement, extra = wanted
    command = f"{plugin.distribution}[{extra}]" if extra else requirement
    return (
        f"the module {module!r} is missing, {plugin.distribution!r} requires {requirement}: "
        f'pip install "{command}"'
    )


def brought_by_extra(plugin: Plugin, module: str | None) -> bool:
    """Whether the missing module belongs to an extra that is not installed."""
    top = (module or "").partition(".")[0]
    wanted = _requirement(plugin.distribution, top)
    named = wanted is not None and canonical_name(_name(wanted[0])) == canonical_name(top)
    return named and wanted is not None and wanted[1] is not None


def _name(requirement: str) -> str:
    found = _REQUIREMENT.match(requirement)
    return found[1] if found else ""


def _requirement(of: str, module: str) -> tuple[str, str | None] | None:
    """The missing requirement that provides a module, and the extra that needs it.

    It is the one of the module's name, else the first one that is not installed, because a
    distribution need not have the name of its module. Of several extras, one that is named
    like the module comes first.
    """
    try:
        stated = requires(of) or []
    except PackageNotFoundError:
        stated = []
    unmet = []
    for line in stated:
        requirement, _, marker = line.partition(";")
        name = _REQUIREMENT.match(requirement)
        if name is None or _installed(name[1]):
            continue
        extra = _EXTRA.search(marker)
        unmet.append((name[1], requirement.strip(), extra[1] if extra else None))
    named = [one for one in unmet if canonical_name(one[0]) == canonical_name(module)]
    named.sort(key=lambda one: canonical_name(one[2] or module) != canonical_name(module))
    for _, requirement, extra_name in [*named, *unmet]:
        return requirement, extra_name
    return None


def _installed(name: str) -> bool:
    try:
        distribution(name)
    except PackageNotFoundError:
        return False
    return True
