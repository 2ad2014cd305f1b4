"""InReaCh: a memory of the patches that recur in many pictures."""

from numbers import Integral, Real

import torch

from skad._array import blocks
from skad._parameters import with_parameters
from skad._sklearn import Interval
from skad.image.memory._bank import PatchBank


def association(pictures, seeds):
    """Return the seed (n, p) that each patch of pictures recurs with, -1 for none.

    A patch and a seed are associated when each is the nearest of the other, among the
    seeds of one picture and the patches of the other picture. Of several seeds the
    nearest counts.

    Parameters
    ----------
    pictures : tensor of shape (n, p, d)
        The patches of pictures.
    seeds : tensor of shape (s,)
        The pictures whose patches are seeds; seed ``i * p + j`` is the patch j of
        ``seeds[i]``. They are not associated with those of their own picture.
    """
    n_pictures, n_patches, d = pictures.shape
    seeds = seeds.to(pictures.device)
    known, squares = pictures[seeds], pictures.square().sum(2)
    places = torch.arange(n_patches, device=pictures.device)
    numbers = torch.arange(n_pictures, device=pictures.device)
    found = torch.empty((n_pictures, n_patches), dtype=torch.long, device=places.device)
    elements = 2 * len(seeds) * n_patches * max(n_patches, d)
    for part in blocks(n_pictures, elements, pictures.device):
        rows = pictures[part]  # (b, p, d)
        away = (known.flatten(0, 1) @ rows.flatten(0, 1).T).mul_(-2)
        away += squares[part].flatten()
        away += squares[seeds].flatten()[:, None]
        away = away.reshape(*known.shape[:2], *rows.shape[:2])  # (s, p, b, p)
        forth, back = away.argmin(3).mT, away.argmin(1)  # (s, b, p)
        other = (forth.gather(2, back) != places) | (
            seeds[:, None, None] == numbers[part][:, None]
        )
        of_seed = torch.arange(len(seeds), device=places.device)[:, None, None]
        distance = (rows - known[of_seed, back]).square().sum(3)
        best, seed = distance.masked_fill_(other, torch.inf).min(0)  # (b, p)
        joined = seed * n_patches + back.gather(0, seed[None])[0]
        found[part] = joined.masked_fill_(best == torch.inf, -1)
    return found


def recurring(pictures, seeds, min_length, max_deviation):
    """Return which patches (n, p) of pictures are in a channel that is kept.

    A channel is a seed and the patches associated with it. Channels of more than
    `min_length` patches are kept, without those farther from the channel's mean than
    `max_deviation` times the root mean square of that distance, if as many are left.

    Parameters
    ----------
    pictures : tensor of shape (n, p, d)
        The patches of pictures.
    seeds : tensor of shape (s,)
        The pictures whose patches are seeds.
    min_length : int
        The length that a channel has to exceed.
    max_deviation : float
        The deviation that a patch must not exceed.
    """
    n_patches = pictures.shape[1]
    rows, joined = pictures.flatten(0, 1), association(pictures, seeds).flatten()
    places = torch.arange(n_patches, device=rows.device)
    own = (seeds.to(rows.device)[:, None] * n_patches + places).flatten()
    members = (joined >= 0).nonzero()[:, 0]
    # of every channel the seed itself and its members: numbers of patches
    patch = torch.cat([own, members])
    channel = torch.cat([torch.arange(len(own), device=rows.device), joined[members]])
    length = torch.bincount(channel, minlength=len(own))
    mean = rows.new_zeros(len(own), rows.shape[1])
    mean.index_add_(0, channel, rows[patch]).div_(length[:, None])
    away = (rows[patch] - mean[channel]).square().sum(1)
    variance = away.new_zeros(len(own)).index_add_(0, channel, away) / length
    near = away <= max_deviation**2 * variance[channel]
    left = torch.bincount(channel[near], minlength=len(own))
    near &= (torch.minimum(length, left) > min_length)[channel]
    kept = torch.zeros(len(rows), dtype=torch.bool, device=rows.device)
    kept[patch[near]] = True
    return kept.reshape(pictures.shape[:2])


@with_parameters
class InReaCh(PatchBank):
    r"""Patches unlike those that recur in many of the training pictures.

    The patches of `n_seeds` pictures, drawn at random, are seeds. A patch of another
    picture is associated with a seed when each is the other's nearest, among the
    patches of the two pictures; it joins the nearest of its seeds. A seed and what
    joined it are a channel: what recurs in all pictures makes long channels, a defect
    none. Channels of more than `min_length` patches are kept, without patches farther
    from the channel's mean :math:`\mu` than `max_deviation` times :math:`\sigma`, with
    :math:`\sigma^2` the mean of :math:`\lVert p - \mu \rVert^2`. A core-set of their
    patches is the memory bank :math:`\mathcal{M}`, and the anomaly of a patch is

    .. math:: s(p) = \min_{m \in \mathcal{M}} \lVert p - m \rVert^2;

    the map is that, interpolated to the pixels of the picture and smoothed, and the
    score is its maximum.

    Read more in the :ref:`User Guide <image>`.

    Parameters
    ----------
    n_seeds : int, default=10
        Pictures whose patches are seeds, the association depth; all of the pictures
        where there are fewer.
    min_length : int, default=3
        Length that a channel has to exceed, less than the number of pictures.
    max_deviation : float, default=5.0
        Farthest distance of a patch from its channel's mean, in units of
        :math:`\sigma`, above 0.
    coreset_ratio : float, default=0.1
        Share of the training patches that the bank keeps, of those in channels; 1 is
        all of them.
    random_state : int, RandomState instance or None, default=None
        Draws the seeds, the projection and the first patch of the core-set. Pass an int
        for reproducible results.

    See Also
    --------
    SoftPatch : Leaves out what is an outlier at its place.
    PatchCore : Keeps patches of all training pictures, defects too.

    Notes
    -----
    Pictures need not be aligned, but have to show the same things; a defect that looks
    the same in more than `min_length` pictures recurs. What is normal and in few
    pictures only is no part of the bank. `fit` compares the p patches of all n pictures
    with those of s seeds, O(s n p^2 d), and keeps the features of all pictures in
    memory.

    The seeds are drawn; in the authors' code they are those of the first pictures,
    which in their evaluation have no defects. They keep all patches of channels
    (``coreset_ratio=1``), tap 13 layers of a Wide-ResNet-50-2 instead of two, decide by
    the pixels whether pictures are aligned and then add the place to the features,
    which is left out here, and smooth maps more (``smoothing=13``). What the paper
    calls a spherical standard deviation is taken for the root mean square above.

    With ``contamination="auto"`` the threshold comes from the training pictures' scores
    without their own patches in the bank. Those of pictures with defects are among
    them: where a share of the pictures has defects, pass it as `contamination`.

    References
    ----------
    .. [1] D. McIntosh and A. B. Albu, "Inter-realization channels: unsupervised anomaly
       detection beyond one-class classification", ICCV, 2023, section 3.

    Examples
    --------
    >>> import numpy as np
    >>> from skad.image import InReaCh
    >>> rng = np.random.default_rng(0)
    >>> texture = rng.normal(0.5, 0.1, size=(32, 32))
    >>> pictures = texture + rng.normal(0, 0.01, size=(20, 32, 32))
    >>> pictures[0, 8:12, 20:24] = 1.0
    >>> detector = InReaCh(contamination=0.05, smoothing=1, random_state=0)
    >>> detector.fit(pictures).predict(pictures[:3])
    array([-1,  1,  1])
    """

    n_seeds: int = 10
    min_length: int = 3
    max_deviation: float = 5.0

    _bounded = False
    _in_parts = False
    _parameter_constraints = {
        "n_seeds": [Interval(Integral, 1, None, closed="left")],
        "min_length": [Interval(Integral, 0, None, closed="left")],
        "max_deviation": [Interval(Real, 0, None, closed="neither")],
    }

    def _check_parameters(self, X):
        n = X.shape[0]
        if n <= self.min_length:
            raise ValueError(
                f"min_length={self.min_length} has to be less than the number of "
                f"pictures, n_samples={n}: a channel has one patch of each at most."
            )

    def _candidates(self, features, owners, random):
        patches, own = super()._candidates(features, owners, random)
        n = features.shape[0]
        seeds = torch.as_tensor(random.permutation(n)[: self.n_seeds])
        pictures = features.flatten(1, 2)
        kept = recurring(pictures, seeds, self.min_length, self.max_deviation).flatten()
        if not kept.any():
            raise ValueError(
                f"No patch recurs in more than min_length={self.min_length} of the "
                f"{n} pictures: lower it, or raise n_seeds={self.n_seeds}."
            )
        return patches[kept], own[kept]

    def _weighed(self, distances, indices):
        return distances.square()
