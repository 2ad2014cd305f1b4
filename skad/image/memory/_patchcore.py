"""PatchCore: distance to the nearest patch in a memory of normal ones."""

from numbers import Integral

import torch

from skad._parameters import with_parameters
from skad._sklearn import Interval
from skad.image.memory._bank import PatchBank
from skad.image.memory._peaks import farthest_patches
from skad.image.memory._reweighting import reweighted
from skad.image.memory._search import nearest


@with_parameters
class FarthestPatchBank(PatchBank):
    """Base of banks that may score a picture by its farthest patch.

    Parameters
    ----------
    n_neighbors : int or None, default=None
        :math:`b`, 9 in the paper; 1 is :math:`s^*` itself, as in the authors' code.
        None is what `pooling` makes of the map, which is not used otherwise.
    """

    n_neighbors: int | None = None

    _parameter_constraints = {
        "n_neighbors": [Interval(Integral, 1, None, closed="left"), None],
    }

    def _uses_bounds(self):
        return self.n_neighbors is not None or super()._uses_bounds()

    def _picture(self, patches, features, indices, own=None, maps=None):
        if self.n_neighbors is None:
            return super()._picture(patches, features, indices, own, maps)
        largest, place = patches.flatten(1).max(1)
        rows = torch.arange(features.shape[0], device=features.device)
        patch = features.flatten(1, 2)[rows, place]
        return self._of_farthest(patch, largest, indices.flatten(1)[rows, place], own)

    def _from_bounds(self, features, bounds, owners):
        if self.n_neighbors is None:
            return super()._from_bounds(features, bounds, owners)
        features, known = features.flatten(1, 2), (self.bank_, self._squares_)

        def search(pictures, which):
            own = None
            if owners is not None:
                own = owners[pictures].repeat_interleave(which.shape[1])
            queries = features[pictures[:, None], which].flatten(0, 1)
            found = nearest(queries, *known, own, self.owners_)
            return (each.reshape(which.shape) for each in found)

        largest, place, neighbour = farthest_patches(bounds.flatten(1), search)
        patch = features[torch.arange(len(place), device=place.device), place]
        return self._of_farthest(patch, largest, neighbour, owners)

    def _of_farthest(self, patch, largest, neighbour, own=None):
        """Return the paper's anomaly (b,) of pictures from their farthest patches."""
        bank = self._known_bank(patch)
        k, owners = self.n_neighbors, self.owners_
        return reweighted(patch, largest, neighbour, *bank, k, own, owners)


@with_parameters
class PatchCore(FarthestPatchBank):
    r"""Patches unlike every patch of the normal pictures.

    A network describes each patch of a picture by features of its middle layers, each
    averaged over its surroundings. A memory bank :math:`\mathcal{M}` keeps the
    features of normal patches, thinned out to a core-set that covers all of them. The
    anomaly of a patch :math:`p` is

    .. math:: s(p) = \min_{m \in \mathcal{M}} \lVert p - m \rVert,

    the map is that, interpolated to the pixels of the picture and smoothed, and the
    score is its maximum. With `n_neighbors` the score is the paper's instead: of the
    patch :math:`p^*` with the largest :math:`s^* = s(p^*)` and the neighbour
    :math:`m^*`,

    .. math:: a = \left(1 - \frac{\exp \lVert p^* - m^* \rVert}
        {\sum_{m \in N_b(m^*)} \exp \lVert p^* - m \rVert}\right) s^*,

    where :math:`N_b(m^*)` are the `n_neighbors` patches of the bank nearest to
    :math:`m^*`: a patch counts more where the bank is sparse.

    Read more in the :ref:`User Guide <image>`.

    See Also
    --------
    PaDiM : A Gaussian for each place of aligned pictures.
    GraphCore : The same on a vision graph network, with a smaller bank.
    PatchDetector : Any detector on the features of patches.

    Notes
    -----
    The core-set is the greedy k-center set, the one that adding the farthest patch one
    by one chooses, found a few hundred at a time. While the features of all training
    patches fit in scikit-learn's ``working_memory`` (1 GiB unless `sklearn.set_config`
    says otherwise) they are thinned out together; beyond that, batches of pictures are
    thinned out to `coreset_ratio` each as they come and all that is left to the size
    of the bank, a core-set of core-sets; then the backbone computes the features once
    more for the threshold. Scoring a picture costs O(p m d) beside the
    backbone, for p patches, m in the bank and d features. Features are averaged as in
    anomalib, with zeros beyond the border; the authors' code also averages groups of
    channels.

    The default departs from the paper's score. On nine sets of pictures, seven of them
    textures that were drawn for it, and two backbones the maximum of the smoothed map
    orders pictures better than the largest patch in the mean, and the factor adds
    nothing to either (``benchmarks/results/images_pooling.tsv``).

    With ``contamination="auto"`` the threshold comes from the training pictures' scores
    without their own patches: in the bank and among the neighbours of :math:`m^*` only
    those of other pictures count. Of one picture no other is left, and its own score is
    the threshold. A number takes the scores with the own patches in the bank, which are
    lower than those of new normal pictures.

    References
    ----------
    .. [1] K. Roth, L. Pemula, J. Zepeda, B. Schölkopf, T. Brox and P. Gehler, "Towards
       total recall in industrial anomaly detection", CVPR, 2022, equations (4) to (7)
       and algorithm 1.
    .. [2] O. Sener and S. Savarese, "Active learning for convolutional neural networks:
       a core-set approach", ICLR, 2018, algorithm 1.

    Examples
    --------
    >>> import numpy as np
    >>> from skad.image import PatchCore
    >>> rng = np.random.default_rng(0)
    >>> good = rng.normal(0.5, 0.02, size=(8, 32, 32))
    >>> bad = good[:1].copy()
    >>> bad[0, 8:12, 20:24] = 1.0
    >>> detector = PatchCore(smoothing=1, random_state=0).fit(good)
    >>> detector.predict(bad)
    array([-1])
    >>> row, column = np.unravel_index(detector.transform(bad)[0].argmax(), (32, 32))
    >>> bool(7 <= row <= 12 and 19 <= column <= 24)
    True
    """
