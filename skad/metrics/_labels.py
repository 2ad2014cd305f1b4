"""Labels and scores, as every metric of the package takes them."""

import warnings

import numpy as np
from sklearn.exceptions import UndefinedMetricWarning


def host(values):
    """Return an array of what is an array, a list, a frame's column or a tensor."""
    if hasattr(values, "detach"):  # a torch tensor, perhaps on a GPU
        values = values.detach().cpu()
    return np.asarray(values)


def is_anomaly(labels, pos_label=None, name="y_true"):
    """Return where the labels say anomaly, a boolean array of their shape.

    Without `pos_label`, booleans are True at anomalies and numbers are 1 (normal) or
    -1 (anomaly).
    """
    labels = host(labels)
    if labels.dtype.kind not in "biufUSO":
        raise ValueError(f"{name} has dtype {labels.dtype}, which holds no labels.")
    if labels.dtype.kind == "f" and np.isnan(labels).any():
        raise ValueError(f"{name} contains NaN.")
    if pos_label is not None:
        return labels == pos_label
    if labels.dtype.kind == "b":
        return labels.copy()
    anomalous = labels == -1
    if not np.all(anomalous | (labels == 1)):
        found = np.unique(labels[~anomalous & (labels != 1)].astype(str))
        shown = ", ".join(found[:3]) + (", ..." if len(found) > 3 else "")
        raise ValueError(
            f"{name} has labels other than 1 (normal) and -1 (anomaly): {shown}. Pass "
            "pos_label, the label of an anomaly (pos_label=1 for labels 0 and 1)."
        )
    return anomalous


def finite_scores(scores, name="anomaly_score"):
    """Return scores as float64, or raise where they are NaN or infinite."""
    scores = host(scores)
    if scores.dtype.kind not in "biuf":
        raise ValueError(f"{name} has dtype {scores.dtype}, expected numbers.")
    scores = scores.astype(np.float64)
    if not np.isfinite(scores).all():
        kind = "NaN" if np.isnan(scores).any() else "infinity"
        raise ValueError(f"{name} contains {kind}.")
    return scores


def labels_and_scores(y_true, anomaly_score, pos_label=None):
    """Return the checked mask of anomalies and the scores, each of shape (n,)."""
    anomalous = is_anomaly(y_true, pos_label)
    scores = finite_scores(anomaly_score)
    _check_lengths(anomalous, scores, "anomaly_score")
    return anomalous, scores


def labels_and_predictions(y_true, y_pred, pos_label=None):
    """Return the checked masks of true and of predicted anomalies, each (n,)."""
    anomalous = is_anomaly(y_true, pos_label)
    predicted = is_anomaly(y_pred, pos_label, name="y_pred")
    _check_lengths(anomalous, predicted, "y_pred")
    return anomalous, predicted


def at_least(value, minimum, name):
    """Raise where a parameter is no integer of at least `minimum`."""
    if not isinstance(value, int | np.integer) or isinstance(value, bool | np.bool):
        raise TypeError(f"{name}={value!r} must be an int.")
    if value < minimum:
        raise ValueError(f"{name}={value!r} must be at least {minimum}.")


def one_of(value, choices, name):
    """Raise where a parameter is none of the choices."""
    if value not in choices:
        shown = ", ".join(repr(choice) for choice in choices)
        raise ValueError(f"{name}={value!r} must be one of {shown}.")


def undefined(reason):
    """Warn that a metric is not defined and return NaN."""
    warnings.warn(f"{reason}; the metric is NaN.", UndefinedMetricWarning, stacklevel=3)
    return float("nan")


def _check_lengths(anomalous, other, name):
    if anomalous.ndim != 1 or other.ndim != 1:
        raise ValueError(
            f"y_true and {name} are one value per sample, got shapes "
            f"{anomalous.shape} and {other.shape}."
        )
    if len(anomalous) != len(other):
        raise ValueError(
            f"y_true has {len(anomalous)} labels, {name} has {len(other)} values."
        )
    if len(anomalous) == 0:
        raise ValueError("y_true is empty.")
