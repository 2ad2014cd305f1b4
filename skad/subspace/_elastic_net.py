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
    for _ in range(_MOST_STEPS):
        code = _shrunk(products, l1_ratio) / ridge
        active = np.flatnonzero(code)
        used = rows[active]
        slope = delta / gamma - row + code[active] @ used
        step = -_solved(used, slope, gamma, ridge)
        moved, size = rows @ step * allowed, 1.0
        before, falls = height(delta, products), slope @ step
        while (
            size > _LEAST_STEP
            and height(delta + size * step, products + size * moved)
            > before + 1e-4 * size * falls
        ):
            size /= 2
        if size <= _LEAST_STEP:  # no digits are left to gain
            break
        delta, products = delta + size * step, products + size * moved
        signs = np.sign(_shrunk(products, l1_ratio))
        if size == 1 and (signs == np.sign(code)).all():
            break
    code = _shrunk(products, l1_ratio) / ridge
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
