"""Input checks: scikit-learn's for whatever it takes, the same rules for tensors."""

import warnings

import numpy as np
from sklearn.utils.validation import column_or_1d

from skad._array import is_torch, namespace, to_numpy
from skad._sklearn import validate_data


def check_table(estimator, X, *, reset, min_samples=None):
    """Return `X` of shape (n, d) as a float array or tensor, or raise.

    float32 and float64 stay as they are, everything else becomes float64. Values so
    large that their squares would overflow are refused.
    """
    if min_samples is None:
        min_samples = 2 if reset else 1
    if is_torch(X):
        X = _check_tensor(X, min_samples)
        validate_data(estimator, X, reset=reset, skip_check_array=True)
    else:
        X = validate_data(
            estimator,
            X,
            reset=reset,
            dtype=(np.float64, np.float32),
            ensure_min_samples=min_samples,
        )
    _check_magnitude(X)
    return X


def check_images(estimator, X, *, reset):
    """Return rows (n, d) of tables or of flattened images; sets `image_shape_`.

    Images come as (n, h, w) or (n, h, w, c), or as rows with the estimator's
    `image_shape`. Values of dtype uint8 are brought from 0..255 to 0..1.
    """
    shape = estimator.image_shape
    shape = None if shape is None else (*shape, 1)[:3]
    given = shape
    if getattr(X, "ndim", 2) in (3, 4):
        given = (*X.shape[1:], 1)[:3]
        X = X.reshape(X.shape[0], -1) if X.shape[0] else X.reshape(0, np.prod(given))
    byte = str(getattr(X, "dtype", "")).endswith("uint8")
    if byte and given is not None:
        X = X.float() / 255 if is_torch(X) else np.asarray(X, np.float32) / 255
    X = check_table(estimator, X, reset=reset)
    known = shape if reset else estimator.image_shape_
    if known is not None and given is not None and tuple(given) != tuple(known):
        raise ValueError(f"X has images of shape {given}, expected {tuple(known)}.")
    if given is not None and np.prod(given) != X.shape[1]:
        raise ValueError(
            f"image_shape={estimator.image_shape} has {np.prod(given)} elements, X has "
            f"{X.shape[1]} features."
        )
    if reset:
        estimator.image_shape_ = None if given is None else tuple(given)
    return X


def check_labels(y, n_samples):
    """Return labels 1 normal, -1 known anomaly, 0 unlabelled, of shape (n,).

    Any other label counts as unlabelled, with a warning.
    """
    y = column_or_1d(to_numpy(y) if is_torch(y) else y)
    if y.shape[0] != n_samples:
        raise ValueError(f"y has {y.shape[0]} labels for {n_samples} samples.")
    labels = np.where(y == -1, -1, np.where(y == 1, 1, 0))
    if not np.all(labels == y):
        warnings.warn(
            "y has labels other than 1 (normal), -1 (anomaly) and 0 (unlabelled); they "
            "count as unlabelled.",
            stacklevel=6,
        )
    return labels


def _check_tensor(X, min_samples):
    import torch

    if X.ndim != 2:
        raise ValueError(f"Expected 2D array, got {X.ndim}D array instead.")
    if X.is_complex():
        raise ValueError("Complex data not supported.")
    if X.shape[0] < min_samples:
        raise ValueError(
            f"Found array with {X.shape[0]} sample(s) (shape={tuple(X.shape)}) while a "
            f"minimum of {min_samples} is required."
        )
    if X.shape[1] < 1:
        raise ValueError(
            f"Found array with 0 feature(s) (shape={tuple(X.shape)}) while a minimum "
            "of 1 is required."
        )
    X = X.detach()
    if X.dtype not in (torch.float32, torch.float64):
        X = X.to(torch.float32 if X.device.type == "mps" else torch.float64)
    if not torch.isfinite(X).all():
        kind = "NaN" if torch.isnan(X).any() else "infinity"
        raise ValueError(f"Input X contains {kind}.")
    return X


def _check_magnitude(X):
    """Refuse values whose sums of squares leave the range of the dtype."""
    xp = namespace(X)
    limit = float(xp.finfo(X.dtype).max) ** 0.4
    largest = max(float(xp.max(X)), -float(xp.min(X)))
    if largest > limit:
        raise ValueError(
            f"Input X contains {largest:.3g}, too large for sums of squares in "
            f"{X.dtype} (at most {limit:.1e}). Scale the features first."
        )
