"""Detectors whose samples are pairs of pictures, for which a row is both of a pair.

They have the names of the detectors they are, so that the registry speaks of both.
"""

import numpy as np
import torch

import skad
from skad._picture_input import Pictures


class VideoGAN(skad.VideoGAN):
    """What moves looks like what is seen."""

    def _validate(self, X, *, reset):
        return twice(super()._validate(X, reset=reset))

    def _graph(self, x):
        return super()._graph(twice(x))


def twice(pictures):
    """Return pictures (n, h, w, c) with all channels again where there is no half."""
    if pictures.shape[-1] % 2 == 0:
        return pictures
    if isinstance(pictures, Pictures):
        source = np.concatenate(2 * [np.asarray(pictures.source)], -1)
        return Pictures(source, pictures.device)
    return torch.cat(2 * [pictures], -1)
