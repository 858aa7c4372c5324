"""Scores of rewards from single steps."""

import numpy as np

from malfl_algos.ma_lfl.held_out_steps import _correlation


def test_the_correlation_with_a_constant_is_0():
    rng = np.random.default_rng(0)
    one, two = rng.normal(size=(2, 5))
    assert _correlation(np.full(5, 0.3), one) == _correlation(one, np.zeros(5)) == 0
    assert _correlation(one, two) == np.corrcoef(one, two)[0, 1]
