"""Experiments: configuration, run folders, and the way from a game to scored rewards."""
