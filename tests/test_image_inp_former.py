"""INP-Former: prototypes of a picture, attention to them, mining and coherence."""

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from torch.nn import functional as F  # noqa: N812

import skad
from skad.embedding import ViTEmbedding
from skad.image import INPFormer
from skad.image.student._inp_former import (
    INPFormerNetwork,
    PrototypeBlock,
    mining,
    to_prototypes,
)
from tests._transformer import TinyViT


def network(n_layers=4, n_prototypes=3, mining_power=3.0, coherence=0.2):
    torch.manual_seed(0)
    shapes = [(8, 3, 5)] * n_layers
    net = INPFormerNetwork(shapes, n_prototypes, None, mining_power, coherence)
    for weight in net.parameters():  # larger than training starts with
        weight.data = weight.data + 0.3 * torch.randn_like(weight)
    return net.eval().requires_grad_(False)


def attention(x, y, query, key_value, n_heads, weigh):
    """Attention of tokens (t, d) to others (m, d), head by head and token by token."""
    d, found = x.shape[1] // n_heads, []
    q, (k, v) = query(x), key_value(y).chunk(2, 1)
    for h in range(n_heads):
        own = slice(h * d, h * d + d)
        rows = [weigh(one, k[:, own], h) @ v[:, own] for one in q[:, own]]
        found.append(torch.stack(rows))
    return torch.cat(found, 1)


def test_prototypes_gather_tokens_by_attention():
    net, tokens = network().prototypes, torch.randn(2, 15, 8)
    net.n_heads = 2

    def weigh(q, k, h):
        return (k @ q / 2).softmax(0)  # the root of four numbers

    for picture, found in zip(tokens, net(tokens), strict=True):
        start, norms = net.start[0], net.norms
        gathered = attention(
            norms[0](start), norms[1](picture), net.query, net.key_value, 2, weigh
        )
        expected = start + net.out(gathered)
        expected = expected + net.mlp(norms[2](expected))
        assert_allclose(found, expected, atol=1e-5)


def test_a_block_is_made_of_prototypes_alone():
    torch.manual_seed(0)
    block = PrototypeBlock(8, 2).eval().requires_grad_(False)
    block.scale.copy_(torch.tensor([0.5, 2.0]).view(2, 1, 1))
    tokens, prototypes = torch.randn(2, 15, 8), torch.randn(2, 3, 8)

    def weigh(q, k, h):
        return ([0.5, 2.0][h] * F.cosine_similarity(k, q[None], dim=1)).relu()

    found = block(tokens, prototypes)
    for i in range(2):
        taken = attention(
            block.norms[0](tokens[i]),
            block.norms[1](prototypes[i]),
            block.query,
            block.key_value,
            2,
            weigh,
        )
        expected = block.out(taken)
        expected = expected + block.mlp(block.norms[2](expected))
        assert_allclose(found[i], expected, atol=1e-5)
    # in whatever order they come, and however long the query is
    assert_allclose(block(tokens, prototypes[:, [2, 0, 1]]), found, atol=1e-5)
    block.query.weight *= 7
    block.query.bias *= 7
    assert_allclose(block(tokens, prototypes), found, atol=1e-5)
    # with one and the same prototype all tokens go along one line in a head
    same = block.attended(tokens, prototypes[:, :1].expand(-1, 3, -1))
    assert (torch.linalg.matrix_rank(same, atol=1e-4) <= 1).all()


def test_coherence_is_to_the_nearest_prototype():
    tokens, prototypes = torch.randn(2, 15, 8), torch.randn(2, 3, 8)
    for i, j in np.ndindex(2, 15):
        cosines = F.cosine_similarity(tokens[i, j][None], prototypes[i], dim=1)
        expected = 1 - float(cosines.max())
        assert float(to_prototypes(tokens, prototypes)[i, j]) == pytest.approx(
            expected, abs=1e-6
        )
    assert_allclose(to_prototypes(tokens, 3 * tokens), 0, atol=1e-6)


def test_hard_places_teach_by_the_cube_of_their_distance():
    away = torch.rand(4, 3, 5)
    assert_allclose(mining(away, 3.0), (away / away.mean()) ** 3, rtol=1e-5)
    assert_allclose(mining(torch.full((2, 2, 2), 0.3), 3.0), 1, rtol=1e-5)
    assert_allclose(mining(torch.zeros(2, 2, 2), 3.0), 1)
    assert float(mining(away, 3.0).mean()) >= 1
    x, gradients = torch.randn(2, 4 * 8 * 15), []
    for power in (0.0, 3.0):
        net, rebuilt = network(mining_power=power), []

        def made(tokens, prototypes, keep=rebuilt):
            torch.manual_seed(3)
            keep += torch.randn(4, 2, 8, 3, 5).requires_grad_().unbind()
            for one in keep:
                one.retain_grad()
            return keep

        net.rebuilt_from = made
        net.loss(x, None).backward()
        gradients.append(rebuilt[3].grad)
    known = net.groups_of(net.seen(x))[1]
    own = torch.stack(rebuilt[2:]).mean(0).detach()
    distances = 1 - F.cosine_similarity(known, own, dim=1)
    ratio = (distances / distances.mean()) ** 3
    assert_allclose(gradients[1], ratio[:, None] * gradients[0], atol=1e-6)


def test_the_loss_and_the_map_are_cosines():
    net, x = network(coherence=0.5), torch.randn(3, 4 * 8 * 15)
    maps, loss, expected = net.seen(x), 0.0, 0.0
    tokens = torch.stack(maps).mean(0).flatten(2).mT
    prototypes = net.prototypes(tokens)
    found, said = net.bottleneck(tokens), []
    for block in net.decoder:
        found = block(found, prototypes)
        said.append(found.mT.reshape(3, 8, 3, 5))
    for half, own in ((maps[:2], said[2:]), (maps[2:], said[:2])):
        known, rebuilt = (torch.stack(each).mean(0) for each in (half, own))
        loss += 1 - F.cosine_similarity(known.flatten(1), rebuilt.flatten(1)).mean()
        expected = expected + 1 - F.cosine_similarity(known, rebuilt, dim=1)
    assert_allclose(net.map(x), expected / 2, atol=1e-6)
    gathered = to_prototypes(tokens, prototypes).mean()
    assert_allclose(net.loss(x, None), loss / 2 + 0.5 * gathered, atol=1e-6)


def test_it_finds_what_is_planted():
    random = np.random.default_rng(0)
    stripes = 0.5 + 0.2 * np.sin(np.arange(32) / 2)
    X = stripes + random.normal(0, 0.01, size=(24, 32, 32))
    bad = X[:4].copy()
    bad[:, 8:16, 16:24] = 0.9
    detector = INPFormer(
        layers=["scale2"], max_epochs=30, smoothing=1, random_state=0
    ).fit(X[4:])
    assert detector.score_samples(bad).max() < 2 * detector.score_samples(X[:4]).min()
    mean = detector.transform(bad).mean(0)
    assert mean[8:16, 16:24].mean() > 2 * np.median(mean)


@pytest.mark.sampled(3)
def test_on_a_transformer_it_goes_into_a_graph(tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime")
    X = np.random.default_rng(0).uniform(size=(8, 32, 32, 3)).astype(np.float32)
    detector = INPFormer(
        embedding=ViTEmbedding(TinyViT, layers=(0, 1, 2, 3), norm=False),
        max_epochs=2,
        random_state=0,
    ).fit(X)
    skad.export.to_onnx(detector, tmp_path / "one.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "one.onnx")
    decisions, maps = session.run(None, {"pictures": X})
    assert_allclose(decisions, detector.decision_function(X), atol=1e-4)
    assert_allclose(maps, detector.transform(X), atol=1e-4)


def test_layers_of_other_widths_are_refused():
    with pytest.raises(ValueError, match=r"channels: INPFormer averages"):
        INPFormerNetwork([(2, 4, 4), (3, 2, 2)], 3, None, 3.0, 0.2)
