"""Which samples a training holds out: they set the threshold and patience watches them.

Scores of samples that a network was trained on are too low, so a quantile of them would
flag far more of new normal samples than it says.
"""

from typing import NamedTuple

import numpy as np
import torch

from skad._array import slices, to_numpy
from skad._cross_fitting import rows_of
from skad._limits import limit_of_seen

# With fewer normal samples none are held out for the threshold ...
FEWEST_SAMPLES = 12
# ... and with as many at least this many are, whatever share was asked for.
FEWEST_HELD = 5
# Fewer may happen to be far more alike than new ones are, and their bound too low: then
# the samples that were trained on have a say.
_ENOUGH_HELD = 10
# Multiples of the golden ratio, less their whole parts, are spread evenly over 0..1 and
# follow no period that rows may have.
_GOLDEN = (5**0.5 - 1) / 2


class Trained(NamedTuple):
    """What the last training got: rows, samples, and which it held out and learned."""

    rows: object
    # The tensor of samples, or what looks like one, where the detector keeps them.
    samples: object
    held: np.ndarray | None
    # The normal ones that it was trained on, where some were held out.
    learned: np.ndarray | None
    in_stream: bool


def of_samples(labels):
    """Return the labels (n,) of labels (n,) or, with more behind them, (n, k)."""
    return labels if labels.ndim == 1 else labels[:, 0]


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
            normal = np.flatnonzero(to_numpy(of_samples(labels)) >= 0)
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

    def _least_limit(self):
        """Return what samples that were trained on pass as often, where few were not.

        A new sample is no less anomalous than those. Of few held-out ones the spread is
        hardly known: six of 31 pictures had a fifth of the others' (their logarithms a
        deviation of .04 for .2), and 43 % of new ones passed their bound.
        """
        seen = self._beside_few()
        if seen is None:
            return super()._least_limit()
        return limit_of_seen(seen, self.false_alarm_rate)

    def _beside_few(self):
        """Return the anomaly (m,) of what was trained on, None where enough was not."""
        trained = self._trained_
        few = trained.held is not None and 0 < self._n_held(trained.held) < _ENOUGH_HELD
        if not few or trained.in_stream or not len(trained.learned):
            return None
        return to_numpy(self._learned_anomaly(self._thinned(trained.learned)))

    def _n_held(self, held):
        """Return how many things those samples are that are held out."""
        return len(held)

    def _held_out_anomaly(self, held):
        """Return the honest anomaly of some of the samples that were held out."""
        return self._learned_anomaly(held)

    def _learned_anomaly(self, rows):
        """Return the anomaly of some samples of the training, as new ones have it."""
        X = rows_of(self._trained_.rows, rows)
        return self._in_blocks(self._anomaly, X, progress="score")

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
