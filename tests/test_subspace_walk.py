"""Self-representation against scikit-learn's codes and a walk by powers of a matrix."""

import numpy as np
import pytest
from numpy.testing import assert_allclose
from sklearn.linear_model import ElasticNet

from skad.subspace import SelfRepresentation
from skad.subspace._self_representation import unit_rows, walked


def elastic(row, rows, l1_ratio, gamma):
    """The coefficients (n,) of a row, from scikit-learn."""
    net = ElasticNet(
        1 / (gamma * len(row)),
        l1_ratio=l1_ratio,
        fit_intercept=False,
        tol=1e-12,
        max_iter=10**6,
    )
    return net.fit(rows.T, row).coef_


def codes(rows, l1_ratio, alpha):
    """All codes (n, n) in the other rows, and the weights gamma (n,)."""
    found, gammas = np.zeros((2, len(rows), len(rows)))
    for i, row in enumerate(rows):
        others = np.delete(rows, i, axis=0)
        gammas[i] = alpha * l1_ratio / np.abs(others @ row).max()
        code = elastic(row, others, l1_ratio, gammas[i, 0])
        found[i] = np.insert(code, i, 0.0)
    return found, gammas[:, 0]


def visits(found, n_steps):
    step = np.abs(found) / np.abs(found).sum(axis=1, keepdims=True)
    powers = [np.linalg.matrix_power(step, t + 1) for t in range(n_steps)]
    return np.mean(powers, axis=0).mean(axis=0)


@pytest.fixture(scope="module")
def rows():
    rng = np.random.default_rng(0)
    planes = rng.normal(size=(2, 12, 2)) @ rng.normal(size=(2, 2, 6))
    X = np.concatenate([*planes, rng.normal(size=(6, 6))])
    return X + 0.05 * rng.normal(size=X.shape)


@pytest.mark.parametrize(("l1_ratio", "alpha"), [(0.95, 5.0), (0.5, 20.0)])
def test_visits_are_a_walk_on_the_codes(rows, l1_ratio, alpha):
    found, _ = codes(unit_rows(rows), l1_ratio, alpha)
    detector = SelfRepresentation(l1_ratio, alpha=alpha, n_steps=7).fit(rows)
    assert_allclose(detector.visits_, visits(found, 7), atol=1e-8)
    assert_allclose(detector.visits_.sum(), 1)


def test_a_new_row_counts_by_the_codes_that_take_it(rows):
    known = unit_rows(rows)
    before, gammas = codes(known, 0.95, 5.0)
    new = unit_rows(np.random.default_rng(1).normal(size=(25, 2)) @ rows[:2])
    detector = SelfRepresentation(n_steps=20).fit(rows)
    scores, every, compared = detector.score_samples(new), [], 0
    for row, score in zip(new, scores, strict=True):
        expected, kept = 0.0, True
        for i, place in enumerate(visits(before, 20)):
            both = np.delete(np.r_[known, row[None]], i, axis=0)
            code = elastic(known[i], both, 0.95, gammas[i])
            signs = np.sign(np.delete(before[i], i)) == np.sign(code[:-1])
            kept &= bool(signs.all())
            expected += len(rows) * place * abs(code[-1]) / np.abs(code).sum()
        every.append(expected)
        if kept:
            assert_allclose(score, expected, rtol=1e-3)
            compared += 1
    assert compared >= 3
    assert np.corrcoef(scores, every)[0, 1] > 0.9


def test_orthogonal_lines_need_no_outlier():
    lines = np.zeros((10, 6))
    lines[:5, 0], lines[5:, 1] = 1, [1, -2, 3, -4, 5]
    outliers = np.array([[1.0, 0, 1, 0, 0, 0], [0, 1, 0, 1, 0, 0]])
    detector = SelfRepresentation().fit(np.r_[lines, outliers])
    # from the first step on all of the walk is on the lines
    assert_allclose(detector.visits_, [0.1] * 10 + [0.0] * 2, atol=1e-12)
    assert_allclose(detector.score_samples(outliers), 0, atol=1e-12)
    # equal rows share: the row would be a fifth of the codes of the other four
    known = detector.score_samples([[0.0, 9, 0, 0, 0, 0]])
    assert_allclose(known, 12 * 4 * 0.1 / 5, rtol=1e-6)
    assert_allclose(detector.transform([[0.0, 3, 0, 0, 4, 0]])[0, 4], 0.64)


def test_rows_without_a_code_lead_anywhere():
    from scipy.sparse import csr_array

    graph = csr_array(np.array([[0.0, -2, 0], [1, 0, 0], [0, 0, 0]]))
    step = np.array([[0, 1, 0], [1, 0, 0], [1 / 3, 1 / 3, 1 / 3]])
    expected = (np.full(3, 1 / 3) @ (step + step @ step)) / 2
    assert_allclose(walked(graph, 2), expected)
