"""Pictures grouped by the kind of their defect."""

import pickle

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import clone
from sklearn.cluster import AgglomerativeClustering
from sklearn.metrics import adjusted_rand_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from sklearn.utils import estimator_checks
from sklearn.utils.estimator_checks import estimator_checks_generator

import skad
from skad.embedding import PatchEmbedding
from skad.image import AnomalyClustering, load_folder
from skad.image.memory import _anomaly_clustering as module
from skad.image.memory._anomaly_clustering import to_others, weigh

KINDS = np.repeat([0, 1, 2], 5)


def pictures(seed=0):
    """Return five good pictures, five with a spot and five with a line, (15, 32, 32).

    Where the defects are changes, and every other picture has faint stripes.
    """
    rng = np.random.default_rng(seed)
    X = rng.normal(0.5, 0.02, size=(15, 32, 32))
    for one, kind in zip(X, KINDS, strict=True):
        i, j = 4 * rng.integers(1, 6, size=2)
        if kind == 1:
            one[i : i + 4, j : j + 4] += 0.4
        if kind == 2:
            one[i, 2:30] -= 0.4
    X[::2] += 0.05 * np.sin(np.arange(32))
    return X


def good(n=4, seed=1):
    return np.random.default_rng(seed).normal(0.5, 0.02, size=(n, 32, 32))


@pytest.mark.parametrize("known", [False, True], ids=["others", "normal"])
def test_it_is_the_formula(known):
    X, normal = pictures()[::3], good()
    embedding = PatchEmbedding(layers=["scale2"])
    fitted = AnomalyClustering(2, temperature=0.7, embedding=embedding)
    fitted.fit(X, X_normal=normal if known else None)
    Z = embedding.fit_transform(X).reshape(5, -1, fitted.vectors_.shape[1])
    reference = embedding.transform(normal).reshape(-1, Z.shape[2])
    d = np.empty(Z.shape[:2])
    for i, j in np.ndindex(d.shape):
        if known:
            d[i, j] = min(np.linalg.norm(Z[i, j] - z) for z in reference)
            continue
        found = []
        for k in range(5):
            if k != i:
                found.append(min(np.linalg.norm(Z[i, j] - z) for z in Z[k]))
        d[i, j] = np.mean(found)
    unit = np.mean([np.std(row) for row in d])
    vectors = []
    for own, features in zip(d, Z, strict=True):
        weights = np.exp(own / (0.7 * unit))
        vectors.append((weights / weights.sum()) @ features)
    assert_allclose(fitted.patch_distances_.reshape(d.shape), d, rtol=1e-4)
    assert_allclose(fitted.distance_unit_, unit, rtol=1e-4)
    assert_allclose(fitted.vectors_, vectors, rtol=1e-3, atol=1e-5)
    labels = AgglomerativeClustering(2).fit_predict(np.array(vectors))
    assert adjusted_rand_score(labels, fitted.labels_) == 1
    assert fitted.children_.shape == (4, 2)
    assert_allclose(fitted.patch_weights_.sum((1, 2)), 1, rtol=1e-5)
    assert fitted.patch_weights_.shape == fitted.patch_distances_.shape
    assert fitted.patch_weights_.shape == (5, *embedding.transform(X).shape[1:3])


def test_temperature_goes_from_one_patch_to_the_mean_of_all():
    X = pictures()
    Z = PatchEmbedding().fit_transform(X)
    Z = Z.reshape(15, -1, Z.shape[3])
    even = AnomalyClustering(temperature=1e9).fit(X)
    assert_allclose(even.vectors_, Z.mean(1), rtol=1e-4, atol=1e-6)
    one = AnomalyClustering(temperature=1e-9).fit(X)
    most = one.patch_distances_.reshape(15, -1).argmax(1)
    assert_allclose(one.vectors_, Z[np.arange(15), most], rtol=1e-6)
    assert (one.patch_weights_.reshape(15, -1).argmax(1) == most).all()


def test_where_patches_are_does_not_matter_and_units_do_not():
    rng = torch.Generator().manual_seed(0)
    patches = torch.randn(6, 9, 4, generator=rng, dtype=torch.float64)
    distances = to_others(patches)
    order = torch.stack([torch.randperm(9, generator=rng) for _ in range(6)])
    moved = patches.gather(1, order[..., None].expand(-1, -1, 4))
    assert_allclose(to_others(moved), distances.gather(1, order))
    whole = torch.randperm(6, generator=rng)
    assert_allclose(to_others(patches[whole]), distances[whole])
    weights, unit = weigh(distances, 0.4)
    scaled, larger = weigh(to_others(30 * patches), 0.4)
    assert_allclose(scaled, weights)
    assert_allclose(larger, 30 * unit)
    same, unit = weigh(torch.ones(2, 5), 0.4)
    assert unit == 0
    assert_allclose(same, np.full((2, 5), 0.2))


def test_a_copy_is_at_distance_zero():
    rng = torch.Generator().manual_seed(0)
    a, b = torch.randn(2, 7, 3, generator=rng, dtype=torch.float64)
    alone = to_others(torch.stack([a, b]))
    three = to_others(torch.stack([a, b, a]))
    assert_allclose(three[0], alone[0] / 2, rtol=1e-12)
    assert_allclose(three[1], alone[1], rtol=1e-12)
    assert_array_equal(to_others(torch.stack([a, a])), np.zeros((2, 7)))


def test_products_are_made_in_blocks(monkeypatch):
    rng = torch.Generator().manual_seed(0)
    patches = torch.randn(9, 6, 3, generator=rng, dtype=torch.float64)
    distances, sizes, product = to_others(patches), [], torch.addmm

    def watched(*args, **kwargs):
        sizes.append((found := product(*args, **kwargs)).numel())
        return found

    monkeypatch.setattr(module.torch, "addmm", watched)
    monkeypatch.setattr(module, "_PRODUCTS", 2 * 6 * 6)
    assert_allclose(to_others(patches), distances)
    assert max(sizes) == 2 * 6 * 6
    assert sum(sizes) == 9 * 8 // 2 * 6 * 6  # each pair of pictures once


def test_it_tells_kinds_of_defects():
    X = pictures()
    normal = np.concatenate([good(), good(seed=3) + 0.05 * np.sin(np.arange(32))])
    labels = AnomalyClustering(3).fit_predict(X)
    assert adjusted_rand_score(KINDS, labels) == 1
    even = AnomalyClustering(3, temperature=1e9).fit_predict(X)
    assert adjusted_rand_score(KINDS, even) < 0.9
    known = AnomalyClustering(3).fit(X, X_normal=normal)
    assert adjusted_rand_score(KINDS, known.labels_) == 1
    # weights lie where the defect is
    for one, weights in zip(X[5:10], known.patch_weights_[5:10], strict=True):
        spot = np.argwhere(one > 1.5 * np.median(one)).mean(0)
        peak = np.argwhere(weights == weights.max())[0]
        assert np.abs(spot / 32 - (peak + 0.5) / len(weights)).max() < 0.15


def test_normal_pictures_tell_what_is_unusual_where_defects_are_usual():
    """A spot that all pictures have is seen where there are normal ones."""
    X = good(6)
    X[:, 12:16, 12:16] += 0.4
    shares = []
    for normal in (None, good(4, 2)):
        weights = AnomalyClustering().fit(X, X_normal=normal).patch_weights_
        spot = slice(len(weights[0]) // 4, -(-len(weights[0]) * 5 // 8))
        shares.append(weights[:, spot, spot].sum((1, 2)))
    assert shares[0].max() < 0.5
    assert shares[1].min() > 0.95


def test_pictures_come_in_every_form(tmp_path):
    from PIL import Image

    X, normal = (np.uint8(255 * each) for each in (pictures(), good()))
    fitted = AnomalyClustering(3).fit(X, X_normal=normal)
    assert fitted.n_features_in_ == 32 * 32
    for folder, found in (("train/good", normal), ("test/odd", X)):
        (tmp_path / folder).mkdir(parents=True)
        for i, one in enumerate(found):
            Image.fromarray(one).save(tmp_path / folder / f"{i:02}.png")
    data = load_folder(tmp_path)
    rows = PatchEmbedding(image_shape=(32, 32))
    for model, own, known in (
        (AnomalyClustering(3), data.X_test, data.X_train),
        (AnomalyClustering(3), torch.tensor(X), torch.tensor(normal)),
        (
            AnomalyClustering(3, embedding=rows),
            X.reshape(15, -1),
            normal.reshape(4, -1),
        ),
    ):
        labels = model.fit_predict(own, X_normal=known)
        assert_array_equal(labels, fitted.labels_)
        assert_allclose(model.patch_weights_, fitted.patch_weights_, rtol=1e-4)
    skad.save(fitted, tmp_path / "kinds")
    for again in (pickle.loads(pickle.dumps(fitted)), skad.load(tmp_path / "kinds")):
        assert_array_equal(again.labels_, fitted.labels_)
        assert_array_equal(again.children_, fitted.children_)
    whole = make_pipeline(FunctionTransformer(), clone(fitted))
    found = whole.fit_predict(X, anomalyclustering__X_normal=normal)
    assert_array_equal(found, fitted.labels_)


def test_what_cannot_be_clustered_is_refused():
    X = pictures()
    for n, model in ((1, AnomalyClustering(1)), (3, AnomalyClustering(4))):
        with pytest.raises(ValueError, match=rf"n_samples={n} pictures"):
            model.fit(X[:n])
    with pytest.raises(ValueError, match="n_samples=1 pictures"):
        AnomalyClustering(1).fit(X[:1], X_normal=good())
    with pytest.raises(ValueError, match="X_normal cannot be used"):
        AnomalyClustering().fit(X, X_normal=good()[:, :16])
    with pytest.raises(ValueError, match="too large for features"):
        AnomalyClustering().fit(1e30 * X)
    for params in ({"temperature": 0.0}, {"n_clusters": 0}, {"embedding": "gabor"}):
        with pytest.raises(ValueError, match=f"The '{next(iter(params))}' parameter"):
            AnomalyClustering(**params).fit(X)


def test_scikit_learns_checks():
    names = []
    for model, check in estimator_checks_generator(AnomalyClustering()):
        if check.func.__name__ == "check_array_api_input":
            continue  # wants a variable of the environment
        names.append(check.func.__name__)
        check(model)
    assert "check_clustering" in names
    estimator_checks.check_param_validation("AnomalyClustering", AnomalyClustering())
