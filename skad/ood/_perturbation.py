"""Small steps of the input against its anomaly, and how long they should be."""

from numbers import Real

import numpy as np

from skad._array import like, namespace, to_numpy
from skad._sklearn import Interval
from skad.embedding._classifier import Outputs

EPSILON = [Interval(Real, 0, None, closed="left"), tuple, list]


def step_against(outputs, layer, cotangent, epsilon):
    """Return the outputs for x - epsilon sign(gradient), element by element.

    `cotangent` gets the layer's values (b, f) and returns the anomaly's gradient to
    them. Elements on which nothing depends stay where they are.
    """
    if epsilon == 0:
        return outputs
    gradient = outputs.view.pull_back(outputs.X, layer, cotangent)
    step = like(epsilon * namespace(gradient).sign(gradient), outputs.X)
    return Outputs(
        outputs.view,
        outputs.X - step,
        outputs.layers,
        differentiable=outputs.differentiable,
    )


def candidates(epsilon):
    """Return the lengths of the step to choose from."""
    found = [epsilon] if isinstance(epsilon, Real) else list(epsilon)
    if not found or not all(isinstance(e, Real) and 0 <= e < np.inf for e in found):
        raise ValueError(f"epsilon={epsilon!r} must hold numbers that are 0 or more.")
    return found


def best_epsilon(epsilon, anomaly_of, known):
    """Return the best step of a number or of several.

    Parameters
    ----------
    epsilon : float or sequence of float
        The candidates.
    anomaly_of : callable
        Takes a candidate and returns the anomalies in the distribution and of known
        outliers; the latter are None without any.
    known : bool
        Whether there are known outliers. With them the share that a threshold flags
        which keeps 95 % of the rows in the distribution decides; without, the mean
        anomaly in the distribution, which is to be low.
    """
    found = candidates(epsilon)
    if len(found) == 1:
        return float(found[0])

    def merit(candidate):
        inside, outside = anomaly_of(candidate)
        inside = to_numpy(inside)
        if not known:
            return -inside.mean()
        return (to_numpy(outside) > np.quantile(inside, 0.95)).mean()

    return float(max(sorted(found), key=merit))
