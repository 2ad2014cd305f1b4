"""Which samples a training holds out: they set the threshold and patience watches them.

Scores of samples that a network was trained on are too low, so a quantile of them would
flag far more of new normal samples than it says.
"""

from typing import NamedTuple

import numpy as np

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
