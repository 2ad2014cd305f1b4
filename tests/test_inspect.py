"""`inspect` is the four methods from one pass, to the last bit, for every detector."""

import numpy as np
import pytest
from numpy.testing import assert_array_equal
from sklearn import config_context

import skad
from skad.calibration import ConformalDetector, QuantileThreshold
from skad.series import MatrixProfile, SubsequenceKNN, WindowDetector
from tests._classifiers import bumps
from tests._instances import brief, identify, instances, seeded
from tests._instances import self_labelling_instances as self_labelling

DETECTORS = brief([*instances(), *self_labelling()])


def check(detector, X, **params):
    """Hold an inspection of `X` to the four methods."""
    found = detector.inspect(X, **params)
    with config_context(transform_output="default"):
        maps = detector.transform(X, **params)
    expected = (
        detector.score_samples(X, **params),
        detector.decision_function(X, **params),
        detector.predict(X, **params),
        maps,
    )
    assert found._fields == ("scores", "decision", "labels", "maps")
    for one, other in zip(found, expected, strict=True):
        assert type(one) is type(other)
        assert one.dtype == other.dtype
        assert_array_equal(np.asarray(one), np.asarray(other))


@pytest.fixture(scope="module")
def rows():
    rng = np.random.default_rng(0)
    return rng.normal(size=(60, 4)), rng.normal(1, 2, size=(23, 4))


@pytest.mark.by_turns
@pytest.mark.parametrize("detector", DETECTORS, ids=identify)
def test_all_detectors(detector, rows):
    X, test = rows
    detector = seeded(detector)
    if "contamination" in detector.get_params(deep=False):
        detector.set_params(contamination=0.1)
    detector.fit(X)
    check(detector, test)
    check(detector, test.astype(np.float32))
    check(detector, test[:12])


@pytest.mark.parametrize(
    "detector",
    [
        skad.KNN(),
        skad.Mahalanobis(),
        WindowDetector(window_size=3),
        skad.MaxSoftmax(bumps()),
        QuantileThreshold(),
        ConformalDetector(skad.ECOD(), false_alarm_rate=0.2),
    ],
    ids=identify,
)
def test_tensors(detector, rows):
    torch = pytest.importorskip("torch")
    test = torch.as_tensor(rows[1])
    detector = seeded(detector).fit(rows[0])
    check(detector, test)
    check(detector, test.float())


@pytest.mark.parametrize("align", ["mean", "center", "end", "max"])
@pytest.mark.parametrize(
    "Detector", [WindowDetector, SubsequenceKNN, MatrixProfile, skad.KMeansAD]
)
def test_groups(Detector, align):
    rng = np.random.default_rng(0)
    X, groups = rng.normal(size=(150, 2)), np.repeat([1, 0, 1, 2], [40, 40, 30, 40])
    detector = seeded(Detector(window_size=7, stride=3, align=align))
    detector.set_params(contamination=0.1).fit(X, groups=groups)
    check(detector, X, groups=groups)
    assert (detector.inspect(X).scores != detector.inspect(X, groups).scores).any()
    held = QuantileThreshold(detector).fit(X, groups=groups)
    check(held, X, groups=groups)
    with config_context(enable_metadata_routing=True):
        routed = QuantileThreshold(detector).fit(X, groups=groups)
        check(routed, X, groups=groups)
        assert_array_equal(
            routed.inspect(X, groups=groups).maps, detector.transform(X, groups)
        )


def test_windows_are_scored_once(monkeypatch):
    seen = []
    X = np.random.default_rng(0).normal(size=(200, 1))
    detector = WindowDetector(skad.ECOD(), window_size=8, align="max").fit(X)
    inspect = skad.ECOD._inspect
    monkeypatch.setattr(
        skad.ECOD, "_inspect", lambda self, X: seen.append(len(X)) or inspect(self, X)
    )
    detector.inspect(X)
    assert sum(seen) == 193


@pytest.mark.parametrize("attribution", ["ablation", "gradient", "integrated"])
def test_the_score_of_a_classifier_is_passed_once(attribution, rows):
    torch = pytest.importorskip("torch")
    passes = []

    class Counting(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.layers = torch.nn.Linear(4, 3).double()

        def forward(self, x):
            passes.append(len(x))
            return self.layers(x)

    X, test = rows
    detector = skad.Energy(Counting(), attribution=attribution).fit(X)
    counts = {}
    for name in ("score_samples", "transform", "inspect"):
        passes.clear()
        getattr(detector, name)(test)
        counts[name] = sum(passes) / len(test)
    assert counts["score_samples"] == 1
    shared = attribution == "ablation"
    assert counts["inspect"] == counts["transform"] + 1 - shared


def test_folds_ask_the_classifier_nothing(rows):
    torch = pytest.importorskip("torch")
    passes = []

    class Counting(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.layers = torch.nn.Linear(4, 3).double()

        def forward(self, x):
            passes.append(len(x))
            return self.layers(x)

    module = Counting()
    counts = []
    for contamination in ("auto", 0.1):
        passes.clear()
        detector = skad.NNGuide(module, contamination=contamination, n_neighbors=3)
        detector.set_params(attribution="ablation").fit(rows[0])
        counts.append(sum(passes))
    assert counts[0] == counts[1]
