"""AnomalyDINO: cosine distances, turned copies, the object's mask and few patches."""

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from torch.nn import functional as F  # noqa: N812

import skad
from skad.embedding import PatchEmbedding, ViTEmbedding
from skad.image import AnomalyDINO
from skad.image._turns import turned
from skad.image.memory._anomaly_dino import object_mask, otsu
from tests._transformer import TinyViT


def pictures(n, *shape, seed=0):
    random = np.random.default_rng(seed)
    return random.uniform(size=(n, *shape)).astype(np.float32)


def embedding():
    return ViTEmbedding(TinyViT, (2, 3))


def unit_rows(fitted, X):
    rows = fitted.transform(X)
    return rows / np.linalg.norm(rows, axis=-1, keepdims=True)


def test_it_is_one_minus_the_largest_cosine():
    X, new = pictures(5, 16, 32, 3), pictures(3, 16, 32, 3, seed=1)
    detector = AnomalyDINO(
        embedding=embedding(), n_rotations=1, top_share=0.1, smoothing=0
    ).fit(X)
    known, asked = (unit_rows(detector.embedding_, each) for each in (X, new))
    away = 1 - (asked.reshape(3, 32, 24) @ known.reshape(-1, 24).T).max(axis=2)
    top = np.sort(away, axis=1)[:, -3:].mean(axis=1)  # 3 of 32 patches
    assert_allclose(-detector.score_samples(new), top, atol=1e-5)
    places = detector.transform(new)[:, 2::4, 2::4]
    # interpolation lies between the patches, and at the edge on them
    assert_allclose(places[:, 0, 0], away.reshape(3, 4, 8)[:, 0, 0], atol=0.05)
    assert_allclose(detector.score_samples(X), 0, atol=1e-6)


def test_with_unit_features_it_is_patchcore_but_for_the_score():
    X, new = pictures(4, 16, 16, 3), pictures(2, 16, 16, 3, seed=1)

    class Unit(TinyViT):
        """Its last norm leaves tokens of unit length."""

        def __init__(self):
            super().__init__()
            self.norm = UnitNorm()

    class UnitNorm(torch.nn.Module):
        def forward(self, x):
            return F.normalize(x, dim=-1)

    given = {"embedding": ViTEmbedding(Unit), "smoothing": 0, "coreset_ratio": 1.0}
    bank = skad.PatchCore(**given, random_state=0).fit(X)
    detector = AnomalyDINO(**given, n_rotations=1).fit(X)
    x = torch.tensor(new)
    assert_allclose(detector._patches(x), bank._patches(x).square() / 2, atol=1e-6)


def test_the_threshold_leaves_a_picture_and_its_turned_copies_out():
    X = pictures(4, 16, 16, 3)
    given = {"embedding": embedding(), "n_rotations": 4}
    detector = AnomalyDINO(**given).fit(X)
    assert detector.bank_.shape == (4 * 4 * 16, 24)
    honest = [
        AnomalyDINO(**given).fit(np.delete(X, i, axis=0)).score_samples(X[i : i + 1])[0]
        for i in range(4)
    ]
    features = detector._features(torch.tensor(X))
    assert_allclose(-detector._left_out(features, torch.arange(4)), honest, atol=1e-5)


def by_angle(X, angle):
    return turned(torch.tensor(X).movedim(3, 1), angle).movedim(1, 3).numpy()


def test_turned_copies_are_in_the_memory():
    X = pictures(2, 16, 16, 3)
    quarter = np.rot90(X, -1, axes=(1, 2)).copy()
    assert_allclose(by_angle(X, np.pi / 2), quarter, atol=1e-5)
    wide = pictures(1, 9, 17, 3)
    assert_allclose(by_angle(wide, np.pi), wide[:, ::-1, ::-1], atol=1e-5)
    few = AnomalyDINO(embedding=embedding(), n_rotations=4).fit(X)
    assert_allclose(few.score_samples(quarter), 0, atol=1e-5)
    none = AnomalyDINO(embedding=embedding(), n_rotations=1).fit(X)
    assert (none.score_samples(quarter) < -1e-3).all()
    assert AnomalyDINO(embedding=embedding()).fit(X).n_rotations_ == 8
    many = AnomalyDINO(embedding=embedding()).fit(pictures(17, 16, 16, 3))
    assert many.n_rotations_ == 1


def test_a_disc_turned_in_a_wide_picture_stays_a_disc():
    rows, columns = np.mgrid[:21, :41]
    disc = ((rows - 10) ** 2 + (columns - 20) ** 2 <= 36).astype(np.float32)
    found = by_angle(disc[None, ..., None], np.pi / 4)[0, ..., 0]
    assert np.abs(found - disc).mean() < 0.03
    assert abs(found.sum() - disc.sum()) < 3


def test_otsu_is_the_search_over_all_thresholds():
    values = torch.tensor(pictures(6, 40)) ** 3
    values[1] = values[1].round(decimals=1)  # with equal ones
    for row, found in zip(values.numpy(), otsu(values).numpy(), strict=True):
        best = max(
            (
                (row <= t).mean()
                * (row > t).mean()
                * (row[row > t].mean() - row[row <= t].mean()) ** 2,
                t,
            )
            for t in np.unique(row)[:-1]
        )[1]
        assert_array_equal(found, row > best)


@pytest.mark.parametrize("width", [3, 500])  # fewer and more features than places
@pytest.mark.parametrize("sign", [1, -1])
def test_the_mask_is_the_object_in_the_middle(width, sign):
    random = np.random.default_rng(0)
    features = random.normal(0, 0.05, size=(1, 12, 12, width))
    features[:, 3:9, 4:9] += sign
    mask = object_mask(torch.tensor(features))[0].numpy()
    expected = np.zeros((12, 12), bool)
    expected[2:10, 3:10] = True  # dilated by one place
    assert_array_equal(mask, expected)


def test_patches_of_the_background_have_no_anomaly():
    X = np.full((6, 48, 48, 3), 0.2, np.float32)
    X[:, 12:36, 12:36] = 0.8
    X += np.random.default_rng(0).normal(0, 0.01, size=X.shape).astype(np.float32)
    beside, on = X[:1].copy(), X[:1].copy()
    beside[:, :4, :4] = (0.2, 0.1, 0.3)  # as dark as the background
    on[:, 20:24, 20:24] = (1, 0, 0)
    torch.manual_seed(0)
    cut = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 4, stride=4))  # patch by patch
    given = {"embedding": PatchEmbedding(cut, ("0",), neighborhood=1), "smoothing": 0}
    given["n_rotations"] = 1
    masked = AnomalyDINO(**given, mask="pca").fit(X)
    assert len(masked.bank_) < 6 * 144
    assert not masked.transform(beside)[0, :6, :6].any()
    assert AnomalyDINO(**given).fit(X).transform(beside)[0, :4, :4].max() > 0.03
    assert masked.transform(on)[0, 18:26, 18:26].max() > 0.03
    assert masked.score_samples(on)[0] < masked.score_samples(beside)[0]
    alone = masked.transform(on)
    assert_allclose(
        masked.transform(np.concatenate([on, beside]))[:1], alone, atol=1e-6
    )


@pytest.mark.sampled(3)
def test_it_finds_what_is_planted_with_one_picture_and_goes_into_a_graph(tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime")
    X = pictures(3, 16, 16, 3)
    detector = AnomalyDINO(embedding=embedding(), n_rotations=2).fit(X)
    skad.export.to_onnx(detector, tmp_path / "one.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "one.onnx")
    new = pictures(4, 16, 16, 3, seed=2)
    decisions, maps = session.run(None, {"pictures": new})
    assert_allclose(decisions, detector.decision_function(new), atol=1e-4)
    assert_allclose(maps, detector.transform(new), atol=1e-4)
    masked = AnomalyDINO(embedding=embedding(), mask="pca").fit(X)
    with pytest.raises(ValueError, match="has no ONNX form"):
        skad.export.to_onnx(masked, tmp_path / "two.onnx")
