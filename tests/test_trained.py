"""What training is worth on tables: every network beside itself without it.

A network's defaults are no use where its random weights, or the norm of a standardized
row, tell anomalies as well. `BELOW` names those that are below one of the two, with the
figure, which their docstrings state.
"""

import statistics
import warnings

import numpy as np
import pytest
from numpy.testing import assert_allclose
from sklearn.metrics import roc_auc_score
from sklearn.preprocessing import StandardScaler

import skad
from skad._training import TorchDetector
from skad._training._arguments import epochs_of

# Rows of a set that train, and normal ones that are scored with half as many anomalies.
MOST = 250
NETWORKS = {
    name: cls
    for name, cls in skad.all_detectors()
    if issubclass(cls, TorchDetector)
    and cls.__module__.split(".")[1] not in ("image", "ood", "series")
}
# Steps so small that the weights stay as they were drawn.
UNTRAINED = {"max_epochs": 1, "lr": 1e-12}
CHEAP = {"AnoGAN": {"n_search_steps": 20}}
BELOW = {
    "AnoGAN": 0.80,
    "DAGMM": 0.78,
    "EGBAD": 0.79,
    "GANomaly": 0.78,
    "RSRAE": 0.77,
    "RaPP": 0.91,
}


@pytest.mark.parametrize(
    ("n", "n_epochs"), [(3, 50), (2560, 50), (12_800, 10), (128_000, 1), (10**6, 1)]
)
def test_auto_epochs_see_no_more_than_so_many_samples(n, n_epochs):
    assert epochs_of("auto", n) == n_epochs
    assert epochs_of(7, n) == 7


def test_auto_epochs_count_what_is_trained_on():
    X = np.random.default_rng(0).normal(size=(16_000, 3)).astype(np.float32)
    detector = skad.DeepSVDD(max_epochs="auto", batch_size=4096, random_state=0)
    assert len(detector.fit(X).history_) == 10  # of the 12,800 that are not held out
    detector.set_params(contamination=0.1)
    assert len(detector.fit(X).history_) == 8
    with pytest.raises(ValueError, match="max_epochs"):
        detector.set_params(max_epochs="many").fit(X[:50])


@pytest.mark.parametrize("cls", [skad.DeepSVDD, skad.DeepSAD])
def test_one_class_networks_have_a_wide_layer_for_rows(cls):
    X = np.random.default_rng(0).normal(size=(20, 80))
    pictures = np.random.default_rng(0).uniform(size=(6, 8, 8))
    for data, own, expected in (
        (X, {}, [128, 64]),
        (X, {"hidden_sizes": (7, 5)}, [7, 5, 64]),
        (pictures, {}, [32, 64, 128, 64]),
    ):
        net = cls(max_epochs=1, random_state=0, **own).fit(data).net_
        assert [len(weight) for weight in net.encoder.parameters()] == expected


def test_skip_ganomaly_scores_by_its_error_alone():
    X = np.random.default_rng(0).normal(size=(40, 5))
    detector = skad.SkipGANomaly(max_epochs=1, random_state=0).fit(X)
    scores, _, _, maps = detector.inspect(X)
    assert_allclose(-scores, maps.mean(axis=1), rtol=1e-6)
    detector.set_params(score_weight=0.9, warm_start=True)
    assert not np.allclose(detector.fit(X).score_samples(X), scores, rtol=1e-3)


@pytest.fixture(scope="module")
def tables(shared):
    """Return training rows, scored rows and labels, 1 an anomaly, of each set."""
    found = []
    for path in sorted((shared / "tabular").glob("*.npz")):
        data, rng = np.load(path), np.random.default_rng(0)
        X, y = data["X"].astype(float), data["y"]
        normal = rng.permutation(np.flatnonzero(y == 0))[: 2 * MOST]
        train, rest = normal[: len(normal) // 2], normal[len(normal) // 2 :]
        anomalous = rng.permutation(np.flatnonzero(y == 1))[: MOST // 2]
        scored = np.concatenate([rest, anomalous])
        scaler = StandardScaler().fit(X[train])
        found.append(
            (scaler.transform(X[train]), scaler.transform(X[scored]), y[scored])
        )
    return found


def mean_auc(tables, cls, **settings):
    """Return the mean ROC AUC over the tables."""
    detector = cls(contamination=0.1, device="cpu", random_state=0, **settings)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of networks that rebuild nothing yet
        return statistics.mean(
            roc_auc_score(y, -detector.fit(train).score_samples(scored))
            for train, scored, y in tables
        )


@pytest.mark.full
@pytest.mark.parametrize("name", NETWORKS)
def test_training_is_worth_its_time(name, tables):
    cls, settings = NETWORKS[name], CHEAP.get(name, {})
    phases = {one: 0 for one in cls._epoch_parameters if one == "pretrain_epochs"}
    trained = mean_auc(tables, cls, **settings)
    untrained = mean_auc(tables, cls, **settings, **UNTRAINED, **phases)
    norm = statistics.mean(
        roc_auc_score(y, (scored**2).sum(axis=1)) for _, scored, y in tables
    )
    if name not in BELOW:
        assert trained > max(untrained, norm), (trained, untrained, norm)
        return
    # still below, and as far as the docstring says
    assert trained < max(untrained, norm), "no longer below: take it out of BELOW"
    assert abs(trained - BELOW[name]) < 0.03
    assert f"{BELOW[name]:.2f}".lstrip("0") in cls.__doc__
