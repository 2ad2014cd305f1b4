"""ONNX models give what their detectors give."""

import sys

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from torch import nn

import skad
from skad.export import to_onnx
from skad.image._base import ImageDetector
from skad.image.student._rebuilt_blocks import BlocksDetector
from tests._instances import default_instances, quick

pytest.importorskip("onnxscript")
onnxruntime = pytest.importorskip("onnxruntime")

H, W = 24, 32


class Small(nn.Module):
    """A backbone that is exported in seconds."""

    def __init__(self, n_channels=1):
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.one = nn.Conv2d(n_channels, 6, 3, 2, 1)
        self.two = nn.Conv2d(6, 8, 3, 2, 1)
        for weights in self.parameters():
            weights.data.normal_(generator=generator).mul_(0.3)

    def forward(self, x):
        return self.two(self.one(x).relu())


class Coloured(Small):
    def __init__(self):
        super().__init__(n_channels=3)


SMALL = {"backbone": Small, "layers": ("one", "two"), "random_state": 0}
TRAINED = {**SMALL, "max_epochs": 2, "batch_size": 5}


def pictures(n, seed, channels=()):
    rng = np.random.default_rng(seed)
    return rng.uniform(0.2, 0.8, size=(n, H, W, *channels)).astype(np.float32)


def run(path, X):
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    X = X if X.ndim == 4 else X[..., None]
    return session.run(["decision_function", "map"], {"pictures": X})


@pytest.mark.sampled(3)
@pytest.mark.parametrize(
    "detector",
    [
        skad.PaDiM(layers=("scale1",), n_features=5, random_state=0),
        skad.PaDiM(**{**SMALL, "backbone": Coloured}, image_size=(20, 28)),
        skad.PatchCore(**SMALL, coreset_ratio=0.3),
        skad.PatchCore(**SMALL, bank_size=20, n_neighbors=9, smoothing=0),
        skad.STFPM(**TRAINED, student_channels=(6, 8)),
        skad.FastFlow(**TRAINED, n_steps=2, smoothing=1.0),
        skad.CSFlow(**TRAINED, n_steps=1, hidden_size=4),
        skad.PyramidFlow(
            n_levels=2, n_steps=1, n_channels=4, max_epochs=1, random_state=0
        ),
        skad.FOD(**TRAINED, n_layers=1, n_heads=2, hidden_size=8),
    ],
    ids=[
        "padim",
        "padim_few",
        "patchcore",
        "patchcore_plain",
        "stfpm",
        "fastflow",
        "csflow",
        "pyramidflow",
        "fod",
    ],
)
def test_the_model_gives_scores_and_maps_of_the_detector(detector, tmp_path):
    channels = (3,) if detector.backbone is Coloured else ()
    detector.fit(pictures(10, 0, channels))
    path = tmp_path / "one.onnx"
    to_onnx(detector, path)
    assert list(tmp_path.iterdir()) == [path]
    for n in (1, 7):  # any number, whatever it was exported with
        X = pictures(n, 1, channels)
        X[0, 5:9, 20:26] = 1.0
        scores, maps = run(path, X)
        assert scores.shape == (n,)
        assert maps.shape == (n, H, W)
        expected = detector.transform(X)
        assert expected.std() > 0
        assert_allclose(maps, expected, atol=1e-4 * max(1, expected.max()))
        expected = detector.decision_function(X)
        assert_allclose(scores, expected, atol=1e-4 * max(1, abs(expected).max()))


def exporting():
    """Return every detector that says its map is a forward pass, made cheap."""
    found = []
    for one in quick(default_instances()):
        known = one.get_params()
        if isinstance(one, ImageDetector):
            given = {**SMALL, "batch_size": 5, "image_size": (20, 28), "other": None}
        else:
            given = {"random_state": 0}
        if getattr(type(one), "_exports", False):
            if isinstance(one, BlocksDetector):
                given["layers"] = ("one",)  # it averages layers, which are to be alike
            one.set_params(**{k: v for k, v in given.items() if k in known})
            found.append(one)
    return found


@pytest.mark.sampled(6)
@pytest.mark.parametrize("kind", ["rows", "pictures"])
@pytest.mark.parametrize("detector", exporting(), ids=lambda one: type(one).__name__)
def test_every_map_of_a_forward_pass_is_exported(detector, kind, tmp_path):
    detector = clone(detector)
    if kind == "rows":
        if isinstance(detector, ImageDetector):
            pytest.skip("looks at pictures")
        X = np.random.default_rng(0).normal(size=(40, 5)).astype(np.float32)
        new = 1 + 0.5 * X[:7]
    else:
        if "hidden_sizes" in detector.get_params():
            detector.set_params(hidden_sizes=(3, 4))
        X, new = pictures(20, 0), pictures(7, 1)
    detector.fit(X)
    to_onnx(detector, tmp_path / "one.onnx")
    options = {"providers": ["CPUExecutionProvider"]}
    session = onnxruntime.InferenceSession(tmp_path / "one.onnx", **options)
    for samples in (new[:1], new):
        given = samples if kind == "rows" else samples[..., None]
        found = session.run(["decision_function", "map"], {kind: given})
        expected = detector.decision_function(samples), detector.transform(samples)
        exact = samples.astype(np.float64)
        exact = detector.decision_function(exact), detector.transform(exact)
        for one, other, true in zip(found, expected, exact, strict=True):
            assert one.shape == other.shape
            rounding = abs(other - true).max()  # of single precision, in any order
            tolerance = max(1e-4 * max(1, abs(other).max()), 10 * rounding)
            assert_allclose(one, other, atol=tolerance)
    assert expected[1].std() > 0


def test_what_takes_gradients_or_searches_is_not_exported(tmp_path):
    X = np.random.default_rng(0).normal(size=(40, 5))
    small = {"hidden_sizes": (4,), "latent_size": 2, "max_epochs": 1}
    for one in (skad.RaPP(**small), skad.AnoGAN(**small, n_search_steps=2)):
        with pytest.raises(
            ValueError, match=r"has no ONNX form: .* AutoEncoder, .*VAE"
        ):
            to_onnx(one.fit(X), tmp_path / "one.onnx")
    with pytest.raises(
        ValueError, match=r"(?s)VAE, which has no ONNX form.*measure='kl'"
    ):
        to_onnx(skad.VAE(**small, measure="kl").fit(X), tmp_path / "one.onnx")


def test_a_loaded_detector_is_exported_like_the_saved_one(tmp_path):
    detector = skad.PaDiM(layers=("scale4",), random_state=0)
    X = pictures(6, 0)
    detector.fit(X)
    skad.save(detector, tmp_path / "one.skad")
    to_onnx(skad.load(tmp_path / "one.skad"), tmp_path / "one.onnx")
    scores, _ = run(tmp_path / "one.onnx", X)
    assert_allclose(scores, detector.decision_function(X), atol=1e-3)


def test_exporting_changes_nothing_in_the_detector(tmp_path):
    detector = skad.PatchCore(**SMALL).fit(pictures(6, 0))
    before = {name: id(value) for name, value in vars(detector).items()}
    to_onnx(detector, tmp_path / "one.onnx")
    assert {name: id(value) for name, value in vars(detector).items()} == before


def test_what_has_no_onnx_form_says_what_has(tmp_path):
    with pytest.raises(ValueError, match=r"KNN, which has no ONNX form: .* PatchCore"):
        to_onnx(skad.KNN().fit(np.eye(9)), tmp_path / "one.onnx")
    with pytest.raises(NotFittedError):
        to_onnx(skad.PaDiM(), tmp_path / "one.onnx")


def test_onnx_is_asked_for(monkeypatch, tmp_path):
    detector = skad.PatchCore(**SMALL).fit(pictures(3, 0))
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    with pytest.raises(ImportError, match=r"skad\[export\]"):
        to_onnx(detector, tmp_path / "one.onnx")
    assert not list(tmp_path.iterdir())
