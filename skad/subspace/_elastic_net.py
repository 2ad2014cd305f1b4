"""Rows as sparse sums of others: the elastic net, by Newton's method on its dual."""

import numpy as np

_MOST_STEPS = 100
_LEAST_STEP = 2.0**-30


def elastic_code(row, rows, allowed, l1_ratio, gamma):
    r"""Return which rows have a coefficient, and the coefficients (k,) of a row.

    They minimise :math:`\lambda \|r\|_1 + \frac{1 - \lambda}2 \|r\|_2^2 + \frac\gamma2
    \|x - \sum_j r_j x_j\|_2^2`. With the scaled residual :math:`\delta` they are
    :math:`r_j = S(\delta^T x_j) / (1 - \lambda)`, where S shrinks by :math:`\lambda`,
    and :math:`\delta` minimises :math:`\frac1{2 \gamma} \|\delta\|_2^2 - \delta^T x +
    \frac1{2 (1 - \lambda)} \sum_j S(\delta^T x_j)^2`. That is quadratic as long as no
    coefficient becomes or ceases to be zero, so that few steps of Newton end at the
    minimum.

    Parameters
    ----------
    row : ndarray of shape (d,)
        The row x.
    rows : ndarray of shape (n, d)
        Rows to write it in.
    allowed : ndarray of shape (n,)
        Which of them may be used.
    l1_ratio, gamma : float
        The weights.
    """
    ridge = 1 - l1_ratio

    def height(delta, products):
        return (
            delta @ delta / (2 * gamma)
            - delta @ row
            + (np.maximum(np.abs(products) - l1_ratio, 0) ** 2).sum() / (2 * ridge)
        )

    largest = np.abs(rows @ row * allowed).max(initial=0.0)
    delta = row * min(gamma, l1_ratio / largest) if largest else gamma * row
    products = rows @ delta * allowed
    code, before = _shrunk(products, l1_ratio) / ridge, height(delta, products)
    for _ in range(_MOST_STEPS):
        active = np.flatnonzero(code)
        used = rows[active]
        slope = delta / gamma - row + code[active] @ used
        step = -_solved(used, slope, gamma, ridge)
        moved, size, falls = rows @ step * allowed, 1.0, slope @ step
        while size > _LEAST_STEP:
            nearer = delta + size * step, products + size * moved
            reached = height(*nearer)
            if not reached > before + 1e-4 * size * falls:
                break
            size /= 2
        else:  # no digits are left to gain
            break
        (delta, products), before = nearer, reached
        last, code = code, _shrunk(products, l1_ratio) / ridge
        if size == 1 and (np.sign(code) == np.sign(last)).all():
            break
    active = np.flatnonzero(code)
    return active, code[active]


def _shrunk(products, by):
    return np.sign(products) * np.maximum(np.abs(products) - by, 0)


def _solved(used, slope, gamma, ridge):
    """Return H^-1 g for the second derivative H (d, d) of the dual."""
    s, d = used.shape
    if s < d:
        inner = used @ used.T
        inner[np.diag_indices(s)] += ridge / gamma
        return gamma * (slope - np.linalg.solve(inner, used @ slope) @ used)
    inner = used.T @ used / ridge
    inner[np.diag_indices(d)] += 1 / gamma
    return np.linalg.solve(inner, slope)
