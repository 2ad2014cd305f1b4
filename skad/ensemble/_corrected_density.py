"""The base of detectors that take from a likelihood what says nothing of anomalies."""

from collections.abc import Sequence
from typing import Any

from skad._cross_fitting import cross_fitted
from skad._members import fit_within, seeded_clone, without_threshold
from skad._parameters import KW_ONLY, with_parameters
from skad._picture_input import check_images
from skad._random import Seed
from skad._sklearn import HasMethods
from skad.base import BaseDetector


@with_parameters(kw_only=False)
class CorrectedDensity(BaseDetector):
    """Base of detectors around a density, of rows or of pictures.

    Parameters
    ----------
    detector : detector or None, default=None
        A density, whose ``score_samples`` is a log likelihood in nats or a bound of it,
        such as `GMM`, `KDE`, or ``VAE(measure="iwae")``; is cloned. None is ``GMM()``
        for rows and ``VAE()`` for pictures. One without `image_shape` gets the pixels
        of pictures as rows.
    image_shape : tuple of int or None, default=None
        (height, width) or (height, width, channels) of images that come as rows.
    random_state : int, RandomState instance or None, default=None
        Draws every `random_state` of the detector that is None. Pass an int for
        reproducible results.

    Attributes
    ----------
    detector_ : detector
        The fitted density.
    image_shape_ : tuple of int or None
        (height, width, channels) of images.
    """

    detector: Any = None
    _: KW_ONLY
    image_shape: Sequence[int] | None = None
    random_state: Seed = None

    _parameter_constraints = {
        "detector": [HasMethods(["fit", "score_samples", "transform"]), None],
        "image_shape": [tuple, list, None],
        "random_state": ["random_state"],
    }

    def _head(self):
        """Return the unfitted density."""
        if self.detector is not None:
            return self.detector
        if getattr(self, "image_shape_", self.image_shape) is not None:
            from skad.reconstruction import VAE

            return VAE()
        from skad.density import GMM

        return GMM()

    def _validate(self, X, *, reset):
        return check_images(self, X, reset=reset)

    def _pictures(self, X):
        """Return rows (n, d) as the pictures that they are, if they are some."""
        if self.image_shape_ is None:
            return X
        return X.reshape(X.shape[0], *self.image_shape_)

    def _seen(self, X):
        """Return rows (b, d) as the density takes them: as pictures if it can."""
        takes_pictures = "image_shape" in self._head().get_params(deep=False)
        return self._pictures(X) if takes_pictures else X

    def _shown(self, maps):
        """Return maps of a density with those of rows as the pictures they are."""
        if self.image_shape_ is None or maps.ndim != 2:
            return maps
        return self._pictures(maps).sum(3)

    def _fitted(self, member, X, random, name="detector"):
        """Return a copy of a density, fitted to rows (n, d)."""
        member = without_threshold(seeded_clone(member, random, True))
        context = self._subtask(f"fit {name}")
        try:
            return fit_within(context, self, member, self._seen(X), None)
        except ValueError as error:
            kind = type(member).__name__
            raise ValueError(f"The {name} {kind} cannot be fitted: {error}") from error

    def _honest_anomaly(self, X, y, anomaly, **params):
        return cross_fitted(self, self._pictures(X), y, params, anomaly)
