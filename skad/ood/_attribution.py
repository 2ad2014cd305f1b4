"""Maps of detectors around a classifier: ablation and gradients."""

import numpy as np

from skad._array import is_torch, like, namespace, to_numpy

# The median that maps compare with is that of about so many rows, evenly spread.
_MEDIAN_ROWS = 1024
ATTRIBUTIONS = {"auto", "ablation", "gradient", "gradient_x_input", "integrated"}


def training_median(X):
    """Return the median (d,) of rows (n, d)."""
    rows = to_numpy(X[:: max(1, X.shape[0] // _MEDIAN_ROWS)])
    columns = np.array(rows.T, order="C")  # a copy
    # np.median looks for NaN as well, which takes five times as long
    middle = columns.shape[1] // 2
    columns.partition(middle, axis=1)
    if columns.shape[1] % 2:
        return columns[:, middle]
    return (columns[:, middle] + columns[:, :middle].max(axis=1)) / 2


def attribution_map(how, anomaly, score, X, baseline, image_shape, whole=None):
    """Return how anomalous the elements of rows are: (b, d), or (b, h, w) of pictures.

    Parameters
    ----------
    how : {"ablation", "gradient", "gradient_x_input", "integrated"}
        What is computed.
    anomaly, score : callable
        Take rows (b, d) and return their anomaly (b,). `score` gets tensors, and
        gradients lead through it to them.
    X : array or tensor of shape (b, d)
        The rows.
    baseline : array of shape (d,)
        What elements are compared with.
    image_shape : (h, w, c) or None
        Channels are one element.
    whole : array or tensor of shape (b,) or None
        The anomaly of the rows, where it is known.
    """
    baseline = like(baseline, X)
    channels = 1 if image_shape is None else image_shape[2]
    if how == "ablation":
        maps = _ablation(anomaly, X, baseline, channels, whole)
    else:
        maps = _gradients(how, score, X, baseline)
    if image_shape is None:
        return maps
    return namespace(maps).sum(maps.reshape(len(maps), *image_shape), axis=3)


def _ablation(anomaly, X, baseline, channels, whole):
    """Return what is lost when an element takes the baseline's value."""
    xp = namespace(X)
    whole = anomaly(X) if whole is None else whole
    maps = xp.zeros_like(X)
    for first in range(0, X.shape[1], channels):
        place = slice(first, first + channels)
        without = xp.asarray(X, copy=True)
        without[:, place] = baseline[place]
        lost = whole - like(anomaly(without), whole)
        maps[:, place] = (like(lost, X) / channels)[:, None]
    return maps


def _gradients(how, score, X, baseline):
    import torch

    from skad.nn.attribution import input_gradients, integrated_gradients

    x = X if is_torch(X) else torch.tensor(np.ascontiguousarray(X))
    baseline = like(baseline, x)
    if how == "integrated":
        maps = integrated_gradients(score, x, baseline)
    else:
        maps = input_gradients(score, x)
        maps = maps.abs() if how == "gradient" else (x - baseline) * maps
    return like(maps, X)
