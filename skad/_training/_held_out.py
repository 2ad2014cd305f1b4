"""Which samples a training holds out: they set the threshold and patience watches them.

Scores of samples that a network was trained on are too low, so a quantile of them would
flag far more of new normal samples than it says.
"""

from typing import NamedTuple

import numpy as np
import torch

from skad._array import slices, to_numpy
from skad._cross_fitting import rows_of

# With fewer normal samples none are held out for the threshold ...
FEWEST_SAMPLES = 12
# ... and with as many at least this many are, whatever share was asked for.
FEWEST_HELD = 5
# Multiples of the golden ratio, less their whole parts, are spread evenly over 0..1 and
# follow no period that rows may have.
_GOLDEN = (5**0.5 - 1) / 2


class Trained(NamedTuple):
    """What the last training got: rows, samples, and which of them it held out."""

    rows: object
    # The tensor of samples, or what looks like one, where the detector keeps them.
    samples: object
    held: np.ndarray | None
    in_stream: bool


def held_samples(n, fraction, n_before=0, at_least=0):
    """Return the indices of the samples to hold out, about a `fraction` of `n`.

    A sample is held out by its number alone: the first of more samples are the same,
    another fit to the same samples holds the same ones out, and so do pieces of a
    stream.

    Parameters
    ----------
    n : int
        Number of samples.
    fraction : float
        In (0, 1).
    n_before : int, default=0
        Samples of a stream that came before these.
    at_least : int, default=0
        Samples to hold out where the fraction is of fewer.
    """
    places = (n_before + 1.0 + np.arange(n)) * _GOLDEN % 1
    held = np.flatnonzero(places < fraction)
    if len(held) < at_least:
        held = np.sort(np.argsort(places, kind="stable")[:at_least])
    return held


class HeldOutMixin:
    """What a detector that trains a network holds out, and the threshold of it."""

    _honesty = "held out"
    # Most rows that are scored for the threshold, where a score is dear.
    _most_threshold_rows = None
    # Whether the samples of the training are kept until the threshold is set, where
    # they are dear to make: then `_described_anomaly` scores them.
    _keeps_samples = False

    def _holds_out(self):
        """Tell whether normal samples are held out to set the threshold."""
        return self.contamination == "auto"

    def _split(self, n, labels, n_before=None):
        """Return the samples to hold out and those to train on, or None and None.

        Parameters
        ----------
        n : int
            Number of samples.
        labels : tensor of shape (n,) or (n, k) or None
            As `_training_labels` returned them: those labelled below 0 are trained on.
        n_before : int or None, default=None
            Samples of a stream that came before; None is a `fit`.

        Returns
        -------
        held, kept : ndarray of int or None
            Indices of samples.
        """
        normal = np.arange(n)
        if labels is not None:
            labels = labels if labels.ndim == 1 else labels[:, 0]
            normal = np.flatnonzero(to_numpy(labels) >= 0)
        whole = n_before is None
        watched = self.patience is not None
        enough = self._holds_out() and (len(normal) >= FEWEST_SAMPLES or not whole)
        if not enough and not watched:
            return None, None
        held = normal[
            held_samples(
                len(normal),
                self.validation_fraction,
                n_before or 0,
                FEWEST_HELD if enough and whole else int(watched),
            )
        ]
        fewest = 2 if watched or whole else int(n_before == 0)
        if n - len(held) < fewest:
            raise ValueError(
                f"validation_fraction={self.validation_fraction} leaves "
                f"{n - len(held)} of {n} samples to train on."
            )
        return held, np.setdiff1d(np.arange(n), held)

    def _honest_anomaly(self, X, y, anomaly, **params):
        held = self._trained_.held
        if held is None:
            return super()._honest_anomaly(X, y, anomaly, **params)
        return self._held_out_anomaly(self._thinned(held))

    def _held_out_anomaly(self, held):
        """Return the anomaly of some of the samples that the training held out."""
        rows = rows_of(self._trained_.rows, held)
        return self._in_blocks(self._anomaly, rows, progress="score")

    def _described_anomaly(self, rows):
        """Return the anomaly of some samples of the training, as it described them.

        With `_keeps_samples`, until the threshold is set; `rows` are indices.
        """
        samples, found = self._trained_.samples, []
        with torch.no_grad():
            for part in slices(len(rows), self._block_rows(self.device_)):
                x = samples[torch.as_tensor(rows[part])].to(self.device_)
                found.append(self._sample_anomaly(self.net_, x))
        return torch.cat(found)

    def _seen_anomaly(self, X, anomaly):
        return super()._seen_anomaly(self._thinned(X), anomaly)

    def _thinned(self, rows):
        """Return at most as many rows as are scored for the threshold."""
        most = self._most_threshold_rows or len(rows)
        return rows[:: max(1, -(-len(rows) // most))]

    def _learn(self, X, y, learn, **params):
        try:
            return super()._learn(X, y, learn, **params)
        finally:
            vars(self).pop("_trained_", None)  # the training data are not kept alive
