"""What calibration with labels needs: which samples are known, the former threshold."""

import numpy as np
from sklearn.frozen import FrozenEstimator
from sklearn.pipeline import Pipeline

from skad._labels import check_labels
from skad.calibration._held import known_anomalies, step_parameters, takes_classes


def known_labels(detector, y, n, params):
    """Return labels 1 normal, -1 anomaly, 0 unknown, of shape (n,).

    Around a classifier whose classes are `y`, all that `y_ood` does not call an outlier
    is normal.
    """
    outside = known_anomalies(detector, y, n, params)
    if takes_classes(detector) and step_parameters(params).get("y_class") is None:
        return np.where(outside, -1, 1)
    return np.zeros(n, dtype=int) if y is None else check_labels(y, n)


def own_offset(detector):
    """Return the `offset_` of a fitted detector, also inside of a pipeline."""
    inner = detector
    while isinstance(inner, Pipeline | FrozenEstimator):
        inner = inner[-1] if isinstance(inner, Pipeline) else inner.estimator
    if not hasattr(inner, "offset_"):
        raise ValueError(
            f"detector={inner!r} has no threshold; give it one, for instance with "
            "QuantileThreshold around it."
        )
    return float(inner.offset_)
