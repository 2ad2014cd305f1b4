"""What a principal subspace leaves of a row that it was not learned from."""

from skad._array import by_columns, namespace

# Steps towards the root of the secular function, of which rows take three or four.
_STEPS = 20


def left_out(along, variances, residual, around, gain, least=0.0):
    r"""Return squared residual and leverage (b,) of rows in a subspace without them.

    A row lies in the subspace and in one direction beside it, its residual. There the
    scatter is :math:`D = diag(\lambda_1, \dots, \lambda_k, \mu)`, without the row
    :math:`D - g z z^T`, and what that keeps is all but the eigenvector of its smallest
    eigenvalue :math:`\theta`, the root of :math:`g \sum_j z_j^2 / (D_j - \theta) = 1`.
    That eigenvector leaves :math:`g^{-2} / \sum_j z_j^2 / (D_j - \theta)^2` of the row,
    and the leverage, by Sherman and Morrison's formula, is that of all directions less
    this one's. How the residual's direction varies together with others beside the
    subspace is neglected.

    Parameters
    ----------
    along : array of shape (b, k)
        Squared scores :math:`z_j^2` of training rows.
    variances : array of shape (k,)
        Sums of squared scores :math:`\lambda_j` over all training rows.
    residual : array of shape (b,)
        Squared norms :math:`z_{k + 1}^2` of the residuals.
    around : array of shape (b,)
        The residuals' squares in the scatter of all rows, :math:`\mu z_{k + 1}^2`.
    gain : float
        :math:`g`: n / (n - 1) where the mean goes along, else 1.
    least : float, default=0.0
        Scatter :math:`\mu` up to which a direction is rounding, as of rows that were
        float32, and nothing lies in it.
    """
    xp = namespace(along)
    # directions first: sums over few neighbours in memory are slow
    along = by_columns(along)  # (k, b)
    leverage = xp.sum(along / variances[:, None], axis=0)
    # what rounding alone leaves is none; what overflows stays, to be refused
    rounding = 1e-20 * xp.sum(along, axis=0)
    residual = xp.where(residual <= rounding, 0.0, residual)
    some = residual > 0
    beside = xp.where(some, around / xp.where(some, residual, 1.0), 0.0)  # mu
    some = some & ~(beside <= least)
    if not xp.any(some):
        return residual, left_out_leverage(leverage, gain)
    beside = xp.where(some, beside, 0.0)
    along, own = gain * along, gain * residual
    variances = variances[:, None]
    # no term alone exceeds 1, and from there steps only go down
    theta, lowest, largest = beside - own, beside, beside
    if along.shape[0]:
        theta = xp.minimum(theta, xp.min(variances - along, axis=0))
        lowest = xp.minimum(lowest, xp.min(variances))
        largest = xp.maximum(largest, xp.max(variances))
    largest = xp.where(largest > 0, largest, 1.0)
    least = float(xp.finfo(theta.dtype).eps) * largest
    highest = lowest - least
    for _ in range(_STEPS):
        theta = xp.minimum(theta, highest)
        inverse = 1 / (variances - theta)  # (k, b)
        value = xp.einsum("kb,kb->b", along, inverse)
        inverse *= inverse
        slope = xp.einsum("kb,kb->b", along, inverse)
        gap = beside - theta
        step = _step(own, gap, value, slope)
        term = own / gap
        value = value + term
        slope = slope + term / gap
        slope = xp.where(slope > 0, slope, 1.0)
        step = xp.maximum(step, value * (value - 1) / slope)
        if not xp.any(step > xp.maximum(1e-8 * (lowest - theta), least)):
            break
        theta = theta - step
    found = xp.where(some, 1 / (gain * slope), residual)
    inside = left_out_leverage(leverage, gain)
    whole = leverage + xp.where(
        beside > 0, residual / xp.where(beside > 0, beside, 1.0), 0.0
    )
    # a row that makes up a direction alone has no leverage outside of the subspace
    known = (1 - gain * whole > 1e-6) & (theta > 1e-9 * beside) & (beside > 0)
    rest = left_out_leverage(whole, gain) - found / xp.where(known, theta, 1.0)
    return found, xp.where(known, xp.clip(rest, 0, None), inside)


def _step(weight, gap, value, slope):
    """Return how far down a pole and the tangent of all others sum to 1, at least 0.

    They have the given `value` and `slope`, and the pole `weight` over its `gap`. The
    others lie above their tangent, so that the step does not go too far.
    """
    xp = namespace(gap)
    steep = xp.where(slope > 0, slope, 1.0)
    excess = value + slope * gap - 1
    # without a difference of what may be nearly equal
    total = xp.abs(excess) + xp.sqrt(excess**2 + 4 * slope * weight)
    found = xp.where(
        excess > 0, total / (2 * steep), 2 * weight / xp.where(total > 0, total, 1.0)
    )
    return xp.where(slope > 0, xp.clip(found - gap, 0, None), 0.0)


def left_out_leverage(leverage, gain):
    """Return the leverages (b,) of rows in a scatter without them (Sherman-Morrison).

    A row that makes up a direction alone has no bound; it gets a large value.
    """
    xp = namespace(leverage)
    return leverage / xp.clip(1 - gain * leverage, 1e-9, None)
