"""Detectors with other labels than one number a class: vectors, and a hierarchy."""

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from scipy.spatial.distance import cosine

from skad.ood import SemanticLabels
from skad.ood._semantic_labels import SemanticLabelsNetwork
from tests.test_ood_trained import SMALL, make


def vectors(labels=None, k=2, size=4):
    torch.manual_seed(0)
    net = SemanticLabelsNetwork((3,), 4, "mlp", (5,), labels, k, size)
    return net.double().requires_grad_(False)


def test_semantic_labels_are_the_formula():
    net = vectors()
    x, y = torch.randn(6, 3, dtype=torch.float64), torch.tensor([0, 3, 2, 1, 1, 0])
    f, e = net.judge(x).numpy(), net.labels.numpy()
    assert f.shape == (6, 2, 4)
    loss = [
        sum(cosine(f[i, k], e[k, y[i]]) / 2 for k in range(2)) for i in range(len(x))
    ]
    assert_allclose(float(net.loss(x, y)), np.mean(loss))
    distances = [
        [sum(cosine(f[i, k], e[k, c]) for k in range(2)) for c in range(4)]
        for i in range(len(x))
    ]
    assert_allclose(net(x), 2 - np.array(distances), rtol=1e-5)
    assert_array_equal(net(x).argmax(1), np.argmin(distances, axis=1))
    assert_allclose(net.anomaly(x), -(f**2).sum((1, 2)))


def test_a_longer_vector_keeps_the_class_and_is_more_normal():
    net = vectors()
    x = torch.randn(6, 3, dtype=torch.float64)
    before, classes, first = net.anomaly(x), net(x), net.judge(x)[:, 0]
    last = net.classifier.layers[-1]
    last.weight[:4] *= 2
    last.bias[:4] *= 2
    assert_allclose(net(x), classes)
    assert_allclose(net.anomaly(x), before - 3 * first.square().sum(1))


def test_of_orthogonal_labels_the_largest_part_is_the_class():
    net = vectors(np.eye(4))
    x = torch.randn(50, 3, dtype=torch.float64)
    assert_array_equal(net(x).argmax(1), net.judge(x)[:, 0].argmax(1))


def test_given_labels_are_those_that_are_learned():
    X, y, _ = make()
    labels = np.random.default_rng(0).normal(size=(3, 3, 6))
    given = {**SMALL, "max_epochs": 40}
    detector = SemanticLabels(label_embeddings=labels, **given).fit(X, y)
    unit = labels / np.linalg.norm(labels, axis=2, keepdims=True)
    assert_allclose(detector.net_.labels, unit, rtol=1e-6)
    assert np.mean(detector.predict_with_rejection(X, reject=9) == y) > 0.9
    with pytest.raises(ValueError, match=r"label_embeddings has shape \(3, 2, 6\)"):
        SemanticLabels(label_embeddings=labels[:, :2], **given).fit(X, y)
    with pytest.raises(ValueError, match="a vector of 0"):
        SemanticLabels(label_embeddings=0 * labels, **given).fit(X, y)
