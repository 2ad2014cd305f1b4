"""Sparse coding against closed forms and scikit-learn's pursuit of one row."""

import numpy as np
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.linear_model import orthogonal_mp

from skad.reconstruction import SparseCoding
from skad.reconstruction._sparse_coding import pursued

RNG = np.random.default_rng(0)


def test_pursuit_of_many_rows_is_that_of_each():
    atoms = RNG.normal(size=(15, 8))
    atoms /= np.linalg.norm(atoms, axis=1, keepdims=True)
    X = RNG.normal(size=(20, 8))
    chosen, code, residual = pursued(X, atoms, 3)
    expected = orthogonal_mp(atoms.T, X.T, n_nonzero_coefs=3).T
    dense = np.zeros((20, 15))
    np.put_along_axis(dense, chosen, code, axis=1)
    assert_allclose(dense, expected, atol=1e-8)
    assert_allclose(residual, X - expected @ atoms, atol=1e-8)


def test_orthonormal_atoms_keep_the_largest_products():
    atoms = np.linalg.qr(RNG.normal(size=(6, 6)))[0]
    X = RNG.normal(size=(9, 6))
    _, code, residual = pursued(X, atoms, 2)
    sizes = np.sort(np.abs(X @ atoms.T), axis=1)
    assert_allclose(np.sort(np.abs(code), axis=1), sizes[:, -2:])
    assert_allclose((residual**2).sum(axis=1), (sizes[:, :-2] ** 2).sum(axis=1))


def test_scores_are_distances_of_error_and_length():
    X = RNG.normal(size=(80, 5)) * 3 + 7
    detector = SparseCoding(7, n_nonzero=2, random_state=0).fit(X)
    unit = np.sqrt(X.var(axis=0).mean())

    def numbers(rows):
        rows = (rows - X.mean(axis=0)) / unit
        code = orthogonal_mp(detector.atoms_.T, rows.T, n_nonzero_coefs=2).T
        left = rows - code @ detector.atoms_
        return left**2, np.c_[(left**2).sum(axis=1), np.abs(code).sum(axis=1)]

    _, known = numbers(X)
    new = RNG.normal(size=(10, 5)) * 5 + 7
    maps, found = numbers(new)
    away = found - known.mean(axis=0)
    inverse = np.linalg.inv(np.cov(known.T, bias=True))
    expected = np.einsum("ni,ij,nj->n", away, inverse, away)
    assert_allclose(-detector.score_samples(new), expected, rtol=1e-6)
    assert_allclose(detector.transform(new), maps, atol=1e-7)
    assert_allclose(np.linalg.norm(detector.atoms_, axis=1), 1)


def test_equal_atoms_and_rows_of_zeros():
    atoms = np.array([[1.0, 0, 0], [1, 0, 0], [0, 1, 0]])
    _, code, residual = pursued(np.array([[2.0, 0, 0], [0, 0, 0]]), atoms, 2)
    assert_allclose(residual, 0, atol=1e-8)
    assert_array_equal(code[1], 0)
