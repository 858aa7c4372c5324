"""Experiments: configuration, run folders, and the way from a game to scored rewards.

Nothing here is public: plugins and notebooks use the faces that `malfl_algos` names.
"""
