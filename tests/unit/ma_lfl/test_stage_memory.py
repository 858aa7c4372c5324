"""What is remembered of a stage."""

from __future__ import annotations

import numpy as np

from malfl_algos.ma_lfl.stage_memory import MOST_KEPT, digest, kept
from malfl_algos.ma_lfl.stages import StageArrays

COUNTS = np.ones((2, 2, 2), dtype=np.int64)


def test_arrays_are_made_once_until_others_need_their_room():
    stage, made = StageArrays(COUNTS), []

    def ask(key, size=MOST_KEPT // 4, of=stage):
        return kept(of, key, lambda: made.append(key) or np.full(size, key), np.size)[0]

    assert [ask(one) for one in (1, 2, 1, 3, 4, 1)] == [1, 2, 1, 3, 4, 1]
    assert made == [1, 2, 3, 4]
    ask(5)  # of the four, 2 was not asked for longest
    assert [ask(1), ask(2)] == [1, 2]
    assert made == [1, 2, 3, 4, 5, 2]
    ask(6, MOST_KEPT // 4 + 1)
    ask(6, MOST_KEPT // 4 + 1)
    ask(1, of=StageArrays(COUNTS))
    assert made[6:] == [6, 6, 1]


def test_digests_tell_arrays_apart():
    one, other = np.zeros((2, 3)), np.zeros((2, 3))
    assert digest([one, other]) == digest([other, one])
    other[1, 2] = 1e-300
    assert digest([one, other]) != digest([other, one])
    assert digest([np.asfortranarray(other)]) == digest([other])
