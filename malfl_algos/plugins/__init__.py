"""Learners and observers found through entry points, and loaded by name.

Public: the names in `__all__`. The modules below this package are private.
"""

from malfl_algos.plugins.loading import PluginError, list_plugins, load_learner, load_observer

__all__ = ["PluginError", "list_plugins", "load_learner", "load_observer"]
