"""Faults of copies."""

from __future__ import annotations

import copy
from typing import Any

from broken_envs.line import Line


class CopyIsItself(Line):
    def __deepcopy__(self, memo: Any) -> Any:
        return self


class ShallowCopy(Line):
    def __deepcopy__(self, memo: Any) -> Any:
        return copy.copy(self)


class CopiesPlayOneEpisode(Line):
    """A copy starts its generator where the original's was, at each reset."""

    frozen: Any = None

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, frozen=copy.deepcopy(state["rng"]))

    def reseed(self, seed: int | None) -> None:
        super().reseed(seed)
        if self.frozen is not None:
            self.rng = copy.deepcopy(self.frozen)


class PicklesPlayOneEpisode(CopiesPlayOneEpisode):
    """Supports pickle only: deepcopy raises."""

    def __deepcopy__(self, memo: Any) -> Any:
        raise TypeError("cannot be copied")


FAULTS: list[tuple[type[Line], str]] = [
    (CopyIsItself, "copy (copy.deepcopy) shares state with the original"),
    (ShallowCopy, "copy (copy.deepcopy) shares state with the original"),
    (CopiesPlayOneEpisode, "copy (copy.deepcopy) cannot be re-seeded"),
    (PicklesPlayOneEpisode, "copy (pickle) cannot be re-seeded"),
]
