"""Dinomaly: linear attention, the order of blocks, loose losses, easy places."""

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from torch.nn import functional as F  # noqa: N812

import skad
from skad.embedding import ViTEmbedding
from skad.image import Dinomaly
from skad.image.student._dinomaly import DinomalyNetwork, easy_places
from skad.nn.vit import linear_attention, n_heads_for, with_gradient
from tests._transformer import TinyViT


def network(n_layers=4, grid=(3, 5), easy_share=0.9):
    torch.manual_seed(0)
    return DinomalyNetwork([(8, *grid)] * n_layers, None, 0.2, easy_share)


def test_linear_attention_is_attention_with_a_kernel():
    q, k, v = torch.randn(3, 2, 4, 9, 5, dtype=torch.float64)
    weights = (F.elu(q) + 1) @ (F.elu(k) + 1).mT  # (b, heads, t, t)
    expected = weights / weights.sum(3, keepdim=True) @ v
    assert_allclose(linear_attention(q, k, v), expected, rtol=1e-12)
    assert [n_heads_for(n) for n in (384, 768, 1024, 37, 12)] == [6, 12, 16, 1, 1]


def test_the_decoder_goes_back_through_the_blocks():
    net = network().eval().requires_grad_(False)
    maps = list(torch.randn(4, 2, 8, 3, 5))
    x = torch.cat([each.flatten(1) for each in maps], 1)
    given = []

    class Says(torch.nn.Module):
        def __init__(self, i):
            super().__init__()
            self.i = i

        def forward(self, tokens):
            given.append(tokens)
            return maps[3 - self.i].flatten(2).mT

    net.decoder = torch.nn.ModuleList(Says(i) for i in range(4))
    assert float(net.loss(x, None)) == pytest.approx(0, abs=1e-6)
    assert_allclose(net.map(x), 0, atol=1e-6)
    mean = torch.stack(maps).mean(0).flatten(2).mT
    assert_allclose(given[0], net.bottleneck(mean), atol=1e-6)
    # within a half the order does not matter, across it does
    net.decoder = torch.nn.ModuleList(Says(i) for i in (1, 0, 3, 2))
    assert float(net.loss(x, None)) == pytest.approx(0, abs=1e-6)
    net.decoder = torch.nn.ModuleList(Says(i) for i in (3, 2, 1, 0))
    assert float(net.loss(x, None)) > 0.5


def test_the_loss_and_the_map_are_cosines():
    net = network().eval()
    x = torch.randn(3, 4 * 8 * 15)
    loss, maps = 0.0, 0.0
    for known, rebuilt in net.pairs(x):
        loss += 1 - F.cosine_similarity(known.flatten(1), rebuilt.flatten(1)).mean()
        maps = maps + 1 - F.cosine_similarity(known, rebuilt, dim=1)
    assert_allclose(net.loss(x, None).detach(), loss.detach() / 2, atol=1e-6)
    assert_allclose(net.map(x).detach(), maps.detach() / 2, atol=1e-6)


def test_easy_places_teach_a_tenth():
    distances = torch.arange(20.0).view(1, 4, 5)
    assert int(easy_places(distances, 0.9).sum()) == 18
    assert not easy_places(distances, 0.0).any()
    x = torch.randn(2, 3, dtype=torch.float64, requires_grad=True)
    share = torch.tensor([[0.1, 1, 0.1], [1, 1, 0.1]], dtype=torch.float64)
    found = with_gradient(x, share)
    assert_allclose(found.detach(), x.detach(), rtol=0)
    found.pow(3).sum().backward()
    assert_allclose(x.grad, share * 3 * x.detach().square())


def test_the_share_of_easy_places_grows_with_the_steps():
    x = torch.randn(2, 4 * 8 * 15)
    gradients = []
    for n_steps in (0, 1000):
        net = network().eval()
        net.n_steps.fill_(n_steps)
        rebuilt = []
        net.rebuilt_maps = lambda maps, keep=rebuilt: (
            keep
            or keep.extend(
                torch.randn(4, 2, 8, 3, 5, generator=torch.Generator().manual_seed(1))
                .requires_grad_()
                .unbind()
            )
            or [one.retain_grad() or one for one in keep]
        )
        known, own = net.pairs(x)[0]
        net.loss(x, None).backward()
        gradients.append(rebuilt[0].grad)
        easy = easy_places(1 - F.cosine_similarity(known, own, dim=1), 0.9)
    ratio = (gradients[1] / gradients[0]).mean(1)
    assert_allclose(ratio[easy], 0.1, atol=1e-4)
    assert_allclose(ratio[~easy], 1, atol=1e-4)
    counted = network().train()
    counted.loss(x, None)
    counted.eval().loss(x, None)
    assert int(counted.n_steps) == 1


@pytest.mark.sampled(3)
def test_on_a_transformer_it_finds_what_is_planted(tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime")
    random = np.random.default_rng(0)
    stripes = 0.5 + 0.3 * np.sin(np.arange(32) / 2)[:, None]
    X = stripes + random.normal(0, 0.02, size=(24, 32, 32, 3))
    X = X.astype(np.float32)
    bad = X[:4].copy()
    bad[:, 8:16, 16:24] = (0.9, 0.1, 0.1)
    detector = Dinomaly(
        embedding=ViTEmbedding(TinyViT, layers=(0, 1, 2, 3), norm=False),
        max_epochs=60,
        batch_size=8,
        smoothing=1,
        random_state=0,
    ).fit(X[4:])
    assert len(detector.net_.decoder) == 4
    assert detector.score_samples(bad).max() < detector.score_samples(X[:4]).min()
    mean = detector.transform(bad).mean(0)
    assert mean[8:16, 16:24].mean() > 2 * np.median(mean)
    skad.export.to_onnx(detector, tmp_path / "one.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "one.onnx")
    decisions, maps = session.run(None, {"pictures": bad})
    assert_allclose(decisions, detector.decision_function(bad), atol=1e-4)
    assert_allclose(maps, detector.transform(bad), atol=1e-4)


def test_layers_of_other_widths_are_refused():
    with pytest.raises(
        ValueError, match=r"maps of \[2, 3\] channels: Dinomaly averages"
    ):
        DinomalyNetwork([(2, 4, 4), (3, 2, 2)], None, 0.2, 0.9)
