"""SelFormaly: foreground by attention, a bank of tokens, a share of the farthest."""

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal

import skad
from skad.embedding import PatchEmbedding, ViTEmbedding
from skad.image import SelFormaly
from tests._transformer import TinyViT
from tests.test_embedding_attention import attended


class SharpViT(TinyViT):
    """Attends to few patches, and to others in other pictures."""

    def __init__(self):
        super().__init__()
        # what patches show counts, and where they are does not
        self.pos_embed.data *= 0.1
        self.patches.bias.data = self.patches.weight.data.sum((1, 2, 3)) / -2
        for block in self.blocks:
            block.self_attn.in_proj_weight.data *= 8


GIVEN = {"window": 3, "min_attention": 0.7, "coreset_ratio": 1.0, "smoothing": 0}


def pictures(n, *shape, seed=0):
    random = np.random.default_rng(seed)
    return random.uniform(size=(n, *shape)).astype(np.float32)


def embedding(**given):
    return ViTEmbedding(SharpViT, (1, 2), **given)


def mean_tokens(X):
    """Return the tokens (n, gh gw, d) of both blocks in the mean, of unit length."""
    blocks = embedding().fit_transform(X).astype(float).reshape(len(X), -1, 24)
    tokens = (blocks[..., :12] + blocks[..., 12:]) / 2
    return tokens / np.linalg.norm(tokens, axis=2, keepdims=True)


def counting(X, window, least):
    """Return which patches (n, gh gw) of square pictures count."""
    side = X.shape[1] // 4
    with torch.no_grad():
        x = torch.tensor(X).movedim(3, 1)
        weights = attended(SharpViT().eval(), x, (1, 2), side**2)
    found = []
    for each in weights.numpy().reshape(-1, side, side):
        wide = np.pad(each, window // 2)
        around = np.empty_like(each)
        for i, j in np.ndindex(side, side):
            around[i, j] = wide[i : i + window, j : j + window].sum() / window**2
        found.append((around / around.max() > least).ravel())
    return np.array(found)


def test_it_is_the_search_in_a_loop():
    X, new = pictures(6, 16, 16, 3), pictures(4, 16, 16, 3, seed=1)
    detector = SelFormaly(embedding=embedding(), top_share=0.2, **GIVEN).fit(X)
    tokens, counts = mean_tokens(X), counting(X, 3, 0.7)
    assert 0.2 < counts.mean() < 0.8
    assert len(np.unique(counts, axis=0)) > 3  # other patches in other pictures
    bank = tokens[counts]
    assert_allclose(np.sort(detector.bank_, 0), np.sort(bank, 0), atol=1e-5)
    asked, seen, maps = mean_tokens(new), counting(new, 3, 0.7), detector._patches
    maps = maps(torch.tensor(new)).flatten(1).numpy()
    for i, score in enumerate(detector.score_samples(new)):
        away = [min(((row - m) ** 2).sum() for m in bank) for row in asked[i]]
        assert_allclose(maps[i], away, atol=1e-4)  # the background, too
        of_object = np.where(seen[i], away, 0)
        assert_allclose(-score, np.sort(of_object)[-3:].mean(), atol=1e-4)


def test_the_least_share_is_the_maximum_and_the_whole_the_mean():
    X, new = pictures(6, 16, 16, 3), pictures(4, 16, 16, 3, seed=1)
    least, most = (
        SelFormaly(embedding=embedding(), top_share=share, mask=None, **GIVEN).fit(X)
        for share in (1 / 16, 1.0)
    )
    patches = least._patches(torch.tensor(new)).flatten(1)
    assert_allclose(-least.score_samples(new), patches.amax(1), rtol=1e-5)
    assert_allclose(-most.score_samples(new), patches.mean(1), rtol=1e-5)


def test_a_mask_of_ones_changes_nothing():
    X, new = pictures(6, 16, 16, 3), pictures(4, 16, 16, 3, seed=1)
    given = {"embedding": embedding(), "coreset_ratio": 0.3, "random_state": 0}
    masked = SelFormaly(**given, min_attention=0.0).fit(X)
    plain = SelFormaly(**given, mask=None).fit(X)
    assert masked.mask_ == "attention"
    assert masked.bank_.shape == plain.bank_.shape == (29, 12)
    assert_allclose(masked.score_samples(new), plain.score_samples(new), atol=1e-5)
    assert masked.offset_ == pytest.approx(plain.offset_, abs=1e-5)
    fewer = SelFormaly(**given, min_attention=0.5, window=1).fit(X)
    assert abs(fewer.score_samples(new) - plain.score_samples(new)).max() > 1e-3


def test_a_picture_is_masked_by_itself():
    X, new = pictures(6, 16, 16, 3), pictures(8, 16, 16, 3, seed=1)
    new *= np.linspace(0.05, 1, 8, dtype=np.float32)[:, None, None, None]
    detector = SelFormaly(embedding=embedding(), **GIVEN).fit(X)
    alone = [detector.score_samples(new[i : i + 1])[0] for i in range(8)]
    assert_allclose(detector.score_samples(new), alone, atol=1e-6)


def test_the_threshold_leaves_a_picture_out():
    X = pictures(5, 16, 16, 3)
    detector = SelFormaly(embedding=embedding(), **GIVEN).fit(X)
    honest = [
        SelFormaly(embedding=embedding(), **GIVEN)
        .fit(np.delete(X, i, axis=0))
        .score_samples(X[i : i + 1])[0]
        for i in range(5)
    ]
    assert_allclose(-detector._threshold_anomaly_, honest, atol=1e-5)


def test_attention_is_of_transformers():
    X = pictures(5, 16, 16, 3)
    plain = SelFormaly(random_state=0).fit(X)
    assert plain.mask_ is None
    one = PatchEmbedding("gabor", neighborhood=1)
    features = torch.tensor(one.fit_transform(X)).flatten(0, 2)
    known = torch.nn.functional.normalize(features, dim=1)
    for row in plain.bank_:
        assert torch.cdist(known, row[None]).min() < 1e-3
    with pytest.raises(ValueError, match="pass a ViTEmbedding"):
        SelFormaly(mask="attention").fit(X)
    with pytest.raises(ValueError, match="window=4 must be odd"):
        SelFormaly(window=4).fit(X)


def test_averages_around_places_are_the_embeddings():
    X = pictures(5, 16, 16, 3)
    found = SelFormaly(embedding=embedding(neighborhood=3), mask=None).fit(X)
    other = SelFormaly(embedding=embedding(), mask=None).fit(X)
    x = torch.tensor(X)
    blocks = torch.stack([each for _, each in other.embedding_.tokens(x)]).mean(0)
    around = torch.nn.functional.avg_pool2d(blocks, 3, 1, 1).movedim(1, 3)
    expected = torch.nn.functional.normalize(around, dim=3)
    assert_allclose(found._features(x), expected, atol=1e-5)


@pytest.mark.sampled(3)
def test_it_goes_into_a_graph_without_a_mask(tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime")
    X, new = pictures(3, 16, 16, 3), pictures(4, 16, 16, 3, seed=2)
    detector = SelFormaly(embedding=embedding(), mask=None, random_state=0).fit(X)
    skad.export.to_onnx(detector, tmp_path / "one.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "one.onnx")
    decisions, maps = session.run(None, {"pictures": new})
    assert_allclose(decisions, detector.decision_function(new), atol=1e-4)
    assert_allclose(maps, detector.transform(new), atol=1e-4)
    masked = SelFormaly(embedding=embedding()).fit(X)
    with pytest.raises(ValueError, match="has no ONNX form"):
        skad.export.to_onnx(masked, tmp_path / "two.onnx")


def test_it_is_the_same_from_a_file(tmp_path):
    X = pictures(4, 16, 16, 3)
    detector = SelFormaly(embedding=embedding(), **GIVEN).fit(X)
    skad.save(detector, tmp_path / "one.skad", trusted=[SharpViT])
    again = skad.load(tmp_path / "one.skad", trusted=[SharpViT])
    assert_array_equal(again.score_samples(X), detector.score_samples(X))
