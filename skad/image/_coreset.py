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
from sklearn.random_projection import johnson_lindenstrauss_min_dim

from skad._array import blocks


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


def greedy_k_center(points, n_picks, start=0, block=512):
    """Yield the indices (r,) that each round chooses, `n_picks` of them in all.

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
    """
    squares = points.square().sum(1)
    nearest = torch.full_like(squares, math.inf)
    picks, n_left = torch.tensor([start], device=points.device), n_picks - 1
    while True:
        yield picks
        _shrink(nearest, points, squares, picks)
        if not n_left or float(nearest.max()) <= 0:
            return
        top, candidates = torch.topk(nearest, min(block + 1, len(points)))
        rest = float(top[-1]) if len(top) > block else 0.0
        picks = _pick(points[candidates[:block]], top[:block], rest, n_left)
        picks = candidates[picks]
        n_left -= len(picks)


def _shrink(nearest, points, squares, picks):
    """Take the squared distances to the new choices into account, block by block."""
    chosen, own = points[picks], squares[picks]
    for rows in blocks(len(points), len(picks) + points.shape[1], points.device):
        distances = torch.addmm(own, points[rows], chosen.T, alpha=-2).amin(1)
        distances += squares[rows]
        nearest[rows] = torch.minimum(nearest[rows], distances.clamp_(min=0))
    nearest[picks] = -1.0  # chosen


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
