"""What to install, for plugins that are not there and for modules that they miss."""

from __future__ import annotations

import re
from importlib.metadata import PackageNotFoundError, distribution, requires

from malfl_algos.plugins.discovery import Plugin, canonical_name

__all__ = ["brought_by_extra", "install_plugin", "missing_module"]

_NOT_ON_BOARD = {"sb3-": "malfl-sb3", "example-": "malfl-example"}
"""How names begin that our own further distributions bring; they lie in `plugins/`."""

_REQUIREMENT = re.compile(r"\s*([A-Za-z0-9][\w.-]*)")
_EXTRA = re.compile(r"\bextra\s*==\s*[\"']([^\"']+)")


def install_plugin(name: str) -> str | None:
    """How to install the distribution that brings a plugin of this name, where we know it.

    None also where it is installed, so that the name is simply wrong.
    """
    for beginning, wanted in _NOT_ON_BOARD.items():
        if name.startswith(beginning) and not _installed(wanted):
            return (
                f"{wanted} brings it: pip install ./plugins/{wanted} (in a checkout of malfl-env)"
            )
    return None


def missing_module(plugin: Plugin, module: str | None) -> str:
    """What to do about a module that a plugin could not import.

    Args:
        plugin: whose import failed.
        module: dotted name of what was not found.
    """
    top = (module or "").partition(".")[0]
    if top == re.split(r"[.:]", plugin.value)[0]:
        return f"its own module is not there, install {plugin.distribution!r} again"
    wanted = _requirement(plugin.distribution, top)
    if wanted is None:
        return f"no requirement of {plugin.distribution!r} brings the module {module!r}"
    requirement, extra = wanted
    command = f"{plugin.distribution}[{extra}]" if extra else requirement
    return (
        f"the module {module!r} is missing, {plugin.distribution!r} requires {requirement}: "
        f'pip install "{command}"'
    )


def brought_by_extra(plugin: Plugin, module: str | None) -> bool:
    """Whether a module of this name is missing because an extra was not asked for."""
    top = (module or "").partition(".")[0]
    wanted = _requirement(plugin.distribution, top)
    named = wanted is not None and canonical_name(_name(wanted[0])) == canonical_name(top)
    return named and wanted is not None and wanted[1] is not None


def _name(requirement: str) -> str:
    found = _REQUIREMENT.match(requirement)
    return found[1] if found else ""


def _requirement(of: str, module: str) -> tuple[str, str | None] | None:
    """The unmet requirement that brings a module, and the extra that asks for it.

    By its name, else the first one that is not installed: not every distribution is named like its
    module.
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
    for _, requirement, extra_name in [*named, *unmet]:
        return requirement, extra_name
    return None


def _installed(name: str) -> bool:
    try:
        distribution(name)
    except PackageNotFoundError:
        return False
    return True
