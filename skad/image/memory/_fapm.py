"""FAPM: a small memory for each place and layer."""

from typing import Any

import torch

from skad._array import blocks
from skad._parameters import absent, with_parameters
from skad.image._layers import LayersMixin
from skad.image.memory._bank import PatchBank
from skad.image.memory._factors import place_distances


def adaptive_core_sets(rows, owners, size, start):
    """Return which rows (p, n) the core-sets of p places keep, `size` of all together.

    Greedy choices of the farthest row within a place, where the place with the farthest
    of all is the next that gets one: what varies more is kept in more rows. Every place
    keeps two, of different pictures where there are.

    Parameters
    ----------
    rows : tensor of shape (p, n, d)
        The patches of each place.
    owners : tensor of shape (n,)
        Their pictures.
    size : int
        Rows that are kept.
    start : int
        The row that every place chooses first.
    """
    reach = rows.new_empty(rows.shape[:2], dtype=torch.float64)
    others = owners != owners[start]
    for places in blocks(len(rows), 3 * rows.shape[1] ** 2, rows.device):
        away = place_distances(rows[places])
        away.diagonal(dim1=1, dim2=2).zero_()
        reach[places] = _reaches(away, others, start)
    # the first and second of each place are infinite
    size = min(max(size, 2 * len(rows)), reach.numel())
    chosen = reach.flatten().topk(size).indices
    kept = torch.zeros(reach.numel(), dtype=torch.bool, device=rows.device)
    kept[chosen] = True
    # what repeats a chosen row adds nothing, but the two of each place
    return kept.reshape(reach.shape) & (reach > 0)


def _reaches(away, others, start):
    """Return how far each row (q, n) is from those chosen before it; two infinite."""
    every = torch.arange(len(away), device=away.device)
    nearest, left = away[:, start].clone(), torch.ones_like(away[:, 0], dtype=bool)
    reach, left[:, start] = torch.full_like(nearest, torch.inf), False
    for i in range(1, away.shape[1]):
        open_ = left & others if i == 1 and others.any() else left
        farthest, pick = nearest.masked_fill(~open_, -1.0).max(1)
        reach[every, pick] = torch.inf if i == 1 else farthest
        left[every, pick] = False
        nearest = torch.minimum(nearest, away[every, pick])
    return reach


def nearest_at_place(features, bank, squares, owners, own=None):
    """Return the distance (b, p) to the nearest entry of the same place.

    Parameters
    ----------
    features : tensor of shape (b, p, d)
        The patches of pictures.
    bank : tensor of shape (p, m, d)
        The entries of each place.
    squares, owners : tensor of shape (p, m)
        Their squared lengths, infinite where there is none, and their pictures.
    own : tensor of shape (b,) or None
        The pictures whose own entries are left out.
    """
    rows = features.transpose(0, 1)  # (p, b, d)
    away = squares[:, None] - 2 * rows @ bank.mT  # (p, b, m)
    if own is not None:
        away = away.masked_fill(owners[:, None] == own[:, None], torch.inf)
    least, near = away.min(2)
    entries = bank.gather(1, near[..., None].expand(*near.shape, bank.shape[2]))
    found = (rows - entries).square().sum(2).sqrt()
    return found.masked_fill(least == torch.inf, torch.inf).T


@with_parameters
class FAPM(LayersMixin, PatchBank):
    r"""Patches unlike those of normal pictures at the same place.

    Each place :math:`i` of the grid has a small memory bank :math:`\mathcal{M}_{il}` of
    its own for each layer l of a network. The anomaly of a patch with features
    :math:`f_l` is

    .. math:: s_i = \sum_l \min_{m \in \mathcal{M}_{il}} \lVert f_l - m \rVert,

    the map is that, interpolated to the pixels of the picture and smoothed, and the
    score is its maximum. The banks are core-sets, larger where pictures differ more: in
    turn the patch that is farthest from the bank of its place, over all places, joins
    it. Pictures have to be aligned.

    Read more in the :ref:`User Guide <image>`.

    Parameters
    ----------
    coreset_ratio : float, default=0.1
        Share of the patches of a layer that all places together keep, two at each at
        least.
    random_state : int, RandomState instance or None, default=None
        Draws the picture that every core-set begins with. Pass an int for reproducible
        results.

    Attributes
    ----------
    bank_ : list of tensor of shape (n_places, n_entries, n_channels)
        The banks of each layer, filled up with zeros where places have fewer entries.
    owners_ : list of tensor of shape (n_places, n_entries)
        Number of the training picture that each entry comes from; -1 is none.

    See Also
    --------
    PatchCore : One bank for all places.
    PaDiM : A Gaussian for each place.

    Notes
    -----
    A patch is compared with the few entries of its place instead of all: scoring costs
    O(p m d) for p places and m entries at each, `fit` O(p n^2 d) for n pictures, whose
    features are kept in memory meanwhile. What is known of [1]_ here are the banks for
    places and layers and that their sizes adapt: the rule by which they do is ours.
    Layers are scored at the grid of the first, to which they are interpolated.

    With ``contamination="auto"`` the threshold comes from the training pictures' scores
    without their own patches in the banks.

    References
    ----------
    .. [1] D. Kim, C. Park, S. Cho and S. Lee, "FAPM: fast adaptive patch memory for
       real-time industrial anomaly detection", ICASSP, 2023.

    Examples
    --------
    >>> import numpy as np
    >>> from skad.image import FAPM
    >>> rng = np.random.default_rng(0)
    >>> good = rng.normal(0.5, 0.02, size=(20, 32, 32))
    >>> bad = good[:1].copy()
    >>> bad[0, 8:12, 20:24] = 1.0
    >>> detector = FAPM(smoothing=1, random_state=0).fit(good)
    >>> detector.predict(bad)
    array([-1])
    """

    bank_size: Any = absent()
    projection_eps: Any = absent()

    _bounded = False
    _in_parts = False

    def _check_parameters(self, X):
        if X.shape[0] < 2:
            raise ValueError("FAPM needs two pictures, n_samples=1.")

    def _fit_embedding(self, X):
        super()._fit_embedding(X)
        self._widths_ = None

    def _features(self, x):
        return self._measured(x)

    def _build(self, training, owners, random, honest):
        start = random.randint(training.n_pictures)
        self.bank_, self.owners_ = [], []
        for layer in self._layers(training.all().flatten(1, 2)):
            rows = layer.transpose(0, 1)  # (p, n, d)
            size = round(self.coreset_ratio * rows[..., 0].numel())
            kept = adaptive_core_sets(rows, owners, size, start)
            # the entries of a place first, then rows that are none
            order = kept.int().argsort(dim=1, descending=True, stable=True)
            order = order[:, : int(kept.sum(1).max())]
            there = kept.gather(1, order)
            entries = rows.gather(1, order[..., None].expand(-1, -1, rows.shape[2]))
            self.bank_.append(entries * there[..., None])
            self.owners_.append(owners[order].masked_fill(~there, -1))

    def _found(self, features, own=None):
        patches = 0
        for layer, bank, owners in zip(
            self._layers(features.flatten(1, 2)), self.bank_, self.owners_, strict=True
        ):
            owners, entries = owners.to(features.device), bank.to(features)
            squares = entries.square().sum(2).masked_fill(owners < 0, torch.inf)
            patches = patches + nearest_at_place(layer, entries, squares, owners, own)
        return patches.reshape(features.shape[:3]), None

    def _graph(self, x):
        patches = self._patches(x)
        maps = self._upsampled(patches)
        return self._summary(maps), maps
