"""A fixed thousand of the cases of `fuzzing`: success or an error of ours, whatever is read."""

import pytest

from fuzzing.cases import attempt, memory_held
from fuzzing.targets import TARGETS, counts, make_runs

CASES = 1000
GIB = 4  # of address space beyond what the libraries take


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    make_runs(folder)
    return folder


@pytest.mark.parametrize("name", TARGETS)
def test_success_or_an_error_of_ours(name, runs, tmp_path):
    function, _, seconds = TARGETS[name]
    with memory_held(GIB):
        for number in range(counts(CASES)[name]):
            # ten times the time that one case has alone: how busy a machine is, is no fault of ours
            attempt(function, name, 0, number, scratch=tmp_path, runs=runs, seconds=10 * seconds)
