"""SuperSimpleNet: Perlin masks, noise in them, two heads and their losses."""

import math

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal

import skad
from skad.image import SuperSimpleNet
from skad.image.discriminative._supersimplenet import (
    SuperSimpleNetwork,
    truncated_l1,
)
from skad.nn.losses import focal
from skad.nn.perlin import perlin, perlin_masks


def network(**given):
    torch.manual_seed(0)
    given = {
        "hidden_size": 8,
        "noise": 0.015,
        "margin": 0.5,
        "mask_threshold": 0.2,
        "adaptor_lr": 1e-4,
        **given,
    }
    return SuperSimpleNetwork([(4, 6, 5), (3, 3, 3)], **given)


def test_perlin_noise_is_the_loop_over_places():
    torch.manual_seed(0)
    angles = 2 * math.pi * torch.rand(4, 3)
    found = perlin((12, 10), (3, 2), angles)
    for i, j in np.ndindex(12, 10):
        y, x = (i + 0.5) / 12 * 3, (j + 0.5) / 10 * 2
        total, r, c = 0.0, int(y), int(x)
        for down, right in np.ndindex(2, 2):
            angle = float(angles[r + down, c + right])
            dy, dx = y - r - down, x - c - right
            product = math.sin(angle) * dy + math.cos(angle) * dx
            ty, tx = (1 - abs(d) for d in (dy, dx))
            fade = [t**3 * (t * (6 * t - 15) + 10) for t in (ty, tx)]
            total += fade[0] * fade[1] * product
        assert float(found[i, j]) == pytest.approx(math.sqrt(2) * total, abs=1e-5)


def test_masks_are_of_many_sizes_and_never_empty():
    torch.manual_seed(0)
    masks = perlin_masks(60, (32, 20), 0.2)
    shares = masks.float().mean((1, 2))
    assert (shares > 0).all()
    assert 0.1 < shares.mean() < 0.5
    edges = (masks[:, 1:] != masks[:, :-1]).float().mean((1, 2))
    assert edges.max() > 5 * edges.min()
    assert perlin_masks(3, (1, 7), 0.2).shape == (3, 1, 7)


def test_noise_is_where_the_mask_says_and_in_half_of_the_copies():
    net, features = network(), torch.randn(40, 7, 12, 10)
    seen, mask = net.disturbed(features)
    changed = (seen != torch.cat([features, features])).all(1)
    assert_array_equal(changed, mask == 1)
    share = mask.amax((1, 2)).mean()
    assert 0.3 < share < 0.7
    away = (seen - torch.cat([features, features])).permute(0, 2, 3, 1)[mask == 1]
    assert float(away.std()) == pytest.approx(0.015, rel=0.02)


def test_losses_are_their_formulas():
    z = torch.tensor([3.0, -0.2, -2.0, 0.4, 1.0], dtype=torch.float64)
    labels = torch.tensor([0.0, 0.0, 0.0, 1.0, 1.0], dtype=torch.float64)
    p = torch.sigmoid(z)
    right = torch.where(labels == 1, p, 1 - p)
    expected = ((1 - right) ** 4 * -right.log()).mean()
    assert float(focal(z, labels)) == pytest.approx(float(expected))
    expected = (3.5 + 0.3) / 3 + 0.1 / 2
    assert float(truncated_l1(z, labels, 0.5)) == pytest.approx(expected)
    beyond = torch.tensor([-0.6, -9.0, 0.6, 9.0])
    assert float(truncated_l1(beyond, torch.tensor([0.0, 0, 1, 1]), 0.5)) == 0
    assert float(truncated_l1(-beyond[2:], torch.zeros(2), 0.5)) == 0


def test_the_second_head_teaches_the_adaptor_and_not_the_first_head():
    net = network()
    x = torch.randn(3, 4 * 30 + 3 * 9)
    _, pictures = net.both(x)
    pictures.square().sum().backward()
    assert all(weight.grad is None for weight in net.segment.parameters())
    assert net.adaptor.weight.grad.abs().sum() > 0
    assert net.classify.weight.grad.abs().sum() > 0
    assert net.map(x).shape == (3, 12, 10)
    sizes = [
        len(group["params"] if "lr" not in group else [])
        for group in net.groups("fit")["all"]
    ]
    n_weights = sum(1 for _ in net.parameters())
    assert sizes == [0, n_weights - 2]


@pytest.mark.sampled(3)
def test_it_learns_to_find_noise_in_features_and_goes_into_a_graph(tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime")
    random = np.random.default_rng(0)
    stripes = 0.5 + 0.2 * np.sin(np.arange(24) / 2)
    X = stripes + random.normal(0, 0.01, size=(20, 24, 24)).astype(np.float32)
    X = X.astype(np.float32)
    detector = SuperSimpleNet(
        layers=["scale2"],
        hidden_size=32,
        noise=0.1,
        max_epochs=40,
        batch_size=10,
        lr=2e-3,
        random_state=0,
    ).fit(X)
    loss = [row["train_loss"] for row in detector.history_]
    assert loss[-1] < loss[0] / 2
    net = detector.net_.eval()
    torch.manual_seed(1)
    with torch.no_grad():
        clean = net.adapted(detector._describe(torch.tensor(X)[..., None]))
        seen, mask = net.disturbed(clean)
        places, _ = net.heads(seen)
    assert skad.metrics.pixel_roc_auc(mask.numpy() == 1, places.numpy()) > 0.75
    skad.export.to_onnx(detector, tmp_path / "one.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "one.onnx")
    decisions, maps = session.run(None, {"pictures": X[:4, ..., None]})
    assert_allclose(decisions, detector.decision_function(X[:4]), atol=1e-3)
    assert_allclose(maps, detector.transform(X[:4]), atol=1e-3)
