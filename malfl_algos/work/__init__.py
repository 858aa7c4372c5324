"""Processes: pools, compilation, signals, progress."""
