"""What each element of a sample adds to a score, by gradients to the sample."""

from typing import NamedTuple

import torch

# Elements of points on the ways from a baseline that are scored together, where there
# are several for a sample: small passes cost what their calls cost.
_TOGETHER = 2**15

# Shares of a way that are not halved further: where a score jumps no step is enough.
_SHORTEST = 2.0**-14


def input_gradients(score, x):
    """Return the gradient of the summed scores to the samples, of the shape of `x`."""
    return scores_and_gradients(score, x)[1]


def scores_and_gradients(score, x):
    """Return the scores (b,) of samples, and the gradient of each to its sample."""
    with torch.enable_grad():
        x = x.detach().requires_grad_(True)
        scores = score(x)
        (gradient,) = torch.autograd.grad(scores.sum(), x)
    return scores.detach(), gradient


class Steps(NamedTuple):
    """Steps on the ways of samples: arrays of one entry a step."""

    rows: torch.Tensor  # numbers of the samples
    starts: torch.Tensor  # where they begin, a share of the way
    lengths: torch.Tensor
    low: torch.Tensor  # the score there,
    middle: torch.Tensor  # in their middle
    high: torch.Tensor  # and at their end
    missed: torch.Tensor  # of the difference of scores by the midpoint rule

    @classmethod
    def made(cls, rows, starts, lengths, low, middle, high, slopes):
        """Return steps, of which the slopes in the middle are known."""
        missed = high - low - slopes * lengths
        return cls(rows, starts, lengths, low, middle, high, missed)

    def of(self, chosen):
        """Return the steps that are chosen by a mask."""
        return Steps(*(part[chosen] for part in self))

    def with_others(self, others):
        """Return these steps and others behind them."""
        return Steps(*(torch.cat(both) for both in zip(self, others, strict=True)))


def add_rows(total, rows, parts):
    """Add parts (m, ...) to rows of a total, and return it: each time the same sums."""
    if total.is_cuda:  # where it sorts, and the other adds as threads come
        return total.index_put_((rows,), parts, accumulate=True)
    return total.index_add_(0, rows, parts)


def to_halve(steps, allowed, most_steps):
    """Return which steps (m,) to halve: of samples that miss more than they may (b,).

    They are those that miss more than half of what the worst of the sample does. Steps
    that are short already stay, and samples that would have too many.
    """
    rows, none = steps.rows, torch.zeros_like(allowed)
    sizes = torch.where(steps.lengths > _SHORTEST, steps.missed.abs(), 0)
    worst = none.scatter_reduce(0, rows, sizes, "amax")
    chosen = sizes > worst[rows] / 2
    open_ = add_rows(none.clone(), rows, steps.missed).abs() > allowed
    open_ &= add_rows(none.clone(), rows, 1 + chosen.to(none)) <= most_steps
    return chosen & open_[rows]


def integrated_gradients(score, x, baseline, steps=16, tolerance=0.02, most_steps=128):
    """Return what each element adds to the score on the straight way from a baseline.

    Sundararajan, Taly and Yan, "Axiomatic attribution for deep networks", ICML, 2017,
    equation (1), by the midpoint rule; parts sum to the score minus the baseline's.
    Where those of equal steps miss it, the steps that miss most of their own difference
    are halved, again and again: networks of rectified linear units have kinks on the
    way, at which all of the error is. How a way is cut depends on its sample alone.

    Parameters
    ----------
    score : callable
        Takes samples (b, ...) and returns their scores (b,).
    x : Tensor of shape (b, ...)
        The samples.
    baseline : Tensor
        Where the way to each sample begins, or to all of them.
    steps : int, default=16
        Equal steps in the beginning.
    tolerance : float, default=0.02
        Share of the difference of scores that the sum may miss. Of networks of tables
        it took one to three times the gradients of 16 equal steps, and 0.01 up to five.
    most_steps : int, default=128
        Steps at the end: where scores jump there are never enough.
    """
    way, baseline, total = x - baseline, baseline.expand_as(x), torch.zeros_like(x)
    if not len(x):
        return total
    together = max(len(x), _TOGETHER // max(1, x[0].numel()))

    def points(rows, places):
        return baseline[rows] + places.reshape(-1, *[1] * (x.ndim - 1)) * way[rows]

    def scored(rows, places):
        parts = zip(rows.split(together), places.split(together), strict=True)
        with torch.no_grad():
            return torch.cat([score(points(*part)) for part in parts])

    def add(rows, places, weights):
        """Add to the total; return the scores (m,), and their slopes on the way."""
        found = []
        for part in torch.arange(len(rows), device=x.device).split(together):
            own, share = rows[part], weights[part].reshape(-1, *[1] * (x.ndim - 1))
            scores, gradients = scores_and_gradients(score, points(own, places[part]))
            parts = way[own] * gradients
            add_rows(total, own, parts * share)
            found.append((scores, parts.flatten(1).sum(1)))
        return [torch.cat(part) for part in zip(*found, strict=True)]

    rows = torch.arange(len(x), device=x.device).repeat(steps)
    starts = torch.arange(steps, dtype=x.dtype, device=x.device) / steps
    starts = starts.repeat_interleave(len(x))
    lengths = torch.full_like(starts, 1 / steps)
    middle, slopes = add(rows, starts + lengths / 2, lengths)
    with torch.no_grad():
        first, last = score(baseline), score(x)
    gap = last - first
    allowed = tolerance * gap.abs()
    # no sum is nearer than the scores themselves are
    allowed += 100 * torch.finfo(x.dtype).eps * (first.abs() + last.abs())
    off = (total.flatten(1).sum(1) - gap).abs() > allowed
    if not off.any():
        return total
    kept = off[rows]
    rows, starts, lengths, middle, slopes = (
        part[kept] for part in (rows, starts, lengths, middle, slopes)
    )
    m = int(off.sum())
    low = torch.cat([first[off], scored(rows[m:], starts[m:])])
    high = torch.cat([low[m:], last[off]])
    known = Steps.made(rows, starts, lengths, low, middle, high, slopes)
    while (chosen := to_halve(known, allowed, most_steps)).any():
        old, known = known.of(chosen), known.of(~chosen)
        half = old.lengths / 2
        starts = torch.cat([old.starts, old.starts + half])
        rows, lengths = old.rows.repeat(2), half.repeat(2)
        add(old.rows, old.starts + half, -old.lengths)
        middle, slopes = add(rows, starts + lengths / 2, lengths)
        low, high = torch.cat([old.low, old.middle]), torch.cat([old.middle, old.high])
        halves = Steps.made(rows, starts, lengths, low, middle, high, slopes)
        known = known.with_others(halves)
    return total
