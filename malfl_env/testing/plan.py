"""What a check run is told to do."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from malfl_env.errors import InputError
from malfl_env.testing.protocol import Environment

__all__ = ["Plan"]


@dataclass(frozen=True)
class Plan:
    """The environment under test and how long to look at it.

    Args:
        factory: makes a new environment at each call.
        seeds: seeds to try, at least two.
        n_steps: longest episode looked at, except for
        episode_limit: the longest first episode, which is to reach its end.
        n_episodes: episodes in a row after one seed.
        infos: whether infos take part in comparisons.
        stochastic: whether chance plays a part; None finds out.
    """

    factory: Callable[[], Environment]
    seeds: tuple[int, ...]
    n_steps: int
    episode_limit: int
    n_episodes: int
    infos: bool
    stochastic: bool | None

    def __post_init__(self) -> None:
        if not callable(self.factory):
            raise InputError(
                f"factory must be a function that returns a new environment, got {self.factory!r}"
            )
        if len(set(self.seeds)) < 2 or any(
            type(seed) is not int or seed < 0 for seed in self.seeds
        ):
            raise InputError(
                f"seeds must be at least two different integers >= 0, got {list(self.seeds)}"
            )
        for name, least in (("n_steps", 2), ("episode_limit", 2), ("n_episodes", 2)):
            value = getattr(self, name)
            if type(value) is not int or value < least:
                raise InputError(f"{name} must be an integer >= {least}, got {value!r}")
