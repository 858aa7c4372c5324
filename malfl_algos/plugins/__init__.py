"""Learners and observers found through entry points, and loaded by name."""

from malfl_algos.plugins.loading import PluginError, list_plugins, load_learner, load_observer

__all__ = ["PluginError", "list_plugins", "load_learner", "load_observer"]
