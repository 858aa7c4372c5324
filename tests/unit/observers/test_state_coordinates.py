"""Coordinates of columns of labels."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from malfl_algos.observers.state_coordinates import _coordinates

NUMBERS = st.integers() | st.integers(2**53, 2**53 + 9) | st.floats(allow_nan=False)
FINITE = NUMBERS.filter(lambda own: isinstance(own, int) or np.isfinite(own))
VALUES = FINITE | st.sampled_from([10**400, 10**400 + 1, -(10**400), True, "1", "a"])


def distances(values):
    found = _coordinates(values)
    return np.sqrt(((found[:, None] - found[None]) ** 2).sum(axis=-1))


@given(st.lists(VALUES, min_size=2, max_size=6).filter(lambda own: len(set(own)) > 1))
def test_coordinates_are_finite_and_tell_values_apart(values):
    found = distances(values)
    assert np.isfinite(found).all()
    wanted = [[one == other for other in values] for one in values]
    rows = _coordinates(values)
    same = [[(a == b).all() for b in rows] for a in rows]
    np.testing.assert_array_equal(same, wanted)


@pytest.mark.parametrize("start", [0, -7, 2**53, 10**400])
def test_whole_numbers_of_any_size_have_exact_steps(start):
    np.testing.assert_array_equal(
        distances([start, start + 1, start + 2, start + 4]),
        np.abs(np.subtract.outer([0, 1, 2, 4], [0, 1, 2, 4])),
    )


@pytest.mark.parametrize(
    "values", [(10**400, 0, 1), (0.5, 2**53, 2**53 + 1), (1, "a", 2.0), (0, 1, 2, 3, 1e300)]
)
def test_numbers_that_doubles_do_not_hold_are_as_text(values):
    np.testing.assert_allclose(distances(values), 1 - np.eye(len(values)))
