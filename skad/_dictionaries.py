"""Dictionaries of atoms, and what is usual of the numbers that codes are told by."""

import warnings

import numpy as np
from sklearn.decomposition import MiniBatchDictionaryLearning
from sklearn.exceptions import ConvergenceWarning

# Deviations whose squares are finite, by the bytes of a number.
_FARTHEST = {4: 1e18, 8: 1e150}


def learned_atoms(rows, n_components, penalty, max_epochs, random):
    """Return atoms (k, d) of length one of which few make up a row.

    Parameters
    ----------
    rows : ndarray of shape (n, d)
        Around zero.
    n_components : int
        Number k of atoms.
    penalty : float
        Price of absolute coefficients.
    max_epochs : int
        Passes over the rows at most.
    random : RandomState
        Draws the first atoms and the batches.
    """
    learner = MiniBatchDictionaryLearning(
        n_components=n_components,
        alpha=penalty,
        max_iter=max_epochs,
        random_state=random,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        atoms = learner.fit(rows).components_
    length = np.sqrt((atoms**2).sum(axis=1, keepdims=True))
    return atoms / np.where(length > 0, length, 1.0)


def usual(numbers):
    """Return the mean (k,) and the covariance (k, k) of numbers (n, k) of codes."""
    center = numbers.mean(axis=0)
    away = numbers - center
    # where all rows are coded alike, any other numbers are far
    least = 1e-12 * (1 + center**2)
    return center, away.T @ away / len(away) + np.diag(least)


def distances(numbers, center, covariance):
    """Return squared Mahalanobis distances (n,) of numbers (n, k), arrays or tensors.

    Parameters
    ----------
    numbers : ndarray or tensor of shape (n, k)
        Of the codes.
    center : ndarray or tensor of shape (k,)
        Their mean.
    covariance : ndarray of shape (k, k)
        Their covariance.
    """
    root = np.linalg.inv(np.linalg.cholesky(covariance)).T
    if not isinstance(numbers, np.ndarray):
        root = numbers.new_tensor(root)
        center = numbers.new_tensor(center)
    farthest = _FARTHEST[numbers.dtype.itemsize]  # beyond all rows are as far
    return (((numbers - center) @ root).clip(-farthest, farthest) ** 2).sum(1)
