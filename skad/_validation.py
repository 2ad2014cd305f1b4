"""Input checks: scikit-learn's for whatever it takes, the same rules for tensors."""

import numpy as np

from skad._array import is_torch, namespace
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
