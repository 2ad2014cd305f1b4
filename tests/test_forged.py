"""Forged files: none makes a process crash, or takes memory that it does not have."""

import pathlib
import shutil
import sys
import time
import tracemalloc

import numpy as np
import pytest
import torch
from scipy.sparse import csr_array
from sklearn.cluster import KMeans
from sklearn.ensemble import IsolationForest
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import skad
from skad.persistence._file import from_bytes, to_bytes
from tests import _forged
from tests._forged import put_together, taken_apart
from tests._recorded import pictures, rows

HARMLESS = {"refused", "scored", "raised", "slow"}

on_linux = pytest.mark.skipif(
    not sys.platform.startswith("linux"), reason="measures memory in /proc"
)


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
        skad.RegressionForecaster(window_size=4, contamination=0.1),
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
    many = np.resize(test, (600, 6))  # that many go through trees one by one
    for file in pathlib.Path(__file__).parent.glob("files/0.1-*.skad"):
        shutil.copy(file, folder)
        np.save(folder / f"{file.stem}.npy", many if "Forest" in file.stem else test)
    on_rows, labelled, on_pictures = detectors()
    for i, detector in enumerate([*on_rows, *labelled]):
        y = np.arange(len(train)) % 3 if detector in labelled else None
        skad.save(detector.fit(train, y), folder / f"{i}.skad")
        np.save(folder / f"{i}.npy", many if "Forest" in repr(detector) else test)
    sparse = csr_array(np.where(train > 0, train, 0.0))
    for detector in (skad.KNN(), skad.LOF(metric="cosine"), skad.OneClassSVM()):
        name = f"sparse-{type(detector).__name__}"
        skad.save(detector.fit(sparse), folder / f"{name}.skad")
        np.save(folder / f"{name}.npy", test)
    train, test = pictures()
    for detector in on_pictures:
        name = type(detector).__name__
        skad.save(detector.fit(train), folder / f"{name}.skad")
        np.save(folder / f"{name}.npy", test[:1])
    train, test = rows()
    for detector in (
        skad.HalfSpaceTrees(n_estimators=2, max_depth=3, window_size=30),
        skad.RRCF(n_estimators=3, max_samples=20),
    ):
        name = type(detector).__name__
        skad.save(detector.fit(train), folder / f"{name}.skad")
        np.save(folder / f"{name}.npy", test)
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


@on_linux
def test_forged_files_neither_crash_nor_swell(folder):
    check_all(folder, 0, 300)


@on_linux
@pytest.mark.full
def test_ten_thousand_forged_files_neither_crash_nor_swell(folder):
    check_all(folder, 1, 10_000)


def test_a_process_that_hangs_is_stopped():
    code = "print('one', flush=True); import time; time.sleep(600)"
    begun = time.monotonic()
    status, lines, error = _forged.said_by([sys.executable, "-c", code], patience=5)
    assert time.monotonic() - begun < 60
    assert (lines, error[:5]) == (["one\n"], "hangs")
    assert status != 0
    status, lines, error = _forged.said_by([sys.executable, "-c", "1 / 0"])
    assert (status, lines) == (1, [])
    assert "ZeroDivisionError" in error


def test_a_file_that_is_taken_apart_is_put_together_the_same(folder):
    for file in folder.glob("*.skad"):
        content = put_together(*taken_apart(file.read_bytes()))
        entry, arrays = taken_apart(content)
        before, own = taken_apart(file.read_bytes())
        assert {**entry, "sha256": 0} == {**before, "sha256": 0}
        assert all(np.array_equal(arrays[k], own[k], equal_nan=True) for k in own)


# ------------------------------------------------------ single forgeries, by their kind


def refused(file, change, match):
    """Change the entry and the arrays of a file, and see why it is refused."""
    entry, arrays = taken_apart(file.read_bytes())
    change(entry["detector"], arrays)
    with pytest.raises(skad.CorruptFileError, match=match):
        from_bytes(put_together(entry, arrays))


def nodes_of(entry, **wanted):
    """Return the nodes of a structure that have what is wanted."""
    places = _forged._places(entry)
    nodes = [value for _, _, value in places if isinstance(value, dict)]
    found = [node for node in nodes if wanted.items() <= node.items()]
    assert found, wanted
    return found


def last(name):
    """Return a test for classes of that name."""
    return lambda node: str(node.get("class")).endswith("." + name)


def states(entry, name):
    """Return the states of the objects of a class."""
    places = _forged._places([entry])
    found = [v for _, _, v in places if isinstance(v, dict) and last(name)(v)]
    assert found, name
    return [node["state"] for node in found]


def test_trees_for_features_that_are_not_there_are_refused(folder):
    def alone(entry, arrays):
        for tree in nodes_of(entry, **{"is": "tree"}):
            tree["n_features"] = 2**31 - 2
            array = arrays[tree["nodes"]["feature"]["name"]]
            array[array >= 0] = 2**31 - 3

    def estimators_too(entry, arrays):
        alone(entry, arrays)
        for state in states(entry, "ExtraTreeRegressor"):
            state["n_features_in_"] = 2**31 - 2

    def forest_too(entry, arrays):
        estimators_too(entry, arrays)
        for state in states(entry, "ensemble.IsolationForest"):
            if "estimators_" in state:
                state["n_features_in_"] = 2**31 - 2

    for name in ("0.1-IsolationForest", "5", "13"):
        file = folder / f"{name}.skad"
        refused(file, alone, "a tree for other features")
        refused(file, estimators_too, "for features that are not there")
        refused(file, forest_too, "not there|a forest for other features")


def test_centres_of_other_features_are_refused(folder):
    def narrow(entry, arrays):
        name = states(entry, "KMeans")[0]["cluster_centers_"]["name"]
        arrays[name] = arrays[name][:2, :1].copy()

    refused(folder / "12.skad", narrow, "centres for other features")


@pytest.mark.parametrize("width", [-1, 0, 2.0, True, "6"])
def test_numbers_of_features_that_are_none_are_refused(folder, width):
    def other(entry, arrays):
        for state in states(entry, "KNN"):
            if "n_features_in_" in state:
                state["n_features_in_"] = width

    refused(folder / "0.skad", other, "KNN with n_features_in_=")


def test_recurrent_weights_of_other_sizes_are_refused(folder):
    def small(entry, arrays):
        node = nodes_of(states(entry, "LSTM")[0], **{"is": "parameter"})[0]
        arrays[node["name"]] = arrays[node["name"]][:1].copy()

    def large(entry, arrays):
        states(entry, "LSTM")[0]["hidden_size"] = 2**20

    for change in (small, large):
        refused(folder / "8.skad", change, "weights of another LSTM")


def test_sparse_rows_that_lead_elsewhere_are_refused(folder):
    def part(entry, arrays, i):
        (node,) = nodes_of(entry, **{"is": "sparse"})
        return arrays[node["items"][i]["name"]], node

    def beyond(entry, arrays):
        part(entry, arrays, 1)[0][0] = 2**30

    def before(entry, arrays):
        part(entry, arrays, 1)[0][0] = -1

    def longer(entry, arrays):
        part(entry, arrays, 2)[0][-1] += 2**20

    def backwards(entry, arrays):
        part(entry, arrays, 2)[0][1] = 2**20

    def without_values(entry, arrays):  # whose starts SciPy does not look at
        backwards(entry, arrays)
        part(entry, arrays, 2)[0][-1] = 0
        for i in (0, 1):
            name = part(entry, arrays, i)[1]["items"][i]["name"]
            arrays[name] = arrays[name][:0].copy()

    def wider(entry, arrays):
        part(entry, arrays, 0)[1]["shape"][1] = 2**40

    def others(entry, arrays):
        part(entry, arrays, 0)[1]["shape"][1] += 1

    for name in ("sparse-KNN", "sparse-OneClassSVM"):
        file = folder / f"{name}.skad"
        refused(file, beyond, "indices must be <")
        refused(file, before, "indices must be >=")
        for change in (longer, backwards, without_values):
            refused(file, change, "sparse rows that are none")
        refused(file, wider, "too many features")
        refused(file, others, "of other features")


def test_truth_values_beyond_one_are_refused(folder):
    def beyond(entry, arrays):
        entry["state"]["p"] = {"is": "array", "name": "b", "dtype": "bool"}
        arrays["b"] = np.full(3, 7, np.uint8).view(bool)

    refused(folder / "0.skad", beyond, "truth values")


def test_memory_is_compared_with_the_file_before_it_is_taken(folder):
    def wide(entry, arrays):
        items = ["a" * 400_000] + ["b"] * 3000
        node = {"is": "objects", "dtype": "<U400000", "shape": [3001], "number": 10**6}
        entry["state"]["n_jobs"] = {**node, "items": items}

    def shared(entry, arrays):
        arrays["shared"] = np.zeros(10**6, np.uint8)
        node = {"is": "array", "name": "shared", "dtype": "uint8", "number": 10**6}
        again = {"is": "again", "number": 10**6}
        entry["state"]["n_jobs"] = [node, *[again] * 1000]

    def many(entry, arrays):
        entry["state"]["n_jobs"] = [[]] * 2_000_000

    tracemalloc.start()
    try:
        refused(folder / "0.skad", wide, "more memory than its size allows")
        refused(folder / "0.skad", shared, "more memory than its size allows")
        refused(folder / "0.skad", many, "more than a file of its size may say")
        assert tracemalloc.get_traced_memory()[1] < 2**28
    finally:
        tracemalloc.stop()


def test_more_neighbours_than_there_are_rows_are_refused(folder):
    def many(entry, arrays):
        entry["state"]["n_neighbors"] = 2**31

    for name in ("0", "1", "7"):
        refused(folder / f"{name}.skad", many, "2147483648 neighbours of")


@pytest.mark.parametrize(
    "change",
    [
        {"shape": [2**40, 6]},
        {"shape": [0, 2**62]},
        {"shape": [-1, 6]},
        {"data_offsets": [0, 2**40]},
        {"data_offsets": [8, 0]},
        {"dtype": "F16"},
    ],
    ids=str,
)
def test_headers_that_lie_about_arrays_are_refused(folder, change):
    entry, arrays = taken_apart((folder / "0.skad").read_bytes())
    name = max(arrays, key=lambda name: arrays[name].size)
    with pytest.raises(skad.CorruptFileError):
        from_bytes(put_together(entry, arrays, lambda h: h[name].update(change)))


def test_arrays_that_share_bytes_are_refused(folder):
    entry, arrays = taken_apart((folder / "0.skad").read_bytes())

    def overlap(header):
        name, *others = sorted(arrays, key=lambda name: arrays[name].nbytes)
        start = header[others[-1]]["data_offsets"][0]
        n_bytes = arrays[name].nbytes
        header[name]["data_offsets"] = [start, start + n_bytes]

    with pytest.raises(skad.CorruptFileError, match="overlap"):
        from_bytes(put_together(entry, arrays, overlap))


def test_detectors_that_could_not_be_loaded_again_are_not_saved():
    detector = skad.KNN()
    detector.texts_ = np.array(["a" * 10**6] + ["b"] * 200)
    with pytest.raises(ValueError, match="pickle it"):
        to_bytes(detector)
