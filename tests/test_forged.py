"""Forged files: none makes a process crash, or takes memory that it does not have."""

import pathlib
import shutil

import numpy as np
import pytest
import torch
from sklearn.cluster import KMeans
from sklearn.ensemble import IsolationForest
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import skad
from tests import _forged
from tests._forged import put_together, taken_apart
from tests._recorded import pictures, rows

HARMLESS = {"refused", "scored", "raised", "slow"}


def detectors():
    """Return unfitted detectors whose files hold parts of all kinds."""
    trained = {"max_epochs": 1, "random_state": 0}
    on_rows = [
        skad.KNN(algorithm="kd_tree", contamination=0.1),
        skad.KNN(algorithm="brute", metric="cosine", contamination=0.1),
        skad.LOF(contamination=0.1),
        skad.GMM(n_components=2, random_state=0, contamination=0.1),
        skad.KernelPCAReconstruction(contamination=0.1),
        skad.IsolationForest(
            n_estimators=3, max_samples=20, max_features=3, contamination=0.1
        ),
        skad.KMeansAD(n_clusters=3, window_size=4, contamination=0.1),
        skad.MatrixProfile(window_size=8, contamination=0.1),
        skad.LSTMAutoEncoder(window_size=6, contamination=0.1, **trained),
        skad.OmniAnomaly(window_size=6, contamination=0.1, **trained),
        skad.VAE(contamination=0.1, **trained),
        skad.ScoreEnsemble([("a", skad.HBOS()), ("b", skad.KNN())], contamination=0.1),
        make_pipeline(StandardScaler(), KMeans(3, n_init=1)),
        make_pipeline(
            StandardScaler(), IsolationForest(n_estimators=3, max_samples=20)
        ),
    ]
    labelled = [
        skad.MaxSoftmax(LogisticRegression(), contamination=0.1),
        skad.ODIN(torch.nn.Sequential(torch.nn.Linear(6, 4), torch.nn.Linear(4, 3))),
        skad.KNNOOD(LogisticRegression(), contamination=0.1),
    ]
    on_pictures = [
        skad.PatchCore(coreset_ratio=0.1, contamination=0.1, random_state=0),
        skad.SPADE(n_pictures=3, contamination=0.1),
    ]
    return on_rows, labelled, on_pictures


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Return a folder of valid files, each beside what its detector scores."""
    folder = tmp_path_factory.mktemp("valid")
    train, test = rows()
    for file in pathlib.Path(__file__).parent.glob("files/0.1-*.skad"):
        shutil.copy(file, folder)
        np.save(folder / f"{file.stem}.npy", test)
    on_rows, labelled, on_pictures = detectors()
    for i, detector in enumerate([*on_rows, *labelled]):
        y = np.arange(len(train)) % 3 if detector in labelled else None
        skad.save(detector.fit(train, y), folder / f"{i}.skad")
        np.save(folder / f"{i}.npy", test)
    train, test = pictures()
    for detector in on_pictures:
        name = type(detector).__name__
        skad.save(detector.fit(train), folder / f"{name}.skad")
        np.save(folder / f"{name}.npy", test[:1])
    # a stream of edges: who, with whom, when
    edges = np.random.default_rng(0).integers(5, size=(60, 3))
    edges[:, 2] = np.sort(edges[:, 2])
    detector = skad.MIDASR(n_columns=64, contamination=0.1).fit(edges)
    skad.save(detector, folder / "MIDASR.skad")
    np.save(folder / "MIDASR.npy", edges[:8])
    return folder


def check_all(folder, seed, n):
    found = _forged.run(folder, seed, 0, n)
    counts = _forged.counted(found)
    faults = {k: each for k, each in found.items() if each[0] not in HARMLESS}
    assert not faults, (counts, faults)
    assert len(found) == n
    assert counts["scored"] > n / 20, f"the files are refused too early: {counts}"
    assert counts["refused"] > n / 4, counts
    return counts


def test_forged_files_neither_crash_nor_swell(folder):
    check_all(folder, 0, 300)


@pytest.mark.full
def test_ten_thousand_forged_files_neither_crash_nor_swell(folder):
    check_all(folder, 1, 10_000)


def test_a_file_that_is_taken_apart_is_put_together_the_same(folder):
    for file in folder.glob("*.skad"):
        content = put_together(*taken_apart(file.read_bytes()))
        entry, arrays = taken_apart(content)
        before, own = taken_apart(file.read_bytes())
        assert {**entry, "sha256": 0} == {**before, "sha256": 0}
        assert all(np.array_equal(arrays[k], own[k], equal_nan=True) for k in own)
