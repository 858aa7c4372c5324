"""What is right and wrong with every installed plugin: `malfl plugins doctor`."""

from __future__ import annotations

import re
import traceback
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Literal

from malfl_algos.plugins.checks import PIPELINE_OPTIONS, unfillable_options
from malfl_algos.plugins.discovery import Plugin, clashes
from malfl_algos.plugins.loading import MissingExtra, PluginError, make_plugin, plugin_class
from malfl_algos.plugins.option_help import describe_options
from malfl_algos.plugins.options import option_hints

__all__ = ["Finding", "examine"]

_LABEL = re.compile(r"[a-z0-9-]+")


@dataclass(frozen=True)
class Finding:
    """What was found out about a plugin.

    Args:
        plugin: which.
        state: `ok`; `clash`, it works but its name alone picks nobody; `absent`, an extra brings
            what it needs and is not installed; or `broken`.
        notes: what its author should look at, each in one line.
        traceback: the whole story, causes included, where it is broken.
    """

    plugin: Plugin
    state: Literal["ok", "clash", "absent", "broken"]
    notes: tuple[str, ...] = ()
    traceback: str | None = None


def examine(plugin: Plugin, installed: list[Plugin]) -> Finding:
    """Load a plugin, build it as an experiment would, and look at its options.

    Args:
        plugin: which.
        installed: all of them, to tell clashes.
    """
    try:
        cls = plugin_class(plugin)
        unfillable = unfillable_options(cls)
        if not unfillable:
            known = option_hints(cls)
            make_plugin(plugin, {k: v for k, v in PIPELINE_OPTIONS.items() if k in known})
        notes = _notes(plugin, cls, unfillable)
    except KeyboardInterrupt:
        raise
    except MissingExtra as fault:
        return Finding(plugin, "absent", (str(fault),))
    except (PluginError, ValueError) as fault:
        return Finding(plugin, "broken", (str(fault),), traceback.format_exc())
    except Exception as fault:
        note = f"its options cannot be read: {type(fault).__name__}: {fault}"
        return Finding(plugin, "broken", (note,), traceback.format_exc())
    rivals = clashes(plugin, installed)
    if rivals:
        others = " and ".join(f"{rival.distribution!r} {rival.version}" for rival in rivals)
        notes = (f"the name is used by {others}, too: say {plugin.full_name!r}", *notes)
    return Finding(plugin, "clash" if rivals else "ok", notes)


def _notes(plugin: Plugin, cls: type, unfillable: list[str]) -> tuple[str, ...]:
    notes = [
        f"option {name!r} has no default, and an experiment does not fill it in: "
        f"it has to be given every time (--option {name}=...)"
        for name in unfillable
    ]
    if find_spec("docstring_parser") is None:
        notes.append('documentation not looked at: pip install "malfl-env[algos]"')
    else:
        notes += [
            f"option {option.name!r} has no documentation"
            for option in describe_options(cls)
            if not option.documentation
        ]
    if not _LABEL.fullmatch(plugin.name):
        notes.append(
            f"{plugin.name!r} cannot name a folder of a run: a label has to be given in YAML, "
            "unless the name is of lower-case letters, digits and hyphens"
        )
    return tuple(notes)
