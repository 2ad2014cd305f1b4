"""What a detector has learned, on another device."""

import numpy as np

from skad._array import is_torch, on_device
from skad.neighbors._search import NeighborSearch
from skad.ood._gaussian import TiedGaussian


def with_state(value, state):
    """Return an object like `value` with other attributes, not by way of a pickle."""
    twin = object.__new__(type(value))
    vars(twin).update({**vars(value), **state})
    return twin


def moved(value, device):
    """Return arrays, and what containers and detectors' parts hold, as tensors there.

    Detectors, networks and classifiers stay as they are.
    """
    if isinstance(value, np.ndarray) and value.dtype.kind == "f":
        return on_device(value, device)
    if type(value) in (list, tuple):
        return type(value)(moved(item, device) for item in value)
    if type(value) is dict:
        return {name: moved(item, device) for name, item in value.items()}
    if isinstance(value, TiedGaussian | NeighborSearch):
        return with_state(value, moved(vars(value), device))
    return value.to(device) if is_torch(value) else value
