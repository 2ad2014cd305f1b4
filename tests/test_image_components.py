"""FRE and DFM: components of what a network says of a whole picture."""

import numpy as np
import pytest
import scipy.stats
import torch
from numpy.testing import assert_allclose
from sklearn.decomposition import PCA

import skad
from skad.image import DFM, FRE
from tests._pixels import Pixels

GIVEN = {"backbone": Pixels, "layers": ("pixel",)}


def pictures(n, seed=0):
    """Return pictures of ten patterns and noise, in double precision."""
    random = np.random.default_rng(seed)
    patterns = np.random.default_rng(5).normal(size=(10, 12, 16, 2))
    weights = random.normal(size=(n, 10)) * np.arange(10, 0, -1)
    noise = random.normal(size=(n, 12, 16, 2))
    return 0.5 + 0.01 * np.tensordot(weights, patterns, 1) + 0.02 * noise


def pooled(X, side):
    """Return features averaged over squares, as rows: channels first."""
    n, height, width, c = X.shape
    squares = X.reshape(n, height // side, side, width // side, side, c)
    return squares.mean((2, 4)).transpose(0, 3, 1, 2).reshape(n, -1)


@pytest.mark.parametrize("n_components", [1, 7])
def test_fre_is_the_optimum_of_a_tied_linear_autoencoder(n_components):
    X, new = pictures(30), pictures(4, seed=1)
    detector = FRE(**GIVEN, n_components=n_components).fit(X)
    rows, asked = (pooled(each, 2).astype(np.float32) for each in (X, new))
    # Adam on the squared error, from elsewhere
    torch.manual_seed(0)
    data = torch.tensor(rows)
    weight = torch.nn.Parameter(0.1 * torch.randn(n_components, rows.shape[1]))
    optimizer = torch.optim.Adam([weight], lr=0.02)
    for step in range(1500):
        optimizer.param_groups[0]["lr"] = 0.02 * (1 - step / 1500)
        loss = (data - data @ weight.T @ weight).square().sum(1).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    trained = float(loss)
    ours = float(-detector.score_samples(X).mean())
    assert ours <= trained + 1e-6
    assert_allclose(ours, trained, rtol=0.02)
    directions = np.linalg.svd(rows.astype(float), full_matrices=False)[2]
    left = asked - asked @ directions[:n_components].T @ directions[:n_components]
    assert_allclose(-detector.score_samples(new), (left**2).sum(1), rtol=1e-4)


def test_dfm_error_is_that_of_principal_components():
    X, new = pictures(30), pictures(4, seed=1)
    detector = DFM(**GIVEN, variance=0.9).fit(X)
    rows, asked = pooled(X, 4), pooled(new, 4)
    model = PCA(0.9).fit(rows)
    assert len(detector.components_) == model.n_components_
    left = asked - model.inverse_transform(model.transform(asked))
    assert_allclose(-detector.score_samples(new), (left**2).sum(1), rtol=1e-4)
    maps = detector.transform(new)
    # places keep what channels add to the sum, at the middle of squares
    parts = (left**2).reshape(4, 2, 3, 4).sum(1)
    assert np.corrcoef(maps[:, 2::4, 2::4].ravel(), parts.ravel())[0, 1] > 0.9


def test_dfm_likelihood_is_that_of_a_gaussian():
    X, new = pictures(30), pictures(4, seed=1)
    detector = DFM(**GIVEN, measure="nll").fit(X)
    model = PCA(0.97).fit(pooled(X, 4))
    gaussian = scipy.stats.multivariate_normal(
        np.zeros(model.n_components_), np.diag(model.explained_variance_)
    )
    expected = gaussian.logpdf(model.transform(pooled(new, 4)))
    assert_allclose(detector.score_samples(new), expected, rtol=1e-4)
    constant = 0.5 * np.log(2 * np.pi * model.explained_variance_).sum()
    parts = detector._patches(torch.tensor(new)).flatten(1).sum(1)
    assert_allclose(parts + constant, -expected, rtol=1e-4)


@pytest.mark.parametrize("detector", [FRE(**GIVEN, n_components=5), DFM(**GIVEN)])
def test_what_the_patterns_do_not_span_is_found_where_it_is(detector, tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime")
    X = pictures(40).astype(np.float32)
    bad = pictures(1, seed=1).astype(np.float32)
    bad[0, 4:8, 8:12] += 1.0
    detector.fit(X)
    assert detector.predict(bad) == [-1]
    row, column = np.unravel_index(detector.transform(bad)[0].argmax(), (12, 16))
    assert 4 <= row < 8
    assert 8 <= column < 12
    skad.export.to_onnx(detector, tmp_path / "one.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "one.onnx")
    decisions, maps = session.run(None, {"pictures": X[:4]})
    assert_allclose(decisions, detector.decision_function(X[:4]), atol=1e-4)
    assert_allclose(maps, detector.transform(X[:4]), atol=1e-4)


def test_pictures_all_alike_have_no_components():
    X = np.full((4, 12, 16), 0.5)
    assert DFM(**GIVEN).fit(X).components_.shape[0] == 0
    assert_allclose(DFM(**GIVEN).fit(X).score_samples(X), 0)
    assert_allclose(DFM(**GIVEN, measure="nll").fit(X).score_samples(X), 0)
    with pytest.raises(ValueError, match="DFM needs two pictures, n_samples=1"):
        DFM(**GIVEN).fit(X[:1])
