"""Experiments: configuration, run folders, and the way from a game to scored rewards.

Read `cell` first: one learner and its observers. `engine` runs many cells on a pool and keeps them
in folders; `config` and `grid` say which cells there are. This package is private: plugins and
notebooks use the public modules that `malfl_algos` names.
"""
