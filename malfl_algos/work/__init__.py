"""Processes: pools, compilation, signals, progress.

Nothing here is public: plugins and notebooks use the faces that `malfl_algos` names.
"""
