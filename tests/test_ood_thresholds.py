"""Classifiers: about five in a hundred of fresh rows of the classes are flagged."""

import numpy as np
import pytest
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.neural_network import MLPClassifier

import skad
from skad.ood._base import ClassifierDetector
from skad.ood._honest import class_folds
from skad.ood._trained import TrainedClassifier
from tests._instances import CHEAP

OOD = [
    (name, cls)
    for name, cls in skad.all_detectors()
    if issubclass(cls, ClassifierDetector | TrainedClassifier)
]
# Those that flag fewer than asked for, from 100 and from 1,000 rows, with the reason.
LEAST = {
    # a class is left without weights, and its rows without differences
    "DICE": (0.0, 0.01),
    # networks of twenty steps differ in the size of their scores
    "BoundaryGZSL": (0.01, 0.03),
    "GeneralizedODIN": (0.01, 0.03),
    "LogitNorm": (0.01, 0.03),
}
CENTRES = np.random.default_rng(7).normal(size=(3, 10)) * 2


def draw(n, seed):
    rng = np.random.default_rng(seed)
    y = np.arange(n) % 3
    return CENTRES[y] + rng.normal(size=(n, 10)), y


def build(cls, **given):
    settings = dict(CHEAP.get(cls.__name__, {}), **given)
    if issubclass(cls, TrainedClassifier):
        settings.pop("classifier", None)
        settings |= {"max_epochs": 20, "random_state": 0, "lr": 0.01}
        if cls.__name__ == "GeneralizedODIN":
            settings["epsilon"] = 0.0
        return cls(**settings)
    detector = cls(**settings)
    return detector.set_params(**{"classifier": None, **given})


def flagged(detector, n, seed):
    X, y = draw(n, seed)
    detector.fit(X, y)
    return np.mean(detector.predict(draw(2000, 1000 + seed)[0]) == -1)


@pytest.mark.filterwarnings("ignore:No outlier is marked")
@pytest.mark.filterwarnings("ignore:All labels are predicted")
@pytest.mark.parametrize(("name", "cls"), OOD, ids=[name for name, _ in OOD])
def test_fresh_rows(name, cls):
    few = np.mean([flagged(build(cls), 100, seed) for seed in range(5)])
    many = np.mean([flagged(build(cls), 1000, seed) for seed in range(5)])
    least = LEAST.get(name, (0.02, 0.03))
    assert least[0] <= few <= 0.12
    assert least[1] <= many <= 0.08


class Remembering(MLPClassifier):
    """A network that is trained once for the same rows."""

    _known = {}

    def fit(self, X, y):
        key = X.tobytes() + np.asarray(y).tobytes()
        if key not in self._known:
            self._known[key] = vars(super().fit(X, y))
        vars(self).update(self._known[key])
        return self


NETWORKS = (
    *(skad.ASH, skad.KNNOOD, skad.MahalanobisOOD, skad.NNGuide, skad.OODDetector),
    *(skad.PNML, skad.RelativeMahalanobis, skad.SHE, skad.ViM),
)


@pytest.mark.filterwarnings("ignore:Stochastic Optimizer")
@pytest.mark.parametrize("n", [100, 1000])
@pytest.mark.parametrize("cls", NETWORKS, ids=lambda cls: cls.__name__)
def test_networks_that_are_fitted_for_a_number_of_epochs(cls, n):
    """Copies have fewer rows, so that they take fewer steps."""
    mixing = np.random.default_rng(1).normal(size=(10, 10))
    rates = []
    for seed in range(5):
        rng = np.random.default_rng(seed)
        X, new = (rng.normal(size=(m, 10)) @ mixing for m in (n, 2000))
        network = Remembering((32,), max_iter=60, random_state=0)
        detector = cls(network).fit(X, X[:, 0] > 0)
        rates.append(np.mean(detector.predict(new) == -1))
    low, high = {100: (0.02, 0.12), 1000: (0.03, 0.08)}[n]
    assert low <= np.mean(rates) <= high


def test_numbers_of_rows_follow_the_rows_of_a_copy():
    """The fiftieth of 100 neighbours is as near as the 45th of 90."""
    X, y = draw(100, 0)
    seen = []

    class Noting(skad.KNNOOD):
        def _learn_from(self, outputs, codes, known):
            seen.append((len(codes), self._in_proportion(self.n_neighbors)))
            super()._learn_from(outputs, codes, known)

    Noting(LogisticRegression(), n_neighbors=50).fit(X, y)
    assert seen[0] == (100, 50)
    assert {(n, k) for n, k in seen[1:]} <= {(n, round(n / 2)) for n in range(85, 95)}
    assert len(seen) == 11


def test_detectors_of_classes_and_fresh_rows():
    """As honest as one detector: what sets the threshold learned without these rows."""
    for n, low, high in ((100, 0.02, 0.12), (1000, 0.03, 0.08)):
        detector = skad.OODDetector(None, skad.GMM(), per_class=True)
        rates = [flagged(detector, n, seed) for seed in range(5)]
        assert low <= np.mean(rates) <= high


FOLLOWS = (skad.MahalanobisOOD, skad.NNGuide, skad.OpenMax, skad.MaxSoftmax)


@pytest.mark.parametrize("cls", FOLLOWS, ids=lambda cls: cls.__name__)
def test_a_fitted_classifier_and_fresh_rows(cls):
    known = FrozenEstimator(LogisticRegression().fit(*draw(300, 99)))
    rates = [flagged(build(cls, classifier=known), 100, seed) for seed in range(5)]
    assert 0.02 <= np.mean(rates) <= 0.12


def test_a_classifier_that_learns_its_rows_by_heart():
    """Its outputs on these say nothing of new rows; those of the folds do."""
    network = MLPClassifier((64,), alpha=0, max_iter=500, random_state=0)
    rates = []
    for contamination in ("auto", 0.05):
        detector = skad.MaxSoftmax(network, contamination=contamination)
        rates.append(np.mean([flagged_of_noise(detector, seed) for seed in range(3)]))
    assert rates[0] < 0.12 < rates[1]


def flagged_of_noise(detector, seed):
    rng = np.random.default_rng(seed)
    X, y = rng.normal(size=(150, 10)), rng.integers(2, size=150)
    return np.mean(detector.fit(X, y).predict(rng.normal(size=(2000, 10))) == -1)


@pytest.mark.parametrize("n", [30, 500, 3000])
def test_folds_leave_rows_of_every_class(n):
    rng = np.random.default_rng(n)
    codes = np.append(rng.choice(4, size=n, p=[0.7, 0.2, 0.07, 0.03]), 9)
    folds = class_folds(codes)
    held = np.concatenate(folds)
    assert len(held) == len(np.unique(held))
    assert len(codes) - 1 not in held  # the only row of its class
    for fold in folds:
        kept = np.delete(codes, fold)
        assert set(kept) == set(codes)
        share = np.mean(codes[fold] == 0)
        assert share == pytest.approx(0.7, abs=0.2 if n > 30 else 0.4)
