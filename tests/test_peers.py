"""What the page for people from other libraries says of numbers, against the numbers.

Those of PyOD and STUMPY are in tests/files, where ``benchmarks/record_peers.py`` wrote
them with their versions: rows, `decision_function` of new rows and `decision_scores_`
of the training rows, with ``random_state=0`` where a detector has one. scikit-learn's
are computed. `test_peers_networks` has the rest of the page.
"""

import json
import re
from pathlib import Path

import numpy as np
import pytest
import scipy.sparse
import sklearn.covariance
import sklearn.ensemble
import sklearn.mixture
import sklearn.neighbors
import sklearn.svm
import torch
from numpy.testing import assert_allclose, assert_array_equal
from scipy.stats import spearmanr
from sklearn.metrics import roc_auc_score
from sklearn.preprocessing import MinMaxScaler, StandardScaler

import skad
from skad.calibration import ProbabilityCalibrator
from skad.ensemble import _feature_bagging
from tests.test_docs import MIGRATION, calls

FILES = Path(__file__).parent / "files"
PYOD = json.loads((FILES / "pyod-3.6.json").read_text("utf-8"))
STUMPY = json.loads((FILES / "stumpy-1.14.json").read_text("utf-8"))
X_TRAIN, X_NEW = np.array(PYOD["X_train"]), np.array(PYOD["X_new"])

# What the rows of the page claim, by their call there.
EQUAL = {"KNN()", 'KNN(method="mean")', "LOF()", "MCD()", "GMM()", "KDE()"}
EQUAL |= {"KPCA(n_selected_components=5)", "Sampling()"}
SAME_ORDER = {"IForest()", "OCSVM()", "ABOD(n_neighbors=10)"}
EQUAL_IN_TRAINING = {"ECOD()", "COPOD()"}
NEARLY_THE_SAME_ORDER = {"HBOS()", "INNE()", "QMCD()", "CD()", "ROD()"}
ANOTHER_SCORE = {"PCA()", "LODA()", "COF()", "SOD()"}
ANOTHER_SCORE |= {"HDBSCAN()", "LOCI()", "SOS()"}


def built(here):
    """Return the detector of the page's line, seeded as the peer was."""
    detector = eval(here, dict(skad.all_detectors()))
    if "random_state" in detector.get_params():
        detector.set_params(random_state=0)
    return detector


def rows_of_pyod():
    section = MIGRATION.read_text("utf-8").split("From PyOD\n")[1]
    found = calls(section.split("From anomalib\n")[0])
    return {there.strip("`"): here for there, here in found}


def test_the_page_has_what_was_recorded():
    claimed = EQUAL | SAME_ORDER | EQUAL_IN_TRAINING | NEARLY_THE_SAME_ORDER
    claimed |= ANOTHER_SCORE
    assert claimed == PYOD["scores"].keys()
    assert claimed <= rows_of_pyod().keys()


@pytest.mark.parametrize("there", sorted(PYOD["scores"]))
@pytest.mark.filterwarnings("ignore")
def test_lines_from_pyod_give_its_numbers(there):
    detector = built(rows_of_pyod()[there]).fit(X_TRAIN)
    anomaly = -detector.score_samples(X_NEW)
    if there in EQUAL:
        assert_allclose(anomaly, PYOD["scores"][there], rtol=1e-6)
    elif there in SAME_ORDER:
        assert spearmanr(anomaly, PYOD["scores"][there]).statistic > 0.9999
    elif there in EQUAL_IN_TRAINING:
        # there the rows that are scored together change each other's scores
        assert np.abs(anomaly - PYOD["scores"][there]).max() > 1
        anomaly = -detector.score_samples(X_TRAIN)
        assert_allclose(anomaly, PYOD["train"][there], rtol=1e-8)
    elif there in ANOTHER_SCORE:
        assert spearmanr(anomaly, PYOD["scores"][there]).statistic < 0.95
    else:
        assert spearmanr(anomaly, PYOD["scores"][there]).statistic > 0.9


def test_the_discrepancy_has_the_order_of_pyod_within_the_range():
    detector = skad.QMCD("skewness").fit(X_TRAIN)
    anomaly = -detector.score_samples(X_TRAIN)
    assert spearmanr(anomaly, PYOD["train"]["QMCD()"]).statistic > 0.9999


def test_rotations_are_those_of_pyod_in_training():
    anomaly = -skad.ROD().fit(X_TRAIN).score_samples(X_TRAIN)
    assert_allclose(anomaly, PYOD["train"]["ROD()"], atol=1e-4)


def test_a_deep_forest_has_nearly_the_order_of_pyod_behind_its_scaler():
    forest = built(rows_of_pyod()["DIF()"])
    scaler = MinMaxScaler().fit(X_TRAIN)
    forest.fit(scaler.transform(X_TRAIN))
    for rows, name in ((X_TRAIN, "train"), (X_NEW, "new")):
        anomaly = -forest.score_samples(scaler.transform(rows))
        assert spearmanr(anomaly, PYOD["deep_forest"][name]).statistic > 0.9


# Detectors of tables that PyOD's `pyod info` lists.
OF_PYOD = """ABOD AE1SVM ALAD AnoGAN AutoEncoder CBLOF CD COF COPOD DIF DeepSVDD DevNet
ECOD FeatureBagging GMM HBOS HDBSCAN IForest INNE KDE KNN KPCA LMDD LOCI LODA LOF LSCP
LUNAR MAD MCD MO_GAAL OCSVM PCA QMCD RGraph ROD SOD SOS SO_GAAL SUOD Sampling VAE
XGBOD"""


def test_every_detector_of_pyod_has_a_line():
    section = MIGRATION.read_text("utf-8").split("From PyOD\n")[1]
    section = section.split("From anomalib\n")[0]
    lines = {there.split("(")[0] for there in rows_of_pyod()}
    below = section.split("inside:\n")[-1]
    named = set(re.findall(r"\b[A-Za-z]+\b", below))
    assert not set(OF_PYOD.split()) - lines - named


def test_the_example_from_pyod_gives_its_labels_threshold_and_probabilities():
    page = MIGRATION.read_text("utf-8").split("From PyOD\n")[1]
    line = page.split(">>> probability = ")[1].split("  #")[0]
    there = PYOD["knn"]
    detector = skad.KNN(n_neighbors=5, contamination=0.1).fit(X_TRAIN)
    assert_array_equal(detector.predict(X_NEW) == -1, there["labels"])
    assert_array_equal(detector.predict(X_TRAIN) == -1, there["labels_"])
    assert there["labels_"] != there["labels_of_train"]  # as the page says
    assert_allclose(-detector.offset_, there["threshold"], rtol=1e-8)
    calibrator = ProbabilityCalibrator(skad.KNN(), method="linear").fit(X_TRAIN)
    found = eval(line, {"calibrator": calibrator, "X_test": X_NEW})
    assert_allclose(found, there["probability"], rtol=1e-6, atol=1e-9)


def test_the_largest_score_over_windows_is_that_of_pyod():
    train, new = (np.array(PYOD["series"][k])[:, None] for k in ("train", "new"))
    detector = skad.WindowDetector(skad.KNN(), window_size=20, align="max").fit(train)
    anomaly = -detector.score_samples(new)
    assert_allclose(anomaly, PYOD["series"]["scores"], rtol=1e-7)
    mean = -detector.set_params(align="mean").fit(train).score_samples(new)
    assert np.abs(mean - anomaly).max() > 0.1


@pytest.mark.filterwarnings("ignore:VAE rebuilds")
def test_scores_are_random_there_and_not_here():
    assert PYOD["vae_between_two_calls"] > 0.1
    detector = skad.VAE(max_epochs=1).fit(X_TRAIN)
    scores = detector.score_samples(X_NEW)
    assert_array_equal(detector.score_samples(X_NEW), scores)


@pytest.mark.parametrize("there", ["average", "max"])
def test_bags_of_the_same_features_give_the_scores_of_pyod(there, monkeypatch):
    recorded = PYOD["bagging"]
    subsets = [np.array(own) for own in recorded["features"]]
    assert max(map(len, subsets)) == X_TRAIN.shape[1]  # as the page says
    monkeypatch.setattr(_feature_bagging, "draw_features", lambda *args: subsets.pop(0))
    detector = built(rows_of_pyod()["FeatureBagging()"])
    if there == "max":
        detector.set_params(combination="maximum")
    anomaly = -detector.fit(X_TRAIN).score_samples(X_NEW)
    assert_allclose(anomaly, recorded["scores"][there], rtol=1e-6)


# ROC AUC here is at least that of the worst seed there less this, as seeds differ.
NETWORKS = {
    "AutoEncoder(epoch_num=10)": 0.02,
    "VAE(epoch_num=30)": 0.05,
    "DeepSVDD(n_features=4)": 0.02,
    "ALAD()": 0.0,
}


@pytest.mark.parametrize("there", NETWORKS)
@pytest.mark.filterwarnings("ignore")
def test_networks_see_the_broken_relations_that_those_of_pyod_see(there):
    recorded = PYOD["networks"]
    scaler = StandardScaler().fit(recorded["X_train"])
    train, new = (scaler.transform(recorded[part]) for part in ("X_train", "X_new"))
    y, figures = recorded["y"], recorded["roc_auc"][there]
    detector = built(rows_of_pyod()[there]).set_params(contamination=0.1)
    if there == "ALAD()":
        detector.set_params(max_epochs=20)  # of 50
    found = roc_auc_score(y, -detector.fit(train).score_samples(new))
    bound = min(figures) - NETWORKS[there]
    assert found > bound
    untrained = detector.set_params(max_epochs=1, lr=1e-9).fit(train)
    least = roc_auc_score(y, -untrained.score_samples(new))
    if there == "ALAD()":  # as the page says: it is hardly trained there
        assert recorded["alad_steps"] == 200
        assert max(figures) < 0.7 < 0.95 < found
        assert recorded["alad_between_two_calls"] > 0.1 * recorded["alad_spread"]
    else:
        assert least < bound - 0.1  # which no network without training passes


def test_networks_measure_what_those_of_pyod_measure():
    """Squares of what is not rebuilt, and of the way to the centre."""
    recorded = PYOD["networks"]
    squares = np.square(recorded["errors"]).sum(axis=1)
    assert_allclose(np.square(recorded["scores_of_errors"]), squares, rtol=1e-4)
    detector = skad.AutoEncoder(max_epochs=1, random_state=0).fit(X_TRAIN)
    with torch.no_grad():
        rebuilt = detector.net_.reconstruct(torch.tensor(X_NEW).float()).numpy()
    squares = np.square(X_NEW - rebuilt).sum(axis=1)
    assert_allclose(-detector.score_samples(X_NEW), squares, rtol=1e-4)
    squares = np.square(recorded["codes"]).sum(axis=1)
    assert_allclose(recorded["scores_of_codes"], squares, rtol=1e-4)
    detector = skad.DeepSVDD(max_epochs=1, random_state=0).fit(X_TRAIN)
    net = detector.net_
    with torch.no_grad():
        way = net.encoder(torch.tensor(X_NEW).float()) - net.centre
    squares = way.double().square().sum(dim=1).numpy()
    assert_allclose(-detector.score_samples(X_NEW), squares, rtol=1e-4)


# --------------------------------------------------------------------------- STUMPY


def test_profiles_are_those_of_stumpy():
    x, y, X = (np.array(STUMPY[name]) for name in "xyX")
    detector = skad.MatrixProfile(window_size=40).fit(x[:, None])
    assert_allclose(detector.profile_, STUMPY["stump"]["distances"], rtol=1e-7)
    assert_array_equal(detector.neighbors_[:, 0], STUMPY["stump"]["neighbors"])
    detector = skad.MatrixProfile(window_size=40, align="end").fit(x[:, None])
    found = -detector.score_samples(y[:, None])[39:]
    assert_allclose(found, STUMPY["join"], rtol=1e-7)
    detector = skad.LeftMatrixProfile(window_size=40).fit(x[:160, None])
    assert_allclose(-detector.score_stream(x[160:, None]), STUMPY["left"], rtol=1e-7)
    detector = skad.MatrixProfile(window_size=40, channels="joint").fit(X)
    assert_allclose(detector.profile_, STUMPY["mstump"], rtol=1e-7)


# --------------------------------------------------------------------- scikit-learn

# There and here: scores are the same numbers.
PAIRS = {
    "IsolationForest": (
        sklearn.ensemble.IsolationForest(random_state=0),
        skad.IsolationForest(random_state=0),
    ),
    "LOF": (sklearn.neighbors.LocalOutlierFactor(novelty=True), skad.LOF()),
    "LOF precomputed": (
        sklearn.neighbors.LocalOutlierFactor(novelty=True, metric="precomputed"),
        skad.LOF(metric="precomputed"),
    ),
    "OneClassSVM": (
        sklearn.svm.OneClassSVM(tol=1e-8),
        skad.OneClassSVM(tol=1e-8),
    ),
    "OneClassSVM precomputed": (
        sklearn.svm.OneClassSVM(kernel="precomputed", tol=1e-8),
        skad.OneClassSVM(kernel="precomputed", tol=1e-8),
    ),
    "KDE": (sklearn.neighbors.KernelDensity(), skad.KDE()),
    "EllipticEnvelope": (
        sklearn.covariance.EllipticEnvelope(random_state=0),
        skad.Mahalanobis(covariance="mcd", contamination=0.1, random_state=0),
    ),
    "GMM": (
        sklearn.mixture.GaussianMixture(random_state=0),
        skad.GMM(n_components=1, random_state=0),
    ),
}
HOLES = np.where(np.random.default_rng(1).random(X_NEW.shape) < 0.2, np.nan, X_NEW)


def given(there, train, new):
    """Yield training and new rows as the tags of scikit-learn's class allow them."""
    tags = there.__sklearn_tags__().input_tags
    if tags.pairwise:
        train, new = (
            np.sqrt(((rows[:, None] - train) ** 2).sum(-1)) for rows in (train, new)
        )
        if isinstance(there, sklearn.svm.OneClassSVM):
            train, new = np.exp(-train), np.exp(-new)
    yield "float64", train, new
    yield "float32", train.astype(np.float32), new.astype(np.float32)
    if tags.sparse and not tags.pairwise:
        for make in (scipy.sparse.csr_array, scipy.sparse.csc_matrix):
            yield make.__name__, make(train), make(new)
    if tags.allow_nan:
        yield "missing values", train, HOLES


@pytest.mark.parametrize("name", PAIRS)
@pytest.mark.filterwarnings("ignore")
def test_ours_takes_what_scikit_learns_takes(name):
    there, here = PAIRS[name]
    theirs, ours = (one.__sklearn_tags__().input_tags for one in (there, here))
    assert ours.sparse >= theirs.sparse
    assert ours.allow_nan >= theirs.allow_nan
    assert ours.pairwise == theirs.pairwise
    kinds = list(given(there, X_TRAIN, X_NEW))
    assert len(kinds) >= 2
    for kind, train, new in kinds:
        expected = there.fit(train).score_samples(new)
        found = here.fit(train).score_samples(new)
        single = "32" in kind or "forest" in name
        assert_allclose(found, expected, rtol=1e-4 if single else 1e-5, err_msg=kind)
        assert set(here.predict(new)) <= {-1, 1}
    if not theirs.pairwise:
        # where new rows may be training rows, which are not their own neighbours here
        whole = (4 * X_TRAIN).astype(int), (4 * X_NEW).astype(int)
        there.fit(whole[0]).score_samples(whole[1])
        found = here.fit(whole[0]).score_samples(whole[1])
        same = here.fit(whole[0].astype(float)).score_samples(whole[1].astype(float))
        assert_allclose(found, same)
