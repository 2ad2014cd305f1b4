"""How far several detectors agree on the same samples."""

from typing import NamedTuple

import numpy as np
from scipy.stats import rankdata


class Agreement(NamedTuple):
    """What `agreement` returns, for k detectors.

    Parameters
    ----------
    correlation : ndarray of shape (k, k)
        Spearman's rank correlation of scores; NaN where one gives all samples the same.
    same_labels : ndarray of shape (k, k)
        Share of the samples that both flag or neither does.
    correlation_with_others, same_labels_with_others : ndarray of shape (k,)
        Means over the other detectors.
    """

    correlation: np.ndarray
    same_labels: np.ndarray
    correlation_with_others: np.ndarray
    same_labels_with_others: np.ndarray


def agreement(findings):
    """Return how far findings of several detectors agree.

    Parameters
    ----------
    findings : sequence of Findings
        At least two, of the same samples.

    Returns
    -------
    agreement : Agreement
    """
    ranks = np.array([rankdata(finding.score) for finding in findings])
    ranks -= ranks.mean(axis=1, keepdims=True)
    norms = np.sqrt((ranks**2).sum(axis=1))
    with np.errstate(divide="ignore", invalid="ignore"):
        correlation = ranks @ ranks.T / np.outer(norms, norms)
    correlation = np.clip(correlation, -1, 1)
    flags = np.array([finding.flagged for finding in findings], dtype=np.float64)
    same = (flags @ flags.T + (1 - flags) @ (1 - flags).T) / flags.shape[1]
    others = ~np.eye(len(flags), dtype=bool)
    k = len(flags) - 1
    return Agreement(
        correlation,
        same,
        np.where(others, correlation, 0).sum(axis=1) / k,
        np.where(others, same, 0).sum(axis=1) / k,
    )
