"""What a principal subspace leaves of a row that it was not learned from."""

from skad._array import by_columns, namespace

# Newton's steps on the inverse of the secular function, which is nearly a line.
_STEPS = 8


def left_out(along, variances, residual, around, gain):
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
    """
    xp = namespace(along)
    # directions first: sums over few neighbours in memory are slow
    along = by_columns(along)  # (k, b)
    leverage = xp.sum(along / variances[:, None], axis=0)
    # what rounding alone leaves is none; what overflows stays, to be refused
    rounding = 1e-20 * xp.sum(along, axis=0)
    residual = xp.where(residual <= rounding, 0.0, residual)
    some = residual > 0
    if not xp.any(some):
        return residual, left_out_leverage(leverage, gain)
    beside = xp.where(some, around / xp.where(some, residual, 1.0), 0.0)  # mu
    weights = xp.concat([along, residual[None, :]]) * gain  # (k + 1, b)
    poles = xp.broadcast_to(variances[:, None], along.shape)
    poles = xp.concat([poles, beside[None, :]])
    # no term alone exceeds 1, and from there Newton's steps only go down
    theta = xp.min(poles - weights, axis=0)
    largest = xp.max(poles, axis=0)
    largest = xp.where(largest > 0, largest, 1.0)
    least = float(xp.finfo(poles.dtype).eps) * largest
    for _ in range(_STEPS):
        gap = poles - theta
        gap = xp.maximum(gap, least, out=gap)
        terms = weights / gap
        value = xp.sum(terms, axis=0)
        terms /= gap
        slope = xp.sum(terms, axis=0)
        slope = xp.where(slope > 0, slope, 1.0)
        step = xp.clip(value * (value - 1) / slope, 0, None)
        if not xp.any(step > 1e-12 * largest):
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


def left_out_leverage(leverage, gain):
    """Return the leverages (b,) of rows in a scatter without them (Sherman-Morrison).

    A row that makes up a direction alone has no bound; it gets a large value.
    """
    xp = namespace(leverage)
    return leverage / xp.clip(1 - gain * leverage, 1e-9, None)
