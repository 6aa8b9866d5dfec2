"""Batches of rows that are alike in length."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from jichu.data.lengths import alike


@given(st.lists(st.integers(0, 500)), st.integers(1, 40), st.none() | st.integers(1, 5000))
def test_every_row_is_in_one_batch_that_is_not_too_large(lengths, rows, most):
    falling = np.array(sorted(lengths, reverse=True), int)
    parts = [falling[part] for part in alike(falling, rows, most)]
    assert [n for part in parts for n in part] == falling.tolist()
    for part in parts:
        assert 0 < len(part) <= rows
        assert most is None or len(part) == 1 or len(part) * part[0] <= most


def test_what_is_much_shorter_is_not_padded_but_for_a_few():
    cuts = lambda lengths: [len(range(*part.indices(99))) for part in alike(np.array(lengths), 64)]  # noqa: E731
    assert cuts([100] * 5 + [59] * 5) == [5, 5]
    assert cuts([100] * 5 + [60] * 5) == [10]
    assert cuts([100, 50, 50, 50, 50, 50, 50, 50]) == [4, 4]
    assert cuts([100, 50, 50, 50, 50]) == [5]
