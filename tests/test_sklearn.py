"""scikit-learn's own estimator checks, all of them, on every detector.

Every run holds to them every class but networks and those whose `fit` fits copies for
the threshold; of these a third, by turns, with a threshold that needs no copies, and
without the sparse formats, which take a quarter of the fits and are made dense before a
class sees them. `make test-all` holds all classes to all in all of their settings.
"""

from unittest import SkipTest

import pytest
from sklearn.base import clone
from sklearn.utils import estimator_checks
from sklearn.utils.estimator_checks import estimator_checks_generator

from tests._instances import (
    EXPECTED_FAILURES,
    OVER_WINDOWS,
    brief,
    default_instances,
    excused,
    identify,
    labelled_instances,
    looks_around,
    quick,
    variant_instances,
)
from tests._weighted import weight_failures

# What check_estimator never yields but scikit-learn runs on its own estimators.
NEVER_YIELDED = [
    estimator_checks.check_dataframe_column_names_consistency,
    estimator_checks.check_estimators_data_not_an_array,
    estimator_checks.check_get_feature_names_out_error,
    estimator_checks.check_global_output_transform_pandas,
    estimator_checks.check_global_set_output_transform_polars,
    estimator_checks.check_inplace_ensure_writeable,
    estimator_checks.check_param_validation,
    estimator_checks.check_set_output_transform,
    estimator_checks.check_set_output_transform_pandas,
    estimator_checks.check_set_output_transform_polars,
    estimator_checks.check_transformer_get_feature_names_out,
    estimator_checks.check_transformer_get_feature_names_out_pandas,
]

# Those that want both labels among the training rows.
OUTLIERS = [
    estimator_checks.check_outliers_fit_predict,
    estimator_checks.check_outliers_train,
]

# Those that fit to each of twenty formats.
SPARSE = {"check_estimator_sparse_array", "check_estimator_sparse_matrix"}

DEFAULT = [*default_instances(), *labelled_instances()]


def fits_copies(detector):
    """Tell whether `fit` fits copies to the few rows of the checks for the threshold.

    Networks hold samples out only where there are enough.
    """
    return detector._honesty in ("held out", "cross-fitting")


def at_once(detectors):
    """Return quick copies; networks among them take one step with all rows in it."""
    found = quick(detectors, max_epochs=1)
    for one in found:
        if {"batch_size", "max_epochs"} <= one.get_params(deep=False).keys():
            one.set_params(batch_size=512)
    return found


COPIES = [one for one in DEFAULT if fits_copies(one)]
ALWAYS = brief([one for one in DEFAULT if one not in COPIES])
BY_TURNS = at_once(COPIES)
ELSE = brief([*COPIES, *variant_instances()])


def failures(detector, expected, without=()):
    """Return the checks that fail or are skipped, and how many there were."""
    failed, n_checks = [], 0
    for one, check in estimator_checks_generator(detector):
        name = check.func.__name__
        if name in without:
            continue
        n_checks += 1
        try:
            check(one)
        except Exception as error:
            if name not in expected or isinstance(error, SkipTest):
                failed.append((name, repr(error)))
    return failed, n_checks


@pytest.mark.parametrize(
    ("detector", "without"),
    [
        *[pytest.param(one, (), id=identify(one)) for one in ALWAYS],
        *[
            pytest.param(one, SPARSE, id=identify(one), marks=pytest.mark.sampled(3))
            for one in BY_TURNS
        ],
        *[
            pytest.param(one, (), id=identify(one), marks=pytest.mark.full)
            for one in ELSE
        ],
    ],
)
def test_check_estimator(detector, without):
    expected = OVER_WINDOWS if looks_around(detector) else {}
    if detector.__sklearn_tags__().target_tags.required:
        expected = EXPECTED_FAILURES.get(type(detector).__name__, {})
    expected = {**expected, **weight_failures(detector)}
    if reason := excused(detector, "outliers"):
        expected |= {check.__name__: reason for check in OUTLIERS}
        for check in OUTLIERS:
            share = clone(detector).set_params(contamination=0.1)
            check(type(detector).__name__, share)
    failed, n_checks = failures(detector, expected, without)
    assert not failed
    assert n_checks > 40


PARAMETERS = estimator_checks.check_param_validation  # the others look at the base


@pytest.mark.parametrize(
    "check",
    [
        pytest.param(check, marks=[] if check is PARAMETERS else pytest.mark.sampled(6))
        for check in NEVER_YIELDED
    ],
    ids=lambda check: check.__name__,
)
@pytest.mark.parametrize("detector", at_once(default_instances()), ids=identify)
def test_checks_never_yielded(detector, check):
    name = type(detector).__name__
    if check is estimator_checks.check_estimators_data_not_an_array:
        import numpy as np

        X = np.random.default_rng(0).normal(size=(20, 3))
        check(name, clone(detector), X, np.ones(20, dtype=int), obj_type="NotAnArray")
        return
    check(name, clone(detector))
