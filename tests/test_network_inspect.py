"""Scores and maps of networks from one forward pass."""

import numpy as np
import pytest
import torch
from numpy.testing import assert_array_equal

import skad
from skad._training import TorchDetector
from skad.nn.network import Network
from tests._instances import CHEAP, labels_for

ON_ROWS = [
    name
    for name, cls in skad.all_detectors()
    if cls._data == "rows" and issubclass(cls, TorchDetector)
]


@pytest.fixture(scope="module")
def rows():
    rng = np.random.default_rng(0)
    return rng.normal(size=(60, 5)) @ rng.normal(size=(5, 5))


@pytest.mark.parametrize("name", ON_ROWS)
def test_one_pass_gives_scores_and_maps(name, rows):
    detector = getattr(skad, name)(**CHEAP[name]).set_params(random_state=0)
    detector.fit(rows, labels_for(name, rows))
    scores, maps = detector.score_samples(rows), detector.transform(rows)
    found = detector.inspect(rows)
    assert_array_equal(found.scores, scores)
    assert_array_equal(found.maps, maps)


@pytest.mark.parametrize(
    ("name", "part"),
    [
        ("AAE", "encoder"),
        ("ADAE", "generator"),
        ("ALAD", "encoder"),
        ("ALOCC", "refiner"),
        ("AutoEncoder", "encoder"),
        ("DAGMM", "encoder"),
        ("EGBAD", "encoder"),
        ("FAnoGAN", "encoder"),
        ("GANomaly", "encoder"),
        ("GPND", "encoder"),
        ("HADGAN", "encoder"),
        ("MemAE", "encoder"),
        ("OCGAN", "encoder"),
        ("OGNet", "refiner"),
        ("SkipGANomaly", "generator"),
        ("VAE", "encoder"),
    ],
)
def test_the_pass_is_one(name, part, rows):
    settings = dict(CHEAP[name])
    if name in ("ALOCC", "OGNet"):
        settings["measure"] = "refined"
    detector = getattr(skad, name)(**settings).set_params(random_state=0).fit(rows)
    calls = []
    rows = rows.astype(np.float32)  # the network itself, no copy of it
    getattr(detector.net_, part).register_forward_hook(lambda *_: calls.append(1))
    detector.inspect(rows)
    assert len(calls) == 1


def test_a_network_without_a_shared_pass_gives_both():
    class Two(Network):
        def anomaly(self, x):
            return x.amax(1)

        def map(self, x):
            return 2 * x

    x = torch.arange(6.0).reshape(2, 3)
    anomaly, maps = Two().inspect(x)
    assert anomaly.tolist() == [2.0, 5.0]
    assert torch.equal(maps, 2 * x)
