"""Names that nothing is called, and what is meant by them."""

import pytest

import skad
from skad._names import _ELSEWHERE, did_you_mean


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("knn", "KNN"),
        ("Patchcore", "PatchCore"),
        ("IsolationForrest", "IsolationForest"),
        ("IForest", "IsolationForest"),
        ("LocalOutlierFactor", "LOF"),
        ("calibrations", "calibration"),
    ],
)
def test_a_wrong_name_is_answered_by_the_nearest(name, meant):
    with pytest.raises(AttributeError, match=rf"{name!r}; did you mean {meant!r}\?"):
        getattr(skad, name)


def test_families_answer_by_their_own_names():
    with pytest.raises(AttributeError, match=r"'Knn'; did you mean 'KNN'\?"):
        skad.neighbors.Knn  # noqa: B018
    with pytest.raises(AttributeError, match=r"no attribute 'PatchCore'$"):
        skad.neighbors.PatchCore  # noqa: B018


def test_what_other_libraries_call_it_is_a_detector_of_ours():
    known = dict(skad.all_detectors())
    assert set(_ELSEWHERE.values()) <= set(known)
    assert not set(_ELSEWHERE) & set(known)


def test_several_are_named_and_none_where_nothing_is_near():
    assert did_you_mean("ab", ["abc", "abxy"], n=2) == "; did you mean 'abc' or 'abxy'?"
    assert did_you_mean("xyz", ["abc"]) == ""
    assert did_you_mean("_abc", ["abc"]) == ""
    assert did_you_mean("PCA", ["PCa", "other"]) == "; did you mean 'PCa'?"
    assert did_you_mean("PCA", ["other"]) == ""
