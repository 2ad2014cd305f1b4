"""SoftPatch: a memory without the patches that are outliers among training pictures."""

from numbers import Integral, Real

from skad._parameters import with_parameters
from skad._sklearn import Interval
from skad.image.memory._bank import PatchBank
from skad.image.memory._coreset import project
from skad.image.memory._factors import outlier_factors


@with_parameters
class SoftPatch(PatchBank):
    r"""Patches unlike normal ones, learned from pictures of which some have defects.

    Every training patch is rated by its local outlier factor :math:`W` among the
    patches of all pictures at the same place :math:`(h, w)`, with the `n_neighbors`
    nearest :math:`N` of them,

    .. math:: W_i(h, w) = \frac{1}{k} \sum_{j \in N(i)} lrd_j(h, w) \, / \,
        lrd_i(h, w).

    The share `outlier_ratio` of patches with the largest factors is left out, and the
    memory bank :math:`\mathcal{M}` is a core-set of the others. The anomaly of a patch
    :math:`p` counts by the factor of its neighbour :math:`m^*` in the bank,

    .. math:: s(p) = W_{m^*} \min_{m \in \mathcal{M}} \lVert p - m \rVert^2;

    the map is that, interpolated to the pixels of the picture and smoothed, and the
    score is its maximum.

    Read more in the :ref:`User Guide <image>`.

    Parameters
    ----------
    outlier_ratio : float, default=0.15
        Share of the training patches that the bank does without, :math:`\tau` in the
        paper; below 1.
    n_neighbors : int, default=6
        Neighbours :math:`k` of the factor; all of the other pictures where there are
        fewer.
    projection_eps : float or None, default=0.9
        Factors and the core-set are found on random projections that keep distances up
        to this share; None finds them on the features themselves.
    random_state : int, RandomState instance or None, default=None
        Draws the projections and the first patch of the core-set. Pass an int for
        reproducible results.

    Attributes
    ----------
    weights_ : tensor of shape (n_patches,)
        The factors :math:`W` of the patches of the bank.

    See Also
    --------
    PatchCore : Keeps patches of all training pictures, defects too.
    InReaCh : Keeps the patches that many pictures have.

    Notes
    -----
    It needs pictures that are roughly aligned: what is rare at its place is left out,
    what is rare and normal as well. The factors cost O(p n^2 d) for p places, n
    pictures and d features; for scoring it is `PatchCore`. Where the features of all
    pictures do not fit in scikit-learn's ``working_memory``, patches are rated among
    the pictures of their part, a quarter of it, and over Dask those of their block.

    Distances are squared, as in the authors' code, and the number of neighbours is
    that of its script. There a patch with a large factor may still be drawn as the
    first of the core-set; here it cannot. Factors are found by the projection that
    chooses the core-set, instead of 128 untrained linear units, and where patches
    repeat they stay finite, as in :class:`skad.neighbors.LOF`. The score is the maximum
    of the smoothed map, as in `PatchCore`, and not the largest patch.

    With ``contamination="auto"`` the threshold comes from the training pictures' scores
    without their own patches in the bank. Those of pictures with defects are among
    them: where a share of the pictures has defects, pass it as `contamination`.

    References
    ----------
    .. [1] X. Jiang, J. Liu, J. Wang, Q. Nie, K. Wu, Y. Liu, C. Wang and F. Zheng,
       "SoftPatch: unsupervised anomaly detection with noisy data", NeurIPS, 2022,
       section 3 (with local outlier factors).

    Examples
    --------
    >>> import numpy as np
    >>> from skad.image import SoftPatch
    >>> rng = np.random.default_rng(0)
    >>> pictures = rng.normal(0.5, 0.02, size=(20, 32, 32))
    >>> pictures[0, 8:12, 20:24] = 1.0
    >>> detector = SoftPatch(contamination=0.05, smoothing=1, random_state=0)
    >>> detector.fit(pictures).predict(pictures[:3])
    array([-1,  1,  1])
    """

    outlier_ratio: float = 0.15
    n_neighbors: int = 6

    _bounded = False
    _parameter_constraints = {
        "outlier_ratio": [Interval(Real, 0, 1, closed="left")],
        "n_neighbors": [Interval(Integral, 1, None, closed="left")],
    }

    def _candidates(self, features, owners, random):
        patches, own = super()._candidates(features, owners, random)
        points = patches
        if self.projection_eps is not None:
            seed = random.randint(2**31 - 1)
            points = project(patches, seed, self.projection_eps)
        n, height, width = features.shape[:3]
        places = points.reshape(n, height * width, -1).transpose(0, 1)  # (p, n, d)
        factors = outlier_factors(places, self.n_neighbors).T.flatten()
        n_kept = len(factors) - int(self.outlier_ratio * len(factors))
        kept = factors <= factors.kthvalue(n_kept).values
        return patches[kept], own[kept], factors[kept]

    def _set_bank(self, bank, owners, weights):
        super()._set_bank(bank, owners)
        self.weights_ = weights

    def _weighed(self, distances, indices):
        return distances.square() * self.weights_.to(distances)[indices]
