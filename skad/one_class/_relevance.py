"""Where a kernel one-class model finds an anomaly: shares of the features.

Every function takes a block of rows (b, d) and returns an array of the same shape.
"""

import numpy as np
from scipy import special

from skad._array import (
    blocks,
    device_of,
    is_torch,
    like,
    namespace,
    to_double,
)
from skad._distances import trusted

# Elements of the temporaries (b, m) of a block: a few megabytes.
_ELEMENTS = 2**18

# Gauss-Legendre nodes for paths so short that the closed form would lose digits.
_NODES, _NODE_WEIGHTS = np.polynomial.legendre.leggauss(8)


def in_pieces(function, X, row_elements):
    """Apply `function` to pieces of a block so that temporaries stay small."""
    xp = namespace(X)
    step = max(1, _ELEMENTS // max(1, row_elements))
    if is_torch(X) and X.device.type != "cpu":
        step *= 256
    parts = [function(X[k : k + step]) for k in range(0, X.shape[0], step)]
    return xp.concat(parts) if len(parts) > 1 else parts[0]


def outlier_relevance(X, vectors, weights, gamma, centre):
    r"""Return the deep Taylor decomposition of an rbf model's outlier score.

    With weights :math:`a_j > 0`, the score :math:`o(x) = -\log \sum_j a_j k(x, x_j) /
    \sum_j a_j` is a soft minimum of :math:`h_j = \gamma \|x - x_j\|^2 - \log a_j / \sum
    a`. Its relevance goes to the vectors by the soft minimum's weights and from each to
    the features in proportion to :math:`(x_i - x_{ji})^2`. A row that is one of the
    vectors has no direction to it: that part is spread evenly. Products are formed
    around `centre` (d,); a row far from it, where there are vectors as far, is its own
    centre.
    """
    xp = namespace(X)
    centre = like(centre, X)
    limit = trusted(X) / gamma
    far = xp.sum((X - centre) ** 2, axis=1) > limit
    if xp.any(far) and xp.any(xp.sum((vectors - centre) ** 2, axis=1) > limit):
        return _far_relevance(X, vectors, weights, gamma, centre, far)
    return _relevance(X, vectors, weights, gamma, centre)


def _far_relevance(X, vectors, weights, gamma, centre, far):
    xp = namespace(X)
    found = xp.zeros_like(X)
    if not xp.all(far):
        found[~far] = _relevance(X[~far], vectors, weights, gamma, centre)
    for i in xp.nonzero(far)[0]:
        found[i] = _relevance(X[i][None], vectors, weights, gamma, X[i])[0]
    return found


def _relevance(X, vectors, weights, gamma, centre):
    """Return what `outlier_relevance` does, through products around `centre`."""
    xp = namespace(X)
    vectors = vectors - centre
    squares = xp.sum(vectors**2, axis=1)
    shares = xp.log(weights / xp.sum(weights))
    features = xp.concat([xp.ones_like(vectors[:, :1]), vectors, vectors**2], axis=1)
    d = X.shape[1]
    close = float(xp.finfo(X.dtype).eps) ** 0.7

    def piece(rows):
        rows = rows - centre
        norms = xp.sum(rows**2, axis=1)[:, None] + squares  # (b, m)
        distance = xp.clip(norms - 2 * (rows @ vectors.T), 0, None)
        strength = shares - gamma * distance
        largest = xp.max(strength, axis=1)[:, None]
        weight = xp.exp(strength - largest)
        total = xp.sum(weight, axis=1)[:, None]
        score = xp.clip(-largest - xp.log(total), 0, None)  # (b, 1)
        weight = weight / total
        apart = distance > close * norms
        slope = xp.where(apart, weight / xp.where(apart, distance, 1.0), 0.0)
        sums = slope @ features  # (b, 1 + 2 d)
        relevance = rows**2 * sums[:, :1] - 2 * rows * sums[:, 1 : d + 1]
        relevance = xp.clip(relevance + sums[:, d + 1 :], 0, None)
        relevance = (
            relevance + xp.sum(xp.where(apart, 0.0, weight), axis=1)[:, None] / d
        )
        # the products above round; the shares sum to the score exactly
        whole = xp.sum(relevance, axis=1)[:, None]
        even = xp.ones_like(relevance) / d
        shared = xp.where(whole > 0, relevance / xp.where(whole > 0, whole, 1.0), even)
        return score * shared

    return in_pieces(piece, X, vectors.shape[0])


def path_relevance(X, origin, vectors, weights, gamma):
    r"""Return the integrated gradients of :math:`\sum_j w_j k(x, x_j)`, rbf kernel.

    The path is the straight line from `origin` to the row; its integral has a closed
    form, so the shares sum to the difference of the sums at both ends. In float64.
    """
    X, vectors, weights = to_double(X), to_double(vectors), to_double(weights)
    xp = namespace(X)
    erf = xp.special.erf if is_torch(X) else special.erf
    origin = like(origin, X)
    offsets = origin - vectors  # (m, d)
    squares = xp.sum(offsets**2, axis=1)  # (m,)

    def closed_form(delta, length, slope):
        # k(t) = exp(-gamma (length t^2 + 2 slope t + squares)), t in [0, 1]
        root = xp.sqrt(gamma * length)
        foot = slope / length
        height = xp.exp(-gamma * xp.clip(squares - slope * foot, 0, None))
        level = height * (erf(root * (1 + foot)) - erf(root * foot))
        level = level * (np.pi**0.5 / 2) / root
        ends = xp.exp(-gamma * squares) - xp.exp(
            -gamma * xp.clip(length + 2 * slope + squares, 0, None)
        )
        return level, ends / (2 * gamma * length) - foot * level

    def quadrature(delta, length, slope):
        level = moment = 0.0
        for node, share in zip((_NODES + 1) / 2, _NODE_WEIGHTS / 2, strict=True):
            value = share * xp.exp(
                -gamma * (length * node**2 + 2 * slope * node + squares)
            )
            level, moment = level + value, moment + node * value
        return level, moment

    def piece(rows):
        delta = rows - origin
        length = xp.sum(delta**2, axis=1)[:, None]  # (b, 1)
        slope = delta @ offsets.T  # (b, m)
        short = gamma * length < 0.01
        level, moment = closed_form(delta, xp.where(short, 1.0, length), slope)
        if xp.any(short):
            near = quadrature(delta, length, slope)
            level = xp.where(short, near[0], level)
            moment = xp.where(short, near[1], moment)
        level, moment = level * weights, moment * weights
        inner = level @ offsets + xp.sum(moment, axis=1)[:, None] * delta
        return -2 * gamma * delta * inner

    return in_pieces(piece, X, vectors.shape[0])


def waves(X, frequencies, weights):
    r"""Return :math:`\sum_j c_j \cos(\omega_j^T x) + s_j \sin(\omega_j^T x)`, (b,)."""
    xp = namespace(X)

    def piece(rows):
        phases = rows @ frequencies.T  # (b, m)
        return to_double(xp.cos(phases) @ weights[0] + xp.sin(phases) @ weights[1])

    return in_pieces(piece, X, frequencies.shape[0])


def wave_columns(X, frequencies):
    """Return the cosines and sines of all rows' phases, of shape (n, 2 m)."""
    xp = namespace(X)
    n, m = X.shape[0], frequencies.shape[0]
    shape = n, 2 * m
    columns = X.new_empty(shape) if is_torch(X) else np.empty(shape, X.dtype)
    for rows in blocks(n, m, device_of(X)):
        phases = X[rows] @ frequencies.T  # (b, m)
        columns[rows, :m], columns[rows, m:] = xp.cos(phases), xp.sin(phases)
    return columns


def wave_relevance(X, frequencies, weights):
    r"""Return the integrated gradients of `waves` from the origin, in float64.

    Along the straight line, the change of each wave falls to the features in proportion
    to :math:`\omega_{ji} x_i`.
    """
    X = to_double(X)
    xp = namespace(X)
    frequencies, (cosine, sine) = like(frequencies, X), like(weights, X)

    def piece(rows):
        phases = rows @ frequencies.T  # (b, m)
        still = xp.abs(phases) < 1e-6
        change = cosine * (xp.cos(phases) - 1) + sine * xp.sin(phases)
        slope = change / xp.where(still, 1.0, phases)
        return rows * (xp.where(still, sine, slope) @ frequencies)

    return in_pieces(piece, X, frequencies.shape[0])


def gradient(kernel, X, vectors, weights):
    """Return the gradient of ``sum_j weights_j k(x, x_j)``: linear, poly, sigmoid."""
    if kernel.name == "linear":
        xp = namespace(X)
        return xp.ones_like(X) * (weights @ vectors)

    def piece(rows):
        product = kernel.left(rows) @ kernel.right(vectors)  # (b, m)
        return (slope(kernel, product) * weights) @ vectors

    return in_pieces(piece, X, vectors.shape[0])


def self_gradient(kernel, X):
    """Return the gradient of `k(x, x)` for poly and sigmoid."""
    squares = namespace(X).sum(X * X, axis=1)[:, None]
    return 2 * X * slope(kernel, kernel.gamma * squares + kernel.coef0)


def slope(kernel, product):
    """Return the derivative of poly or sigmoid kernel values by the inner product."""
    if kernel.name == "sigmoid":
        return kernel.gamma * (1 - kernel.activate(product) ** 2)
    if kernel.degree == 0:
        return 0 * product
    lower = kernel._replace(degree=kernel.degree - 1)
    return kernel.gamma * kernel.degree * lower.activate(product)
