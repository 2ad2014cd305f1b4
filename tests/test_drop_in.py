"""scikit-learn's own tests of the classes that ours stand in for.

What is left out on purpose is excused here, each with the words under which
doc/from_scikit_learn.rst says what to write instead. An excused test that passes fails.
"""

import re
from pathlib import Path

import pytest

from tests._drop_in import PEERS, outcomes

PAGE = (Path(__file__).parents[1] / "doc" / "from_scikit_learn.rst").read_text()

_PRIVATE = "Private attributes"
_SAMPLE = "``sample``"
_TREE = "``metric``, ``algorithm``"
_NOVELTY = "``novelty``"

# Regular expressions of whole names of tests, and the words on the page.
EXCUSED = {
    "IsolationForest": {
        r"test_max_samples_consistency": _PRIVATE,
        r"test_iforest_chunks_works[12]\[.*\]": _PRIVATE,
    },
    "LOF": {
        r"test_lof": _PRIVATE,
        r"test_lof_precomputed": _PRIVATE,
        r"test_lof_values": "Its own neighbour",
        r"test_novelty_errors": _NOVELTY,
        r"test_hasattr_prediction": _NOVELTY,
        r"test_lof_duplicate_samples": "Duplicates",
    },
    "KDE": {
        r"test_kernel_density\[\w.*-(tophat|epanechnikov|linear|cosine)\]": (
            "Kernels with an end"
        ),
        r"test_kernel_density_sampling": _SAMPLE,
        r"test_check_is_fitted\[sample\]": _SAMPLE,
        r"test_bandwidth\[.*\]": _SAMPLE,
        r"test_kde_algorithm_metric_choice\[.*\]": _TREE,
        r"test_kde_sample_weights": _TREE,
        r"test_pickling\[sample_weight1\]": "Weights are counts",
    },
    "OneClassSVM": {},
}
# What scikit-learn's suite has of each class, so that none is lost on the way.
AT_LEAST = {"IsolationForest": 33, "LOF": 90, "KDE": 57, "OneClassSVM": 9}


@pytest.mark.parametrize("name", PEERS)
def test_scikit_learns_own_tests(name, tmp_path):
    found = outcomes(name, tmp_path)
    assert len(found) >= AT_LEAST[name]
    used, wrong = set(), {}
    for test, (outcome, last_line) in found.items():
        excuses = [each for each in EXCUSED[name] if re.fullmatch(each, test)]
        used.update(excuses)
        right = {"failed"} if excuses else {"passed", "skipped"}
        if outcome not in right:
            wrong[test] = outcome, last_line
    assert not wrong
    assert used == EXCUSED[name].keys()


@pytest.mark.parametrize("name", PEERS)
def test_page_says_what_is_left_out(name):
    for words in EXCUSED[name].values():
        assert words in PAGE, words


@pytest.mark.parametrize("name", PEERS)
def test_page_has_the_lines_that_are_written_instead(name):
    assert f"``{name}" in PAGE
    for _, _, words in PEERS[name].lines:
        assert words in PAGE, words
