"""The lift from vectors to pictures: any detector on the features of patches."""

from numbers import Real
from typing import Any

import numpy as np
import torch

from skad._members import seeded_clone
from skad._parameters import KW_ONLY, with_parameters
from skad._sklearn import HasMethods, Interval, StrOptions
from skad.embedding import PatchEmbedding
from skad.embedding._pictures import PictureEmbedding
from skad.image._patch_model import PatchModel


@with_parameters(kw_only=False)
class PatchDetector(PatchModel):
    r"""Pictures with patches that any detector on vectors finds anomalous.

    An embedding describes each patch of a picture by a vector, and a detector learns
    the vectors of all patches of the normal pictures. The map is the detector's anomaly
    of each patch, interpolated to the pixels of the picture and smoothed; the score is
    the maximum of the map, or another summary of it.

    Read more in the :ref:`User Guide <image>`.

    Parameters
    ----------
    embedding : PatchEmbedding or None, default=None
        What describes patches; is cloned. None is ``PatchEmbedding()``, the built-in
        bank of filters.
    detector : detector or None, default=None
        Any detector on vectors with `score_samples`, of skad or of scikit-learn; is
        cloned. None is ``Mahalanobis(covariance="ledoit_wolf")``.
    positions : {"shared", "each", "features"}, default="shared"
        One detector for all places; one for each place of the grid, for pictures that
        are aligned; or one for all, with the place as two more features.
    position_weight : float, default=1.0
        Standard deviation, in units of that of all features together, that the two
        features of ``positions="features"`` get.
    scales : {"joined", "each"}, default="joined"
        One detector for the features of all layers of the embedding together; or one
        for those of each layer, whose anomalies are added.
    device : str, default="auto"
        "cpu", a device of torch such as "cuda", or "auto": a tensor's own device, and
        for arrays the GPU when the work is worth the trip. Detectors of skad get
        tensors where that is not the host.

    Attributes
    ----------
    embedding_ : PatchEmbedding
        The fitted embedding.
    detectors_ : list of detector
        The fitted detector, or one for each place, row by row; with ``scales="each"``
        those of the first layer come first.

    See Also
    --------
    PaDiM : A Gaussian for each place, for hundreds of features at once.
    PatchCore : The nearest patch in a thinned out memory.

    Notes
    -----
    With ``scales="each"`` every layer is scored at the grid of the first, to which the
    embedding brings its features: repeated (``interpolation="nearest"``), the anomaly
    is that on the layer's own grid. Detectors whose anomalies are of one scale, such as
    densities, can be added as they are.

    The detector's own `contamination` is not used. With ``positions="each"`` there are
    as many detectors as places and each learns from as many vectors as there are
    pictures. The cost is the backbone's and the detector's on all patches. With
    ``contamination="auto"`` the threshold comes from pictures whose patches copies of
    the detector have not learned from: a detector's own honest scores of patches do not
    make a picture's. Up to 200 pictures five copies are fitted, beyond that one; the
    backbone sees pictures once, unless their features exceed scikit-learn's
    ``working_memory`` and are computed again for every copy.

    References
    ----------
    .. [1] T. Defard et al., "PaDiM: a patch distribution modeling framework for anomaly
       detection and localization", ICPR workshops, 2021 (one model for each place).
    .. [2] J. Yi and S. Yoon, "Patch SVDD: patch-level SVDD for anomaly detection and
       segmentation", ACCV, 2020 (one model for all places).

    Examples
    --------
    >>> import numpy as np
    >>> from skad import IsolationForest
    >>> from skad.image import PatchDetector
    >>> rng = np.random.default_rng(0)
    >>> good = rng.normal(0.5, 0.02, size=(8, 32, 32))
    >>> bad = good[:1].copy()
    >>> bad[0, 8:12, 20:24] = 1.0
    >>> detector = PatchDetector(
    ...     detector=IsolationForest(), smoothing=1, random_state=0
    ... )
    >>> detector.fit(good).predict(bad)
    array([-1])
    """

    embedding: PictureEmbedding | None = None
    detector: Any = None
    _: KW_ONLY
    positions: str = "shared"
    position_weight: float = 1.0
    scales: str = "joined"

    _parameter_constraints = {
        "detector": [HasMethods(["fit", "score_samples"]), None],
        "embedding": [PictureEmbedding, None],
        "positions": [StrOptions({"shared", "each", "features"})],
        "position_weight": [Interval(Real, 0, None, closed="left")],
        "scales": [StrOptions({"joined", "each"})],
    }

    def _made_embedding(self):
        return PatchEmbedding() if self.embedding is None else self.embedding

    def _tells_layers(self):
        return self.scales == "each"

    def _fit_members(self, training, pictures, random):
        """Set what is learned from the patches of some pictures, given by number."""
        self._unit_ = []
        if self.positions == "each":
            features = training.all().flatten(1, 2)  # (n, p, d)
            layers, places = self._layers(features), range(features.shape[1])
            rows = (layer[pictures, place] for layer in layers for place in places)
            n_members = len(layers) * len(places)
        else:
            patches, places = self._drawn(training, pictures, random)
            rows = list(self._layers(patches))
            n_members = len(rows)
            if self.positions == "features":
                self._unit_ = [
                    self.position_weight * float(part.std()) for part in rows
                ]
                rows = [
                    self._placed(part, places, training.grid, unit)
                    for part, unit in zip(rows, self._unit_, strict=True)
                ]
        self.detectors_ = [
            self._fit_member(part, random)
            for part in self._steps(rows, "fit", n_members)
        ]

    def _check_parameters(self, X):
        if self.positions == "each" and X.shape[0] < 2:
            raise ValueError("positions='each' needs two pictures, n_samples=1.")

    def _placed(self, patches, places, grid, unit):
        """Return patches (m, d) with their row and column as two more features."""
        height, width = grid
        kind = {"dtype": patches.dtype, "device": patches.device}
        place = torch.stack([places // width, places % width], 1).to(**kind)
        # -1 to 1 where the grid has more than one row or column, scaled to deviation 1
        ends = torch.tensor([height - 1, width - 1], **kind).clamp(min=1)
        return torch.cat([patches, (2 * place / ends - 1) * 3**0.5 * unit], 1)

    def _fit_member(self, rows, random):
        detector = self.detector
        if detector is None:
            from skad.density import Mahalanobis

            detector = Mahalanobis(covariance="ledoit_wolf")
        return seeded_clone(detector, random).fit(self._as_input(rows, detector))

    def _anomaly_of_patches(self, features):
        """Return the anomaly (b, gh, gw) of patches (b, gh, gw, d)."""
        layers = self._layers(features)
        n = len(self.detectors_) // len(layers)
        return sum(
            self._anomaly_of_layer(layer, i, self.detectors_[i * n : (i + 1) * n])
            for i, layer in enumerate(layers)
        )

    def _anomaly_of_layer(self, features, i, members):
        """Return the anomaly (b, gh, gw) of the i-th layer's features."""
        shape, rows = features.shape[:3], features.flatten(0, 2)
        if self.positions == "each":
            parts = zip(features.flatten(1, 2).unbind(1), members, strict=True)
            found = torch.stack([self._anomaly_of(*part) for part in parts], 1)
        else:
            if self.positions == "features":
                places = torch.arange(shape[1] * shape[2]).repeat(shape[0])
                unit = np.ravel(self._unit_)[i]  # a number in files of 0.1
                rows = self._placed(rows, places, shape[1:], unit)
            found = self._anomaly_of(rows, members[0])
        return found.to(features).reshape(shape)
