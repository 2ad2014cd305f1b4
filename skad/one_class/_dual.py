r"""The dual problem of the kernel one-class methods, solved by decomposition.

Minimise :math:`\frac12 \beta^T K \beta + p^T \beta` over :math:`l \le \beta \le h`
with the sum of :math:`\beta` fixed. A round picks a working set (Joachims 1999), solves
it by pairs of second order (Fan, Chen and Lin 2005) and Newton steps on its free
variables, and brings the gradient of all rows up to date with one product.
"""

import math
import warnings
from collections import deque

import numpy as np
from scipy.linalg import cho_factor, cho_solve
from sklearn.exceptions import ConvergenceWarning

from skad._array import namespace, to_numpy
from skad.one_class._kernels import self_kernel

# A working set holds the worst violators and free variables up to the size: its matrix
# takes 8 MB, a Newton step on all of it 15 ms.
_VIOLATORS = 512
_FEW = 128
_WORKING_SET = 1024

# Pairs settle which variables are at a bound, cheaper than Newton steps would, of many
# variables above all; Newton's method then ends what pairs alone approach slowly.
_PAIRS = 32
_MORE_PAIRS = 3000
_NEWTON = 8
_SWEEPS = 10

# Rounds without a smaller violation after which rounding must be what is left.
_PATIENCE = 20
_RIDGES = (1e-10, 1e-7, 1e-4, 1e-1)

# Rounding of a sum of kernel values, in units of the last place of its largest terms.
_ULPS = 64

# From this many rows on, the solution of every fourth row says where to start; of fewer
# their density does, the kernel's mean over every eighth.
_DIRECT_ROWS = 1500


def violation(gradient, beta, low, high):
    """Return the largest KKT violation and its two sides.

    The sides are the smallest gradient of a variable that can grow and the largest of
    one that can shrink; at the optimum the threshold lies between them.
    """
    smallest = np.min(gradient, where=beta < high, initial=np.inf)
    largest = np.max(gradient, where=beta > low, initial=-np.inf)
    return largest - smallest, smallest, largest


def threshold(gradient, beta, low, high):
    """Return the multiplier of the sum: the gradient of the free variables."""
    free = (beta > low) & (beta < high)
    if free.any():
        return float(gradient[free].mean())
    _, smallest, largest = violation(gradient, beta, low, high)
    if np.isinf(smallest):  # nothing can grow: any larger threshold serves as well
        return float(largest)
    return float(smallest if np.isinf(largest) else (smallest + largest) / 2)


def inside(offset, anomaly, share, error):
    """Return the threshold of scores, lowered until no more than a share is below it.

    At the optimum all rows with free variables lie on the boundary, where rounding and
    the tolerance of the solution put some of them outside.

    Parameters
    ----------
    offset : float
        The optimum's threshold of the scores, which are the negative anomaly.
    anomaly : array or tensor of shape (n,)
        The training rows' anomaly, as they are scored.
    share : float
        In (0, 1]: the largest share of them that may be below.
    error : float
        How far rounding may move a score, as `rounding` returns it.
    """
    scores = np.sort(-to_numpy(anomaly))
    n_outside = math.floor(share * len(scores) + 1e-9)
    if n_outside == len(scores):
        return offset
    # one row alone may be rounded another way than in a block: none is so near
    offset = min(offset, float(scores[n_outside]) - error)
    while True:
        near = scores[(scores > offset - error) & (scores < offset + error)]
        if not len(near) or near[0] - error == offset:
            return offset
        offset = float(near[0]) - error


def rounding(X, weights, kernel=None):
    """Return how far rounding can move weighted sums over the kernels of rows `X`.

    Without `kernel` the terms are at most 1 in size.
    """
    largest = 1.0
    if kernel is not None:
        own = X.diagonal() if kernel == "precomputed" else self_kernel(kernel, X)
        largest = float(np.abs(to_numpy(own)).max())
    total = float(np.abs(to_numpy(weights)).sum())
    return _ULPS * float(namespace(X).finfo(X.dtype).eps) * total * largest


def fill(beta, order, low, high, total):
    """Raise or lower `beta` to the sum `total`, greedily in `order` or against it."""
    missing = total - beta.sum()
    if missing < 0:
        order = order[::-1]
    room = (high - beta if missing > 0 else beta - low)[order]
    before = np.cumsum(room) - room
    beta = beta.copy()
    beta[order] += np.sign(missing) * np.clip(abs(missing) - before, 0, room)
    return beta


def pair_steps(matrix, gradient, beta, low, high, tol):
    """Move pairs of variables, in place, until the violation is `tol` or many moved."""
    diagonal = matrix.diagonal()
    flat = 1e-12 * np.abs(diagonal).max()
    # of variables that can grow, and of those that can shrink
    growing = np.where(beta < high, gradient, np.inf)
    shrinking = np.where(beta > low, gradient, -np.inf)
    curvature, change = np.empty_like(gradient), np.empty_like(gradient)
    for _ in range(_pairs(len(beta))):
        i = growing.argmin()
        gain = shrinking - growing[i]
        if not np.maximum.reduce(gain) > tol:  # half the time of the method
            break
        row = matrix[i]
        np.multiply(row, -2, out=curvature)
        curvature += diagonal
        curvature += diagonal[i]
        np.maximum(curvature, flat, out=curvature)
        np.maximum(gain, 0, out=gain)
        np.divide(gain, curvature, out=change)
        change *= gain
        j = change.argmax()
        step = min(gain[j] / curvature[j], high[i] - beta[i], beta[j] - low[j])
        # land on the bound itself, or rounding leaves the variable free
        beta[i] = high[i] if step == high[i] - beta[i] else beta[i] + step
        beta[j] = low[j] if step == beta[j] - low[j] else beta[j] - step
        np.subtract(row, matrix[j], out=change)
        change *= step
        gradient += change
        growing += change
        shrinking += change
        for moved in (i, j):
            growing[moved] = gradient[moved] if beta[moved] < high[moved] else np.inf
            shrinking[moved] = gradient[moved] if beta[moved] > low[moved] else -np.inf


def _pairs(n):
    """Return how many pairs of a working set of `n` are moved before Newton's steps."""
    return round(_PAIRS + _MORE_PAIRS * (n / _WORKING_SET) ** 4)


def factorise(matrix):
    """Return the Cholesky factor of a matrix with the smallest ridge that allows one.

    A step with a ridge goes down too, if less far, even where the matrix is indefinite.
    """
    size = np.abs(np.diagonal(matrix)).max()
    for ridge in _RIDGES:
        try:
            shifted = matrix.copy()
            shifted[np.diag_indices_from(shifted)] += ridge * size
            return cho_factor(shifted, lower=True, overwrite_a=True, check_finite=False)
        except np.linalg.LinAlgError:
            continue
    return None


def newton_step(matrix, gradient, beta, low, high):
    """Move the free variables, in place, towards their optimum until one is bounded.

    Return whether one was, so that another step is due.
    """
    free = np.flatnonzero((beta > low) & (beta < high))
    if len(free) < 2:
        return False
    factor = factorise(matrix[np.ix_(free, free)])
    if factor is None:
        return False
    sides = np.stack([gradient[free], np.ones(len(free))], axis=1)
    toward, along = cho_solve(factor, sides, check_finite=False).T
    move = along * (toward.sum() / along.sum()) - toward
    bound = np.where(move > 0, high[free], low[free])
    with np.errstate(divide="ignore", invalid="ignore"):
        room = np.where(move != 0, (bound - beta[free]) / move, np.inf)
    step = min(1.0, room.min())
    moved = np.where(room <= step, bound, beta[free] + step * move)
    gradient += matrix[:, free] @ (moved - beta[free])
    beta[free] = moved
    return step < 1


def solve_small(matrix, gradient, beta, low, high, tol):
    """Return the solution of a working set; `gradient` is the one at `beta`."""
    gradient, beta = gradient.copy(), beta.copy()
    for _ in range(_SWEEPS):
        pair_steps(matrix, gradient, beta, low, high, tol)
        if violation(gradient, beta, low, high)[0] <= tol:
            break
        for _ in range(_NEWTON):
            if not newton_step(matrix, gradient, beta, low, high):
                break
    return beta


def working_set(gradient, beta, low, high, smallest, largest):
    """Return the rows to optimise next: violators of both sides and free variables."""
    half = min(_VIOLATORS, max(_FEW, len(beta) // 4)) // 2
    grow = np.flatnonzero((beta < high) & (gradient < largest))
    shrink = np.flatnonzero((beta > low) & (gradient > smallest))
    if len(grow) > half:
        grow = grow[np.argpartition(gradient[grow], half)[:half]]
    if len(shrink) > half:
        shrink = shrink[np.argpartition(-gradient[shrink], half)[:half]]
    chosen = np.zeros(len(beta), dtype=bool)
    chosen[grow] = chosen[shrink] = True
    free = np.flatnonzero((beta > low) & (beta < high) & ~chosen)
    n_more = _WORKING_SET - np.count_nonzero(chosen)
    if len(free) > n_more:
        far = np.abs(gradient[free] - (smallest + largest) / 2)
        free = free[np.argpartition(-far, n_more)[:n_more]]
    chosen[free] = True
    return np.flatnonzero(chosen)


def decompose(gram, beta, gradient, low, high, tol):
    """Improve `beta` and its `gradient` in place; yield the violation of each round."""
    best, n_idle = np.inf, 0
    while True:
        gap, smallest, largest = violation(gradient, beta, low, high)
        best, n_idle = (gap, 0) if gap < 0.99 * best else (best, n_idle + 1)
        if gap <= tol or n_idle > _PATIENCE:
            return
        rows = working_set(gradient, beta, low, high, smallest, largest)
        aim = max(tol / 8, gap / 100)
        solution = solve_small(
            gram.block(rows), gradient[rows], beta[rows], low[rows], high[rows], aim
        )
        change = solution - beta[rows]
        moved = change != 0
        if not moved.any():
            return
        gradient += gram.product(rows[moved], change[moved])
        beta[rows] = solution
        yield gap


def start(gram, linear, low, high, total, tol):
    """Return a feasible start: each row as the row of its rank in a quarter solved."""
    n = len(low)
    if n < _DIRECT_ROWS:
        rows = np.arange(0, n, 8)
        score = gram.product(rows, np.full(len(rows), total / len(rows))) + linear
        return fill(np.zeros(n), np.argsort(score, kind="stable"), low, high, total)
    rows = np.arange(0, n, 4)
    part = gram.thin(4)
    bounds = low[rows], high[rows]
    # the sum of a quarter, for a linear term and a threshold a quarter as large
    share = len(rows) / n
    # with unequal bounds a quarter may have room for less
    few_total = min(share * total, bounds[1].sum())
    few, gradient, _ = minimise(part, share * linear[rows], *bounds, few_total, tol)
    support = np.flatnonzero(few)
    score = gram.product(rows[support], few[support]) + share * linear
    beta = np.zeros(n)
    for group in (low == 0, low < 0):
        all_rows, few_rows = np.flatnonzero(group), np.flatnonzero(group[rows])
        if len(few_rows):
            order = all_rows[np.argsort(score[all_rows], kind="stable")]
            few_order = few_rows[np.argsort(gradient[few_rows], kind="stable")]
            rank = np.arange(len(order)) * len(few_order) // len(order)
            beta[order] = few[few_order][rank]
    beta = np.clip(beta, low, high)
    return fill(beta, np.argsort(score, kind="stable"), low, high, total)


def kernel_scale(gram, n):
    """Return the typical size of the kernel: its diagonal's median over some rows."""
    sizes = np.abs(gram.thin(-(-n // 500)).diagonal())
    check_finite(sizes)
    return float(np.median(sizes) or sizes.max() or 1.0)


def check_finite(values):
    """Refuse kernel values that overflowed."""
    if not np.isfinite(values).all():
        raise ValueError(
            "Input X contains values too large for this kernel: it overflows. Scale "
            "the features (StandardScaler) or lower gamma, degree or coef0."
        )


def minimise(gram, linear, low, high, total, tol, steps=None, max_rounds=1000):
    """Return the minimiser of the dual problem, its gradient and the rounds it took.

    Parameters
    ----------
    gram : object
        The kernel matrix: `block(rows)`, `product(rows, weights)` and `thin(step)`.
    linear, low, high : ndarray of shape (n,)
        The linear term and the bounds, ``low <= 0 <= high``.
    total : float
        The sum of the variables.
    tol : float
        The largest violation of the KKT conditions at the end.
    steps : callable, default=None
        Wraps the iterable of rounds, to report progress.
    max_rounds : int, default=1000
        Rounds after which a ConvergenceWarning gives up.
    """
    beta = start(gram, linear, low, high, total, tol)
    support = np.flatnonzero(beta)
    gradient = gram.product(support, beta[support]) + linear
    check_finite(gradient)
    # products in the dtype of the data round a sum as large as the gradient
    tol = max(tol, 4 * gram.precision * np.abs(gradient).max())
    rounds = decompose(gram, beta, gradient, low, high, tol)
    rounds = zip(range(1, max_rounds + 1), rounds, strict=False)
    last = deque(rounds if steps is None else steps(rounds), maxlen=1)
    gap = violation(gradient, beta, low, high)[0]
    if gap > tol:
        warnings.warn(
            f"The solver stopped at a violation of {gap:.2g}, above its tolerance of "
            f"{tol:.2g}. Scale the features, or raise tol or max_rounds.",
            ConvergenceWarning,
            stacklevel=2,
        )
    return beta, gradient, last[0][0] if last else 0
