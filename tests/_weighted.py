"""What scikit-learn's checks of `sample_weight` cannot hold of detectors, and why."""

# scikit-learn's own reason for its IsolationForest and its OneClassSVM
NOT_EQUIVALENT = "sample_weight is not equivalent to removing/repeating samples."
FOLDS = "its threshold is cross-fitted, and folds are of rows, not of their repetitions"
REFUSED = "it trusts a subset of the rows, for which weights have no meaning"
CHECKS = [
    "check_sample_weights_pandas_series",
    "check_sample_weights_not_an_array",
    "check_sample_weights_list",
    "check_sample_weights_shape",
    "check_sample_weights_not_overwritten",
    "check_sample_weight_equivalence_on_dense_data",
    "check_sample_weight_equivalence_on_sparse_data",
]


def weight_failures(detector):
    """Return the expected failures of a detector, {check: reason}."""
    covariance = getattr(detector, "covariance", None)
    if covariance == "mcd":
        return dict.fromkeys(CHECKS, REFUSED)
    # rows are drawn; rows on the margin have a decision of 0 up to the tolerance
    if type(detector).__name__ in ("IsolationForest", "OneClassSVM"):
        return dict.fromkeys(CHECKS[-2:], NOT_EQUIVALENT)
    folds = type(detector)._honesty == "cross-fitting"
    if folds or covariance == "low_rank":
        return dict.fromkeys(CHECKS[-2:], FOLDS)
    return {}
