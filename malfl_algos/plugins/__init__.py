"""Learners and observers found through entry points, and loaded by name.

Public: the names in `__all__`; the modules of this package are private. Read `loading` first.
"""

from malfl_algos.plugins.loading import PluginError, list_plugins, load_learner, load_observer

__all__ = ["PluginError", "list_plugins", "load_learner", "load_observer"]
