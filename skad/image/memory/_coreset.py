"""Greedy k-center: few points of which every point has one nearby.

The greedy choice takes the point that is farthest from all chosen so far. Done one by
one, each choice reads every point. Here a round looks at the `block` farthest points
only: as long as the farthest of them is farther than the first point outside of the
block was, it is the farthest of all, since distances only shrink. Then one product of
matrices brings all points up to date. The choices are the same, ties and rounding
aside.
"""

import math

import torch
from sklearn import get_config
from sklearn.random_projection import johnson_lindenstrauss_min_dim

from skad._array import blocks
from skad.image.memory._search import mask_own


def project(points, seed, eps=0.9):
    """Return a random projection of points (n, d) that keeps distances within `eps`.

    The number of dimensions is that of the Johnson-Lindenstrauss lemma; points with no
    more dimensions stay as they are.
    """
    d = johnson_lindenstrauss_min_dim(len(points), eps=eps)
    if d >= points.shape[1]:
        return points
    random = torch.Generator().manual_seed(seed)
    shape = (points.shape[1], int(d))
    matrix = torch.randn(shape, generator=random, dtype=torch.float64) / math.sqrt(d)
    return points @ matrix.to(points)


class GreedyKCenter:
    """Chooses points one after the other, each the farthest from all before.

    Iterating goes through the rounds and yields how many points are chosen so far.

    Parameters
    ----------
    points : tensor of shape (n, d)
        The points.
    n_picks : int
        How many are chosen; fewer where the rest are repetitions of those.
    start : int, default=0
        Index of the first choice.
    block : int, default=512
        Candidates of a round.
    groups : tensor of shape (n,) or None, default=None
        The picture that each point belongs to, for `other`.

    Attributes
    ----------
    picks : tensor of shape (n_picks,)
        Indices of the chosen points, in order.
    owner : tensor of shape (n,)
        For each point the place in `picks` of the chosen point nearest to it.
    other : tensor of shape (n,)
        With `groups`, the same among the chosen points of other groups; -1 where all
        are of its own.
    """

    def __init__(self, points, n_picks, start=0, block=512, groups=None):
        self.points, self.n_picks, self.block = points, n_picks, block
        self.squares = torch.cat(
            [points[rows].square().sum(1) for rows in blocks(*points.shape)]
        )
        self.nearest = torch.full_like(self.squares, math.inf)
        self.picks = torch.tensor([start], device=points.device)
        self.owner = torch.zeros(len(points), dtype=torch.long, device=points.device)
        self.groups = groups
        if groups is not None:
            self.apart = torch.full_like(self.nearest, math.inf)
            self.other = torch.full_like(self.owner, -1)

    def __iter__(self):
        """Choose, round by round."""
        fresh = self.picks
        while True:
            self._shrink(fresh)
            yield len(self.picks)
            n_left = self.n_picks - len(self.picks)
            if not n_left or float(self.nearest.max()) <= 0:
                return
            n_top = min(self.block + 1, len(self.points))
            top, candidates = torch.topk(self.nearest, n_top)
            rest = float(top[-1]) if n_top > self.block else 0.0
            candidates, top = candidates[: self.block], top[: self.block]
            fresh = candidates[_pick(self.points[candidates], top, rest, n_left)]
            self.picks = torch.cat([self.picks, fresh])

    def _shrink(self, fresh):
        """Take the squared distances to new choices into account, block by block."""
        points, squares, n_before = self.points, self.squares, len(self.picks)
        n_before -= len(fresh)
        chosen, own = points[fresh], squares[fresh]
        n_elements = len(fresh) + points.shape[1]
        for rows in blocks(len(points), n_elements, points.device):
            table = torch.addmm(own, points[rows], chosen.T, alpha=-2)
            distances, place = table.min(1)
            distances = distances.add_(squares[rows]).clamp_(min=0)
            closer = distances < self.nearest[rows]
            self.nearest[rows][closer] = distances[closer]
            self.owner[rows][closer] = place[closer] + n_before
            if self.groups is not None:
                mask_own(table, self.groups[rows], self.groups[fresh])
                distances, place = table.min(1)
                distances += squares[rows]
                closer = distances < self.apart[rows]
                self.apart[rows][closer] = distances[closer]
                self.other[rows][closer] = place[closer] + n_before
        self.nearest[fresh] = -1.0  # chosen
        self.owner[fresh] = torch.arange(len(fresh), device=points.device) + n_before


def _pick(candidates, nearest, rest, n_most):
    """Return places in the block of choices that no point outside of it can beat."""
    squares = candidates.square().sum(1)
    distances = squares[:, None] + squares[None, :] - 2 * candidates @ candidates.T
    distances = distances.clamp_(min=0).cpu().numpy()
    nearest = nearest.cpu().numpy().copy()
    picks = []
    while len(picks) < n_most:
        best = nearest.argmax()
        # the first is the farthest of all in any case
        if picks and (nearest[best] < rest or nearest[best] <= 0):
            break
        picks.append(int(best))
        nearest = nearest.clip(max=distances[best])
        nearest[picks] = -1.0
    return torch.tensor(picks, device=candidates.device)


def core_set(parts, ratio):
    """Return a share of points (n, d) that come in parts, at least one.

    Where they exceed a quarter of scikit-learn's `working_memory`, what has come is
    thinned out to that share, and all that is left at the end: a core-set of core-sets.
    The first point is drawn by torch's generator.

    Parameters
    ----------
    parts : iterable of tensor of shape (b, d)
        The points.
    ratio : float
        The share, up to 1.
    """
    most, left, waiting, n_bytes, n = get_config()["working_memory"], [], [], 0, 0
    for part in parts:
        waiting.append(part)
        n_bytes, n = n_bytes + part.nbytes, n + len(part)
        if n_bytes > most * 2**18 and ratio < 1:
            left, waiting, n_bytes = [*left, _thinned(waiting, ratio)], [], 0
    if left:
        waiting = [*left, _thinned(waiting, ratio)] if waiting else left
    return _thinned(waiting, ratio, max(1, round(ratio * n)))


def _thinned(parts, ratio, size=None):
    """Return the core-set of a share, or of `size`, of points that come in parts."""
    points = torch.cat(parts)
    size = max(1, round(ratio * len(points))) if size is None else size
    if size >= len(points):
        return points
    seed, start = torch.randint(2**31 - 1, ()), torch.randint(len(points), ())
    chosen = GreedyKCenter(project(points, int(seed)), size, int(start))
    for _ in chosen:
        pass
    return points[chosen.picks]
