"""Papers that are pipelines: what the guide's page writes out is the method."""

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from sklearn.metrics import roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, MinMaxScaler
from sklearn.svm import OneClassSVM as ScikitLearnSVM

from skad import AAE, KNN, SVDD, OneClassSVM
from skad.datasets import load_digits
from skad.embedding import PatchEmbedding, RawPatches
from skad.image import PatchDetector, load_folder
from tests._shared import tables
from tests.test_docs import ROOT, run_doctest

PAGE = ROOT / "doc" / "user_guide" / "pipelines.rst"
RESNET = "weights/resnet18_conv1_to_layer3_bnfolded.npz"


@pytest.fixture(scope="module")
def page():
    """Return what the examples of the page define."""
    names = {}
    run_doctest(PAGE.name, PAGE.read_text(encoding="utf-8"), names)
    return names


# ------------------------------------------------------------------------ TransferAD


class OneLayer(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = torch.nn.Conv2d(1, 5, 3, stride=2)

    def forward(self, x):
        return torch.relu(self.conv(x))


def test_transfer_is_mean_features_and_a_one_class_svm(page):
    torch.manual_seed(0)
    network = OneLayer().double()
    rng = np.random.default_rng(0)
    X, new = rng.uniform(size=(30, 12, 12)), rng.uniform(size=(7, 12, 12)) ** 2
    model = make_pipeline(
        PatchEmbedding(network, ("conv",), neighborhood=1),
        FunctionTransformer(page["of_whole_pictures"]),
        OneClassSVM(nu=0.2, tol=1e-9),
    )
    with torch.no_grad():
        before, after = (
            network.conv(torch.as_tensor(each)[:, None]).mean((2, 3)).numpy()
            for each in (X, new)
        )
    oracle = ScikitLearnSVM(nu=0.2, tol=1e-9).fit(before)
    scores = model.fit(X).score_samples(new)
    assert_allclose(scores, oracle.score_samples(after), rtol=1e-5)


def test_what_transfer_finds(page, shared):
    found = []
    for name, n, step in (("cookie", 31, 1), ("magnetic_tile", 80, 6)):
        data = load_folder(shared / "images" / name, size=(128, 128))
        train = np.stack([data.X_train[i] for i in range(n)])
        kept = range(0, len(data.y_test), step)
        new = np.stack([data.X_test[i] for i in kept])
        y = np.asarray(data.y_test)[::step]
        embedding = PatchEmbedding(
            *("resnet18", ("layer3",)), weights=shared / RESNET, neighborhood=1
        )
        svm, nearest = (
            make_pipeline(
                embedding, FunctionTransformer(page["of_whole_pictures"]), head
            ).fit(train)
            for head in (OneClassSVM(nu=0.05), KNN(n_neighbors=1))
        )
        away = ((new - train.mean(0)) ** 2).reshape(len(new), -1).sum(1)
        found += [
            roc_auc_score(y, svm.score_samples(new)),
            roc_auc_score(y, nearest.score_samples(new)),
            roc_auc_score(y, -away),
            np.mean(svm.predict(new[y == 1]) == -1),
        ]
    assert_allclose(found, [0.98, 0.92, 0.96, 0.5, 0.68, 0.76, 0.54, 0.64], atol=0.04)


# ------------------------------------------------------------------- DBNOneClassSVM


def test_belief_network_is_sigmoids_and_a_linear_one_class_svm(page):
    data = load_digits(normal_digit=3)
    model = page["belief_network"](OneClassSVM(kernel="linear", nu=0.2, tol=1e-9))
    model.fit(data.X_train)
    least, most = data.X_train.min(0), data.X_train.max(0)

    def codes(X):
        X = (X - least) / np.where(most > least, most - least, 1)
        for layer in model[1:-1]:
            X = 1 / (1 + np.exp(-X @ layer.components_.T - layer.intercept_hidden_))
        return X

    oracle = ScikitLearnSVM(kernel="linear", nu=0.2, tol=1e-9)
    oracle.fit(codes(data.X_train))
    assert [layer.n_components for layer in model[1:-1]] == [32, 16]
    assert_allclose(
        model.score_samples(data.X_test),
        oracle.score_samples(codes(data.X_test)),
        rtol=1e-4,
    )


def heads():
    plane = OneClassSVM(kernel="linear", nu=0.1)
    return plane, SVDD(kernel="linear", nu=0.1)


def aucs(page, X, new, y):
    """Return the ROC AUC of plane and ball behind the network, and without it."""
    made = [page["belief_network"](head) for head in heads()]
    made += [make_pipeline(MinMaxScaler(), head) for head in heads()]
    return [roc_auc_score(y, each.fit(X).score_samples(new)) for each in made]


def test_what_belief_networks_find_of_digits(page):
    found = []
    for digit in range(10):
        data = load_digits(normal_digit=digit)
        found.append(aucs(page, data.X_train, data.X_test, data.y_test))
    assert_allclose(np.mean(found, axis=0), [0.78, 0.81, 0.83, 0.97], atol=0.04)


@pytest.mark.filterwarnings("ignore:All 1000 training samples")
def test_what_belief_networks_find_of_tables(page, shared):
    found = []
    for (_, setting), X, new, y in tables(shared):
        if setting == "semi":
            found.append(aucs(page, X[:1000], new, 1 - y))
    assert_allclose(np.mean(found, axis=0), [0.33, 0.73, 0.47, 0.79], atol=0.04)


# -------------------------------------------------------------- SatelliteForgeryGAN


def test_forgeries_are_codes_of_patches_and_a_one_class_svm(page):
    rng = np.random.default_rng(0)
    X, new = rng.uniform(size=(2, 4, 9, 9, 2))
    network = AAE(latent_size=3, max_epochs=1, hidden_sizes=(8,), random_state=0)
    encoder = network.fit(rng.uniform(size=(20, 5, 5, 2))).net_.encoder.double()
    embedding = PatchEmbedding(page["Codes"](encoder, 5, 1), ("codes",), neighborhood=1)
    svm = OneClassSVM(nu=0.2, tol=1e-9)
    detector = PatchDetector(embedding, svm, smoothing=0, random_state=0).fit(X)

    def codes(pictures):  # patch by patch
        wide = np.pad(pictures, ((0, 0), (2, 2), (2, 2), (0, 0)), mode="edge")
        rows = [one[i : i + 5, j : j + 5] for one in wide for i, j in np.ndindex(9, 9)]
        rows = torch.as_tensor(np.moveaxis(np.array(rows), 3, 1))
        with torch.no_grad():
            return encoder(rows).numpy()

    oracle = ScikitLearnSVM(nu=0.2, tol=1e-9).fit(codes(X))
    maps = -oracle.score_samples(codes(new)).reshape(4, 9, 9)
    assert_allclose(detector.transform(new), maps, rtol=1e-4)
    assert_allclose(-detector.score_samples(new), maps.max((1, 2)), rtol=1e-4)


@pytest.mark.full
def test_what_forgeries_are_found(page):
    pristine, forged = page["pristine"], page["forged"]
    pasted = np.zeros(forged.shape[:3], dtype=bool)
    pasted[:, 16:40, 24:48] = True
    pixels = PatchDetector(RawPatches(16, 8), OneClassSVM(nu=0.1), random_state=0)
    found = []
    for detector in (page["forgeries"](pristine[::2]), pixels.fit(pristine[::2])):
        new = np.concatenate([pristine[1::2], forged])
        anomaly = -detector.score_samples(new)
        maps = detector.transform(forged)
        found += [
            roc_auc_score(np.repeat([0, 1], 30), anomaly),
            roc_auc_score(pasted.ravel(), maps.ravel()),
            (detector.predict(new[:30]) == -1).sum(),
        ]
    assert_allclose(found, [0.85, 0.77, 0, 0.94, 0.90, 0], atol=0.03)
