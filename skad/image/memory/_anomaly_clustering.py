"""AnomalyClustering: pictures grouped by the kind of their defect."""

from numbers import Integral, Real
from operator import attrgetter
from typing import Self

import torch
from sklearn.base import ClusterMixin, clone
from sklearn.cluster import AgglomerativeClustering

from skad._array import slices, to_numpy
from skad._parameters import KW_ONLY, with_parameters
from skad._picture_input import check_pictures
from skad._sklearn import BaseEstimator, Interval, _fit_context
from skad.embedding import PatchEmbedding
from skad.embedding._pictures import PictureEmbedding, refuse_overflow
from skad.image._base import as_tensor
from skad.image.memory._search import nearest

# Elements of a block of products between the patches of pictures.
_PRODUCTS = 2**22


def both_ways(one, others):
    """Return distances of patches to the nearest of other pictures, and back.

    Parameters
    ----------
    one : tensor of shape (p, d)
        The patches of a picture.
    others : tensor of shape (m, p, d)
        Those of other pictures.

    Returns
    -------
    there : tensor of shape (m, p)
        From each patch of `one` to the nearest of each of the others.
    back : tensor of shape (m, p)
        From each patch of the others to the nearest of `one`.
    """
    squares = others.square().sum(2)  # (m, p)
    table = torch.addmm(squares.flatten(), one, others.flatten(0, 1).T, alpha=-2)
    table = table.view(len(one), *squares.shape)  # (p, m, p)
    found = table.argmin(2).T  # (m, p)
    table += one.square().sum(1)[:, None, None]
    sources = table.argmin(0)  # (m, p)
    rows = torch.arange(len(others), device=found.device)[:, None]
    # once more from the differences, so that an equal patch is at distance zero
    there = (one - others[rows, found]).square().sum(2).sqrt()
    return there, (others - one[sources]).square().sum(2).sqrt()


def to_others(patches):
    """Return for patches (n, p, d) the mean distance (n, p) to other pictures' nearest.

    The products of two pictures' patches give the distances of both.
    """
    n, p, d = patches.shape
    total = patches.new_zeros(n, p)
    size = max(1, _PRODUCTS // (p * max(p, d)))
    for i in range(n - 1):
        for rows in slices(n - 1 - i, size):
            rows = slice(rows.start + i + 1, rows.stop + i + 1)
            there, back = both_ways(patches[i], patches[rows])
            total[i] += there.sum(0)
            total[rows] += back
    return total / (n - 1)


def weigh(distances, temperature):
    """Return weights (n, p) of patches, which sum to one, and the unit of distances.

    Parameters
    ----------
    distances : tensor of shape (n, p)
        How unusual the patches of each picture are.
    temperature : float
        In units of the standard deviation of a picture's distances, on average.
    """
    unit = float(distances.std(1, correction=0).mean())
    above = distances - distances.amax(1, keepdim=True)
    return torch.softmax(above / (temperature * unit or 1.0), 1), unit


@with_parameters(kw_only=False)
class AnomalyClustering(ClusterMixin, BaseEstimator):
    r"""Groups of pictures that are anomalous in the same way.

    No detector: of pictures with and without defects, mixed, it says which belong
    together. An embedding describes each patch j of picture i by a vector
    :math:`z_{ij}`. How unusual a patch is, says its mean distance to the nearest patch
    of each other picture, or, where some pictures are known to be normal, to the
    nearest patch of all of these,

    .. math:: d_{ij} = \frac{1}{n - 1} \sum_{k \ne i} \min_l
        \lVert z_{ij} - z_{kl} \rVert \qquad \text{or} \qquad
        d_{ij} = \min_{k, l} \lVert z_{ij} - z_{kl} \rVert.

    A picture is described by the mean of its patches in which unusual ones weigh more,

    .. math:: \bar z_i = \sum_j \alpha_{ij} z_{ij}, \qquad
        \alpha_{ij} = \frac{\exp(d_{ij} / \tau)}{\sum_l \exp(d_{il} / \tau)},

    and those vectors are clustered hierarchically, by Ward's criterion [1]_.

    Read more in the :ref:`User Guide <anomaly_clustering>`.

    Parameters
    ----------
    n_clusters : int, default=2
        Number of kinds, normal pictures among them.
    temperature : float, default=0.4
        The temperature :math:`\tau` in units of the standard deviation of the distances
        within a picture (`distance_unit_`). Near zero the most unusual patch of a
        picture describes it, towards infinity the mean of all.
    embedding : PatchEmbedding or None, default=None
        What describes patches; is cloned. None is ``PatchEmbedding()``, the built-in
        bank of filters. It says how pictures are resized, how many are computed
        together and where, and what shape pictures that come as rows have.

    Attributes
    ----------
    labels_ : ndarray of shape (n_samples,)
        The cluster of each picture, from 0 on.
    patch_weights_ : ndarray of shape (n_samples, grid_height, grid_width)
        The weights :math:`\alpha_{ij}`, a map of what describes a picture.
    patch_distances_ : ndarray of shape (n_samples, grid_height, grid_width)
        The distances :math:`d_{ij}`.
    vectors_ : ndarray of shape (n_samples, n_patch_features)
        The means :math:`\bar z_i`, for other methods of clustering.
    children_ : ndarray of shape (n_samples - 1, 2)
        Which two were merged, step by step: pictures by their number, and above these
        what earlier steps had merged, as in `sklearn.cluster.AgglomerativeClustering`.
    distance_unit_ : float
        Mean over pictures of the standard deviation of their distances.
    embedding_ : PatchEmbedding
        The fitted embedding.
    n_features_in_ : int
        Number of elements of a picture.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Names of the features, where `X` has string names.

    See Also
    --------
    MuSc : Scores pictures by one another, where kinds do not matter.
    PatchCore : Detects what is no normal picture.

    Notes
    -----
    In the paper :math:`\tau` is a distance and depends on what describes patches; here
    the weights stay the same when features are scaled. Pass ``tau / distance_unit_``
    for a distance. The default is from MVTec AD: of DINO's ViT-B/8 a re-implementation
    [2]_ finds its best values at 2 to 2.5 with normal pictures, and within 0.4 and 4
    without, where the unit is about 5. What describes patches there is a wide
    ResNet-50, which the authors prefer over others.

    Of 192 magnetic tiles, good or with one of five kinds of defects, clusters and kinds
    have a normalized mutual information of 0.22 by weights from other pictures and 0.39
    from 32 normal ones, where the mean of all patches has 0.27, with a ResNet-18; 0.13,
    0.24 and 0.06 with the filters that need no weights. Of cookies, good or cracked, it
    is 0.07, 0.85 and 0.03 with these, but 0.09, 0.09 and 0.86 with a ResNet-18, less
    than the mean of all patches: one of the two clusters is five odd cracked cookies,
    and it takes three to tell good ones (``benchmarks/results/images_clustering.tsv``).
    Defects that most pictures have are not unusual but beside normal ones.

    Features of all pictures are kept during `fit`, whose cost is O(n^2 p^2 d) without
    and O(n m p^2 d) with m normal pictures, of p patches with d features; distances are
    computed in blocks of bounded size. Halve the size of pictures for a sixteenth of
    the cost. The order of pictures does not matter but for the numbers of the clusters.

    References
    ----------
    .. [1] K. Sohn, J. Yoon, C.-L. Li, C.-Y. Lee and T. Pfister, "Anomaly clustering:
       grouping images into coherent clusters of anomaly types", WACV, 2023.
    .. [2] https://github.com/KevinWangHP/Anomaly-Clustering

    Examples
    --------
    >>> import numpy as np
    >>> from skad.image import AnomalyClustering
    >>> pictures = np.random.default_rng(0).normal(0.5, 0.02, size=(9, 32, 32))
    >>> pictures[3:6, 8:12, 20:24] = 1.0
    >>> pictures[6:, 15:17, 4:28] = 0.0
    >>> AnomalyClustering(3).fit_predict(pictures)
    array([0, 0, 0, 2, 2, 2, 1, 1, 1])
    """

    n_clusters: int = 2
    _: KW_ONLY
    temperature: float = 0.4
    embedding: PictureEmbedding | None = None

    _parameter_constraints = {
        "n_clusters": [Interval(Integral, 1, None, closed="left")],
        "temperature": [Interval(Real, 0, None, closed="neither")],
        "embedding": [PictureEmbedding, None],
    }

    n_features_in_ = property(attrgetter("embedding_.n_features_in_"))
    feature_names_in_ = property(attrgetter("embedding_.feature_names_in_"))

    @_fit_context(prefer_skip_nested_validation=False)
    def fit(self, X, y=None, X_normal=None) -> Self:
        """Group pictures by the kind of their defect.

        Parameters
        ----------
        X : array-like, tensor or files of shape (n_samples, height, width[, channels])
            Pictures, with and without defects, at least two and as many as clusters;
            also rows, with `image_shape` of the embedding or as pictures of one line.
        y : object
            Ignored.
        X_normal : array-like, tensor or files, default=None
            Pictures that are known to be normal, of the size of those in `X`. They are
            compared with and get no label.

        Returns
        -------
        self : object
            The fitted clustering.
        """
        embedding = PatchEmbedding() if self.embedding is None else self.embedding
        self.embedding_ = clone(embedding).fit(X)
        features = torch.cat(list(self._described(X)))  # (n, gh, gw, d)
        n, *grid, _ = features.shape
        if n < max(2, self.n_clusters):
            raise ValueError(
                f"n_clusters={self.n_clusters} of n_samples={n} pictures: pass as many "
                "as clusters, and two at least."
            )
        patches = features.flatten(1, 2)
        if X_normal is None:
            distances = to_others(patches)
        else:
            distances = self._to_normal(patches, X_normal)
        weights, self.distance_unit_ = weigh(distances, self.temperature)
        self.vectors_ = to_numpy((weights[:, None] @ patches)[:, 0])
        self.patch_weights_ = to_numpy(weights.view(n, *grid))
        self.patch_distances_ = to_numpy(distances.view(n, *grid))
        found = AgglomerativeClustering(
            self.n_clusters, linkage="ward", compute_full_tree=True
        ).fit(self.vectors_)
        self.labels_, self.children_ = found.labels_, found.children_
        return self

    def _described(self, X):
        """Yield the features (b, gh, gw, d) of pictures, batch by batch."""
        embedding = self.embedding_
        pictures = check_pictures(embedding, X, reset=False, any_values=True)
        for rows in slices(pictures.shape[0], embedding.batch_size):
            block = as_tensor(pictures[rows])
            features = embedding.embed(block.to(embedding._device_for(block)))
            refuse_overflow(features)
            yield features

    def _to_normal(self, patches, X_normal):
        """Return the distance (n, p) of patches to the nearest of normal pictures."""
        queries = patches.flatten(0, 1)
        found = torch.full_like(queries[:, 0], torch.inf)
        try:
            for features in self._described(X_normal):
                bank = features.flatten(0, 2).to(queries)
                away, _ = nearest(queries, bank, bank.square().sum(1))
                found = torch.minimum(found, away[:, 0])
        except ValueError as error:
            raise ValueError(f"X_normal cannot be used: {error}") from error
        return found.view(patches.shape[:2])

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        return tags
