"""GLCF: its losses and maps, the one token that the whole picture goes through."""

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from scipy.ndimage import gaussian_filter
from sklearn.base import clone
from sklearn.metrics import roc_auc_score

from skad.image import GLCF, PatchCore
from skad.image.student._glcf import GLCFNetwork, SemanticBottleneck
from skad.nn.vit import Block, SelfAttention
from tests.test_image_networks import GRID, as_batch, pictures

SMALL = GLCF(
    token_size=8,
    n_heads=2,
    depth=1,
    n_blocks=1,
    max_epochs=2,
    batch_size=4,
    lr=0.003,
    smoothing=0,
    random_state=0,
)


pytestmark = pytest.mark.usefixtures("own_generator")


@pytest.fixture(scope="module")
def good():
    return pictures(20)


def cosine(a, b, axis):
    up = (a * b).sum(axis)
    return up / np.sqrt((a * a).sum(axis) * (b * b).sum(axis))


def said_of(detector, X):
    """Return the maps of the teacher and of the three decoders, lists of arrays."""
    maps = detector.embedding_.feature_maps(as_batch(X))
    network = detector.net_
    by_place, by_whole = network.bottleneck(maps[-1])
    lists = (
        maps[:-1],
        network.local(by_place),
        network.whole(by_whole),
        network.whole_of_local(by_place),
    )
    return [[each.numpy() for each in one] for one in lists]


@pytest.mark.parametrize("layers", [("scale1", "scale2", "scale3"), None])
def test_the_loss_is_the_papers(layers, good):
    detector = clone(SMALL).set_params(layers=layers).fit(good)
    network = detector.net_.double()
    taught, local, whole, again = said_of(detector, good[:3])
    assert len(taught) == (2 if layers else 3)
    expected = 0
    for a, b in ((taught, local), (taught, whole), (whole, again)):
        for one, other in zip(a, b, strict=True):
            assert one.shape == other.shape
            rows = (each.reshape(3, -1) for each in (one, other))
            expected += (1 - cosine(*rows, 1)).mean()
    x = detector._describe(as_batch(good[:3]))
    assert_allclose(network.loss(x, None).item(), expected, rtol=1e-9)


def test_the_map_is_on_the_scale_of_held_out_pictures(good, monkeypatch):
    rows, finish = [], GLCFNetwork.finish

    def noting(network, batches, held):
        rows.append(torch.cat([x for x, _ in held()]))
        finish(network, batches, held)

    monkeypatch.setattr(GLCFNetwork, "finish", noting)
    detector = clone(SMALL).set_params(**GRID, logical_weight=0.3).fit(good)
    detector.net_.double()
    whole = detector._describe(as_batch(good)).double()
    held = [
        int((whole - row.double()).abs().sum(1).argmin()) for row in torch.cat(rows)
    ]
    assert len(set(held)) == detector.n_held_out_ == 5

    def parts(X):
        """Yield the anomalies (n, 32, 32), what looks wrong and then what is."""
        taught, local, joint, again = said_of(detector, X)
        for a, b in ((taught, local), (joint, again)):
            assert len(a) == 1
            found = torch.tensor(1 - cosine(a[0], b[0], 1))[:, None]
            yield torch.nn.functional.interpolate(found, (32, 32), mode="bilinear")[
                :, 0
            ].numpy()

    expected = 0
    for calm, new, weight in zip(
        parts(good[held]), parts(good[:3]), (1, 0.3), strict=True
    ):
        expected = expected + weight * (new - calm.mean()) / calm.std()
    assert_allclose(detector.transform(good[:3]), expected, rtol=1e-4, atol=1e-4)
    scores = detector.score_samples(good[:3])
    assert_allclose(-scores, expected.max((1, 2)), rtol=1e-4, atol=1e-4)


def test_layers_count_alike():
    network = GLCFNetwork([(4, 8, 8), (4, 4, 4), (4, 2, 2)], (8, 8), (1,) * 2, None,
                          True, 4, 1, 1, 0.5)  # fmt: skip
    maps = torch.randn(4, 3, 8, 8)
    expected = (maps[0] + maps[1]) / 2 + (maps[2] + maps[3]) / 4
    assert_allclose(network.joined(maps), expected, rtol=1e-6)


def test_nothing_is_amiss_where_both_say_the_same(good):
    detector = clone(SMALL).fit(good)
    network = detector.net_.double()
    x = detector._describe(as_batch(good[:3]))
    raw = network.raw_maps(x)
    assert raw.shape == (6, 3, 32, 32)
    assert raw.flatten(1).amax(1).min() > 1e-4
    whole = network.rebuilt_maps(x)[2]
    network.whole_of_local.forward = lambda maps: whole
    assert_allclose(network.raw_maps(x)[3:], 0, atol=1e-12)
    assert_allclose(network.raw_maps(x)[:3], raw[:3])


def test_the_whole_goes_through_one_token():
    bottleneck = SemanticBottleneck((3, 4, 5), 8, 2, 2).double()
    x = torch.randn(2, 3, 4, 5).double()
    tokens, whole = bottleneck.latent(x)
    assert tokens.shape == (2, 20, 8)
    assert whole.shape == (2, 1, 8)
    by_place, by_whole = bottleneck.maps(tokens, whole)
    assert by_place.shape == by_whole.shape == x.shape
    # the picture's map needs its token alone, which all places have a part in
    assert torch.equal(bottleneck.maps(torch.randn_like(tokens), whole)[1], by_whole)
    same = bottleneck.maps(tokens, whole[:1].expand(2, -1, -1))
    assert_allclose(same[1][0].detach(), same[1][1].detach(), atol=1e-12)
    assert torch.equal(same[0], by_place)
    x.requires_grad_(True)
    (slope,) = torch.autograd.grad(bottleneck.latent(x)[1][0].square().sum(), x)
    assert (slope[0].abs().amax(0) > 0).all()
    assert not slope[1].any()
    # places differ where the token is asked for them
    assert by_whole[0].flatten(1).std(1).min() > 1e-3


def test_a_block_is_that_of_a_transformer():
    """Attention with a softmax, written out with loops over heads."""
    width, heads = 6, 2
    block = Block(width, heads, SelfAttention)
    block.double()
    x = torch.randn(2, 5, width).double()
    mean, var = x.mean(2, keepdim=True), x.var(2, correction=0, keepdim=True)
    seen = (x - mean) / (var + 1e-8).sqrt()
    q, k, v = block.attention.qkv(seen).split(width, 2)
    found = []
    for i in range(heads):
        own = slice(3 * i, 3 * i + 3)
        weights = torch.exp(q[..., own] @ k[..., own].mT / 3**0.5)
        found.append(weights @ v[..., own] / weights.sum(2, keepdim=True))
    expected = x + block.attention.out(torch.cat(found, 2))
    expected = expected + block.mlp(block.norms[1](expected))
    assert_allclose(block(x).detach(), expected.detach(), atol=1e-12)


def test_the_rate_falls_after_three_fifths(good):
    from skorch.callbacks import Callback

    class Rates(Callback):
        seen = []

        def on_epoch_begin(self, net, **others):
            self.seen.append(net.optimizer_.param_groups[0]["lr"])

    Rates.seen.clear()
    clone(SMALL).set_params(max_epochs=5, callbacks=[Rates()], **GRID).fit(good)
    assert_allclose(Rates.seen, [0.003] * 3 + [0.0003] * 2)


def test_one_layer_is_seen_and_rebuilt(good):
    detector = clone(SMALL).set_params(layers=("scale3",)).fit(good)
    network = detector.net_
    assert network.targets == [network.deepest] == [0]
    assert detector.transform(good[:2]).shape == (2, 32, 32)
    with pytest.raises(ValueError, match="n_heads=3 does not divide token_size=8"):
        clone(SMALL).set_params(n_heads=3).fit(good)


# --------------------------------------------------------------------- parts swapped


def halves(n, seed, shades=(0.0, 0.5)):
    """Return pictures (n, 48, 48) of a disc of one shade in each half, anywhere."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[:48, :48]
    found = rng.uniform(247 / 255, 1, size=(n, 48, 48))
    for picture in found:
        for half, shade in enumerate(shades):
            row, column = rng.uniform(6, 41), rng.uniform(6, 17) + 24 * half
            picture[(rows - row) ** 2 + (columns - column) ** 2 <= 16] = shade
        picture[:] = gaussian_filter(picture, 0.7)
    return found.astype(np.float32)


@pytest.mark.full
def test_swapped_parts_are_told():
    """Black is left and grey is right; where they are swapped every patch is normal."""
    train, good, swapped = halves(100, 0), halves(60, 1), halves(60, 2, (0.5, 0.0))
    both, y = np.concatenate([good, swapped]), np.repeat([0, 1], 60)
    patches = PatchCore(layers=("scale1", "scale2"), random_state=0).fit(train)
    assert 0.35 < roc_auc_score(y, -patches.score_samples(both)) < 0.65
    detector = GLCF(
        layers=("scale3", "scale4"),
        token_size=32,
        n_heads=4,
        depth=2,
        n_blocks=1,
        max_epochs=80,
        batch_size=8,
        lr=0.002,
        smoothing=1,
        random_state=0,
    ).fit(train)
    network = detector.net_
    with torch.no_grad():
        x = detector._describe(torch.tensor(both)[..., None])
        _, logical = network.calibration(network.raw_maps(x))
    assert roc_auc_score(y, logical.flatten(1).amax(1)) > 0.9
    assert roc_auc_score(y, -detector.score_samples(both)) > 0.9
    assert np.mean(detector.predict(good) == -1) < 0.2
    assert np.mean(detector.predict(swapped) == -1) > 0.7
