"""Files without pickle: what comes back, and what hostile files cannot do."""

import json
import os
import pathlib
import pickle
import signal
import struct
import subprocess
import sys
import textwrap
import time
import zipfile

import numpy as np
import pytest
import safetensors
import torch
from numpy.testing import assert_array_equal
from sklearn.base import BaseEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.naive_bayes import GaussianNB
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import skad
from skad.persistence import CorruptFileError, _file, _names
from skad.persistence._file import from_bytes, to_bytes
from skad.persistence._names import MOVED, find, name_of
from tests import _classifiers, _paired
from tests._instances import (
    NEEDS_LABELS,
    OWN_LABELS,
    default_instances,
    identify,
    quick,
    seeded,
    settings_of,
    variant_instances,
)
from tests._instances import labelled_instances as labelled
from tests._pixels import Learned, Lines, Mixed, Pixels
from tests._process import run_python

# classes of the tests' own, which detectors around a classifier hold in `instances`
OWN = [
    member
    for module in (_classifiers, _paired)
    for member in vars(module).values()
    if isinstance(member, type) and member.__module__ == module.__name__
]


def assert_same(detector, loaded, X):
    assert type(loaded) is type(detector)
    assert_array_equal(loaded.score_samples(X), detector.score_samples(X))
    assert_array_equal(loaded.transform(X), detector.transform(X))
    assert_array_equal(loaded.predict(X), detector.predict(X))


@pytest.mark.parametrize(
    "detector",
    [
        *quick(default_instances()),
        *[
            pytest.param(one, marks=pytest.mark.sampled(8))
            for one in quick(variant_instances())
        ],
    ],
    ids=identify,
)
def test_a_loaded_detector_scores_to_the_last_bit_as_the_saved_one(detector, blobs):
    train, normal, _ = blobs
    detector = seeded(detector).fit(train[:60])
    trusted = [*OWN, Learned, Lines, Mixed, Pixels]
    loaded = from_bytes(to_bytes(detector, trusted), trusted)
    assert_same(detector, loaded, normal[:20])
    assert set(vars(loaded)) == set(vars(detector))
    assert repr(loaded) == repr(detector)


@pytest.mark.sampled(4)
@pytest.mark.parametrize("detector", quick(labelled()), ids=identify)
def test_detectors_that_need_labels_come_back(detector, blobs):
    train, normal, _ = blobs
    detector, name = seeded(detector), type(detector).__name__
    if name in OWN_LABELS or name in NEEDS_LABELS:
        y = np.arange(90) % 3
        if label := settings_of(name).labels:
            y = label(train[:90])
            detector = getattr(skad, name)(**detector.get_params())
        detector.fit(train[:90], y)
        trusted = [*OWN, Learned, Lines, Mixed, Pixels]
        loaded = from_bytes(to_bytes(detector, trusted), trusted)
        assert_same(detector, loaded, normal[:20])


def roundtrip(detector, tmp_path, **options):
    skad.save(detector, tmp_path / "one.skad")
    return skad.load(tmp_path / "one.skad", **options)


def test_layout_of_memory_comes_back(blobs):
    X = torch.as_tensor(blobs[0])
    detector = skad.KNN(algorithm="brute").fit(X)
    loaded = from_bytes(to_bytes(detector))
    assert loaded._search_.products.stride() == detector._search_.products.stride()
    assert_array_equal(loaded.score_samples(X), detector.score_samples(X))


def test_values_of_all_kinds_come_back():
    detector = skad.KNN()
    same = np.arange(6.0).reshape(2, 3)
    values = {
        "complex": np.array([[1 + 2j], [3 - 1j]]),
        "fortran": np.asfortranarray(same),
        "names": np.array(["a", "äöü"], dtype=object),
        "unicode": np.array(["a", "bc"]),
        "empty": np.empty((0, 3), np.uint8),
        "zero_d": np.array(2.5, np.float32),
        "float": [np.inf, -np.inf, -0.0, 1e-320, 0.1, 2**70],
        "key": {1: "a", (1, 2): {3}, None: slice(1, None)},
        "bf16": torch.tensor([1.5, 2.5], dtype=torch.bfloat16),
        "dtype": torch.float16,
        "numpy": np.float32(0.1),
        "text": '"sha256":"' + 64 * "0" + '"',
        "path": pathlib.Path("weights.pth"),
        "optimizer": torch.optim.Adam,
        "first": same,
        "second": same,
        "random": np.random.RandomState(3),
    }
    for name, value in values.items():
        setattr(detector, f"{name}_", value)
    loaded = from_bytes(to_bytes(detector))
    for name in ("complex", "fortran", "names", "unicode", "empty", "zero_d"):
        found, value = getattr(loaded, f"{name}_"), values[name]
        assert_array_equal(found, value)
        assert found.dtype == value.dtype
        assert found.flags.f_contiguous == value.flags.f_contiguous
        assert found.flags.writeable
    for name in ("float", "key", "dtype", "numpy", "text", "path", "optimizer"):
        assert getattr(loaded, f"{name}_") == values[name]
    assert type(loaded.numpy_) is np.float32
    assert torch.equal(loaded.bf16_, values["bf16"])
    assert loaded.first_ is loaded.second_
    assert loaded.random_.randint(10**9) == np.random.RandomState(3).randint(10**9)


def test_pipelines_come_back(blobs, tmp_path):
    detector = make_pipeline(StandardScaler(), skad.Mahalanobis()).fit(blobs[0])
    loaded = roundtrip(detector, tmp_path)
    assert_array_equal(loaded.predict(blobs[2]), detector.predict(blobs[2]))


def test_the_file_is_a_safetensors_file_and_always_the_same(blobs, tmp_path):
    detector = skad.Mahalanobis().fit(blobs[0])
    skad.save(detector, tmp_path / "one.skad")
    skad.save(detector, tmp_path / "two.skad")
    content = (tmp_path / "one.skad").read_bytes()
    assert content == (tmp_path / "two.skad").read_bytes()
    with safetensors.safe_open(tmp_path / "one.skad", "np") as file:
        entry = json.loads(file.metadata()["skad"])
        arrays = [file.get_tensor(name) for name in file.keys()]  # noqa: SIM118
    assert entry["versions"]["skad"] == skad.__version__
    assert any(np.array_equal(a, detector.location_) for a in arrays)


def test_loading_imports_no_torch_where_the_detector_needs_none(blobs, tmp_path):
    skad.save(skad.Mahalanobis().fit(blobs[0]), tmp_path / "one.skad")
    code = "import sys, skad; skad.load(sys.argv[1]); assert 'torch' not in sys.modules"
    run_python("-c", code, tmp_path / "one.skad")


# ------------------------------------------------------------------------------ devices


def test_a_detector_of_a_gpu_loads_on_the_host(blobs, tmp_path):
    if torch.cuda.is_available():
        pytest.skip("has a GPU")
    detector = skad.AutoEncoder(max_epochs=1, random_state=0).fit(blobs[0])
    scores = detector.score_samples(blobs[1])
    detector.device_ = "cuda:0"
    for device in (None, "cpu"):
        loaded = roundtrip(detector, tmp_path, device=device)
        assert loaded.device_ == "cpu"
        assert_array_equal(loaded.score_samples(blobs[1]), scores)
    with pytest.raises(ValueError, match="cannot be used here"):
        skad.load(tmp_path / "one.skad", device="cuda")


def test_embeddings_inside_move_with_their_detector(tmp_path):
    pictures = np.random.default_rng(0).uniform(size=(4, 32, 32))
    detector = skad.PaDiM(random_state=0).fit(pictures)
    maps = detector.transform(pictures)
    detector.embedding_.device_ = detector.device_ = "cuda:0"
    loaded = roundtrip(detector, tmp_path, device="cpu")
    assert loaded.device_ == loaded.embedding_.device_ == "cpu"
    assert_array_equal(loaded.transform(pictures), maps)


def test_parts_that_detectors_no_longer_have_are_left_out(tmp_path):
    old = pathlib.Path(__file__).parent / "files" / "0.1-DFR.skad"
    assert b"skad.embedding._patches.Copies" in old.read_bytes()
    detector = skad.load(old)
    assert not hasattr(detector.embedding_, "_copies_")
    X = np.random.default_rng(0).uniform(size=(3, *detector.image_shape_))
    again = roundtrip(detector, tmp_path)
    assert_array_equal(again.score_samples(X), detector.score_samples(X))


# ----------------------------------------------------------- what is refused when saved


class Twice(torch.nn.Module):
    def forward(self, x):
        return 2 * x


def own_kernel(X, Y):
    return X @ Y.T


@pytest.mark.parametrize(
    ("detector", "message"),
    [
        (skad.OneClassSVM(kernel=own_kernel), "OneClassSVM.kernel is .*own_kernel"),
        (skad.MaxLogit(_classifiers.linear()), r"MaxLogit\.classifier.*OwnLabels"),
    ],
    ids=["function", "class"],
)
def test_what_cannot_be_saved_is_named(detector, message, tmp_path):
    path = tmp_path / "one.skad"
    path.write_bytes(b"the old one")
    with pytest.raises(ValueError, match=message):
        skad.save(detector, path)
    assert path.read_bytes() == b"the old one"
    assert list(tmp_path.iterdir()) == [path]


def test_callbacks_and_hooks_are_refused(blobs):
    from skorch.callbacks import EpochTimer

    detector = skad.AutoEncoder(max_epochs=1, callbacks=[EpochTimer()])
    with pytest.raises(ValueError, match=r"callbacks\[0\] holds a skorch"):
        to_bytes(detector)
    detector = skad.AutoEncoder(max_epochs=1).fit(blobs[0])
    detector.net_.register_forward_hook(lambda *_: None)
    with pytest.raises(ValueError, match="net_ has forward hooks"):
        to_bytes(detector)


@pytest.mark.parametrize(
    "name",
    [
        "skad.image._cflow.CFLOWNetwork",
        "skad.image._dfr.DFRNetwork",
        "skad.image._fastflow.FastFlowNetwork",
        "skad.image._reverse_distillation.Bottleneck",
        "skad.image._reverse_distillation.Decoder",
        "skad.image._reverse_distillation.ReverseDistillationNetwork",
        "skad.image._simplenet.SimpleNetNetwork",
        "skad.image._stfpm.STFPMNetwork",
    ],
)
def test_names_of_version_0_1_outlive_moves(name):
    module, _, last = name.rpartition(".")
    found = find(name)
    assert found.__name__ == last
    assert name_of(found) == f"{MOVED[module]}.{last}"


def test_classes_of_one_s_own_are_trusted_by_name(blobs, tmp_path):
    detector = skad.KNN().fit(blobs[0])
    detector.extra_ = Twice()
    with pytest.raises(ValueError, match=r"extra_ holds a .*Twice"):
        skad.save(detector, tmp_path / "one.skad")
    skad.save(detector, tmp_path / "one.skad", trusted=[Twice])
    with pytest.raises(CorruptFileError, match="Twice is no part of skad"):
        skad.load(tmp_path / "one.skad")
    loaded = skad.load(tmp_path / "one.skad", trusted=[Twice])
    assert type(loaded.extra_) is Twice


def test_graphs_of_pynndescent_are_refused(blobs):
    detector = skad.KNN().fit(blobs[0])
    detector._search_.graph = object()  # to build one compiles for minutes
    with pytest.raises(ValueError, match="graph of pynndescent"):
        to_bytes(detector)


def test_only_estimators_are_saved(tmp_path):
    with pytest.raises(ValueError, match="no estimator"):
        skad.save({"a": 1}, tmp_path / "one.skad")


# ------------------------------------------------------------------------ hostile files


def signed(content):
    """Return content with a checksum that is right, as a forger would write it."""
    import hashlib

    place = _file._digest_place(content)
    if place is None:
        return bytes(content)
    content = bytearray(content)
    content[slice(*place)] = 64 * b"0"
    content[slice(*place)] = hashlib.sha256(content).hexdigest().encode()
    return bytes(content)


def forged(content, change):
    """Return content with another structure, signed."""
    (n,) = struct.unpack("<Q", content[:8])
    header = json.loads(bytes(content[8 : 8 + n]))
    entry = json.loads(header["__metadata__"]["skad"])
    entry = change(entry) or entry
    header["__metadata__"]["skad"] = json.dumps(entry, separators=(",", ":"))
    text = json.dumps(header, separators=(",", ":")).encode()
    return signed(struct.pack("<Q", len(text)) + text + bytes(content[8 + n :]))


@pytest.fixture(scope="module")
def content(blobs):
    return bytes(to_bytes(skad.KNN().fit(blobs[0][:30])))


def test_forging_is_possible_and_the_tests_below_mean_something(content):
    assert isinstance(from_bytes(forged(content, lambda entry: None)), skad.KNN)


@pytest.mark.parametrize(
    ("classifier", "tail"),
    [
        (LogisticRegression(), "_ChainTail"),
        (GaussianNB(), "_BlackBoxTail"),
        (torch.nn.Linear(6, 3), "ModuleTail"),
    ],
    ids=["chain", "black box", "module"],
)
def test_parts_are_found_where_files_of_version_0_1_name_them(classifier, tail, blobs):
    train, normal, _ = blobs
    detector = skad.MaxSoftmax(classifier).fit(train[:60], np.arange(60) % 3)
    old = f"skad.embedding._classifier_tails.{tail}"
    new = _names.MOVED_PARTS[old]

    def as_it_was(entry):
        text = json.dumps(entry)
        assert new in text
        return json.loads(text.replace(new, old))

    loaded = from_bytes(forged(bytes(to_bytes(detector)), as_it_was))
    assert_same(detector, loaded, normal[:20])


def state(entry):
    return entry["detector"]["state"]


FORGERIES = {
    "newer": (lambda e: e.update(format=2), "newer skad"),
    "no version": (lambda e: e.update(format="1"), "no version"),
    "builtin": (lambda e: e["detector"].update({"class": "builtins.eval"}), "eval"),
    "system": (lambda e: e["detector"].update({"class": "os.system"}), "os.system"),
    "through skad": (
        lambda e: e["detector"].update({"class": "skad.persistence._file.os"}),
        "not among",
    ),
    "dunder": (
        lambda e: e["detector"].update({"class": "skad.__main__.main"}),
        "no part of skad",
    ),
    "torch's": (
        lambda e: e["detector"].update({"class": "torch.hub.load"}),
        "not among",
    ),
    "joblib": (
        lambda e: e["detector"].update({"class": "sklearn.utils.Memory"}),
        "not among",
    ),
    "part": (
        lambda e: e["detector"].update({"class": "skad.embedding._patches.Copies"}),
        "no detector",
    ),
    "list": (lambda e: e.update(detector=[1]), "no detector"),
    "method": (lambda e: state(e).update(score_samples=1), "attribute score_samples"),
    "class": (lambda e: state(e).update(__class__=1), "attribute __class__"),
    "kind": (lambda e: state(e).update(p={"is": "reduce"}), "KeyError"),
    "again": (lambda e: state(e).update(p={"is": "again", "number": 99}), "KeyError"),
    "graph": (
        lambda e: state(e)["_search_"]["state"].update(graph="cos\nsystem\n."),
        "a graph",
    ),
    "missing array": (
        lambda e: state(e)["_search_"]["state"]["bank"].update(name="b"),
        "KeyError",
    ),
    "other dtype": (
        lambda e: state(e)["_search_"]["state"]["bank"].update(dtype="float32"),
        "another dtype",
    ),
    "objects": (
        lambda e: state(e)["_search_"]["state"]["bank"].update(dtype="object"),
        "dtype object",
    ),
    "axes": (
        lambda e: state(e)["_search_"]["state"]["bank"].update(order=[5, 6]),
        "axes",
    ),
    "wide": (
        lambda e: state(e).update(
            p={"is": "objects", "dtype": "<U9999999", "shape": [1], "items": ["a"]}
        ),
        "too wide",
    ),
    "device": (
        lambda e: state(e).update(p={"is": "device", "value": "abc"}),
        "RuntimeError",
    ),
    "left over": (lambda e: state(e).update(_search_=None), "belong to nothing"),
}


@pytest.mark.parametrize("name", FORGERIES)
def test_forged_files_are_refused(name, content):
    change, message = FORGERIES[name]
    with pytest.raises(CorruptFileError, match=message):
        from_bytes(forged(content, change))


def test_deep_nesting_is_refused(content):
    def bury(entry):
        node = []
        for _ in range(500):
            node = [node]
        state(entry)["p"] = node

    with pytest.raises(CorruptFileError, match="nested too deeply"):
        from_bytes(forged(content, bury))
    deep = content.replace(rb"{\"format\"", rb"[" * 200_000 + rb"{\"format\"")
    (n,) = struct.unpack("<Q", content[:8])
    deep = struct.pack("<Q", n + len(deep) - len(content)) + deep[8:]
    with pytest.raises(CorruptFileError):
        from_bytes(signed(deep))


def test_a_forged_tree_with_a_loop_is_refused(blobs):
    detector = skad.IsolationForest(n_estimators=2, random_state=0).fit(blobs[0][:20])
    detector.forest_.estimators_[0].tree_.children_left[0] = 0
    with pytest.raises(CorruptFileError, match="loop"):
        from_bytes(to_bytes(detector))
    detector.forest_.estimators_[0].tree_.children_left[0] = 1
    detector.forest_.estimators_[0].tree_.feature[0] = 10**6
    with pytest.raises(CorruptFileError, match="feature beyond"):
        from_bytes(to_bytes(detector))


def test_a_forged_random_state_is_refused(content):
    random = np.random.RandomState(0)
    detector = skad.IsolationForest(random_state=random)

    def beyond(entry):
        state(entry)["random_state"]["items"][1] = 10**6

    assert isinstance(from_bytes(to_bytes(detector)), skad.IsolationForest)
    with pytest.raises(CorruptFileError, match="random state"):
        from_bytes(forged(to_bytes(detector), beyond))


def test_damaged_files_are_refused(content, tmp_path):
    path = tmp_path / "one.skad"
    for damaged in (
        b"",
        content[:7],
        content[:8],
        content[: len(content) // 2],
        content[:-1],
        content + b"\0",
        struct.pack("<Q", 2**63) + content[8:],  # a header larger than memory
        struct.pack("<Q", 10**9) + content[8:],
        bytes(len(content)),
        pickle.dumps(BaseEstimator()),
    ):
        path.write_bytes(damaged)
        with pytest.raises(CorruptFileError, match=r"one\.skad cannot be loaded"):
            skad.load(path)


def test_archives_are_refused(content, tmp_path):
    path = tmp_path / "one.skad"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("../../outside", content)
    with pytest.raises(skad.CorruptFileError):
        skad.load(path)
    assert not (tmp_path.parent.parent / "outside").exists()


def test_every_flipped_bit_is_seen(content):
    """The checksum covers every byte, those of the header's blanks among them."""
    rng = np.random.default_rng(0)
    for place in rng.integers(len(content), size=3000):
        damaged = bytearray(content)
        damaged[place] ^= 1 << rng.integers(8)
        with pytest.raises(CorruptFileError):
            from_bytes(damaged)


@pytest.mark.filterwarnings("ignore:The file was written")
def test_ten_thousand_mutated_files(content, blobs):
    """Mutated and signed anew, so that what lies behind the checksum is reached."""
    rng = np.random.default_rng(1)
    (n_header,) = struct.unpack("<Q", content[:8])
    tokens = [b"0", b"-1", b"99999999", b'"', b"{", b"}", b"[", b"null", b"\\", b"a1"]
    started, n_loaded, faults = time.perf_counter(), 0, set()
    for i in range(10_000):
        mutated = bytearray(content)
        for _ in range(rng.integers(1, 4)):
            end = len(mutated) if i % 4 == 0 else 8 + n_header  # mostly the structure
            at = int(rng.integers(8, end))
            kind = rng.integers(4)
            if kind == 0:
                mutated[at] = rng.integers(256)
            elif kind == 1:
                token = tokens[rng.integers(len(tokens))]
                mutated[at : at + len(token)] = token
            elif kind == 2:
                other = int(rng.integers(8, end))
                mutated[at : at + 4] = mutated[other : other + 4]
            else:
                del mutated[at : at + int(rng.integers(1, 9))]
        try:
            loaded = from_bytes(signed(mutated))
        except CorruptFileError as error:
            faults.add(str(error)[:40])
            continue
        n_loaded += 1
        assert isinstance(loaded, BaseEstimator)
        if n_loaded % 20 == 0:  # other numbers, perhaps, but no crash
            try:
                loaded.score_samples(blobs[1][:2])
            except Exception as error:
                assert not isinstance(error, MemoryError)  # noqa: PT017
    assert time.perf_counter() - started < 120
    assert n_loaded > 50, "no mutation came through: the test reaches nothing"
    assert len(faults) > 5


def test_nothing_in_a_file_is_run(tmp_path, content):
    """An audit of everything that Python does while a file is loaded."""
    path = tmp_path / "one.skad"
    path.write_bytes(content)
    code = textwrap.dedent(
        """
        import sys, numpy, safetensors.numpy, skad
        skad.load(sys.argv[1])  # imports what it needs
        seen = []
        sys.addaudithook(lambda name, args: seen.append((name, args)))
        skad.load(sys.argv[1])
        bad = "exec", "compile", "subprocess", "os.system", "socket", "pickle", "import"
        assert not [name for name, _ in seen if name.startswith(bad)], seen
        opened = [str(args[0]) for name, args in seen if name == "open"]
        assert opened == [sys.argv[1]], opened
        """
    )
    run_python("-c", code, path)


# ------------------------------------------------------------------ whole or not at all


@pytest.mark.skipif(os.name != "posix", reason="needs SIGKILL")
def test_a_killed_process_leaves_the_old_file(blobs, tmp_path, content):
    path = tmp_path / "one.skad"
    path.write_bytes(content)
    code = textwrap.dedent(
        """
        import os, sys, time, numpy as np, skad
        detector = skad.KNN().fit(np.random.default_rng(0).normal(size=(50, 3)))
        def stop(descriptor):
            print("written", flush=True)
            time.sleep(60)
        os.fsync = stop  # all is written, and not yet in its place
        skad.save(detector, sys.argv[1])
        """
    )
    run = [sys.executable, "-c", code, str(path)]
    with subprocess.Popen(run, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "written\n"
        process.send_signal(signal.SIGKILL)
    assert path.read_bytes() == content
    assert isinstance(skad.load(path), skad.KNN)


def test_a_failed_write_leaves_nothing_behind(blobs, tmp_path, content, monkeypatch):
    path = tmp_path / "one.skad"
    path.write_bytes(content)

    def full(descriptor):
        raise OSError("No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        skad.save(skad.KNN().fit(blobs[0]), path)
    assert list(tmp_path.iterdir()) == [path]
    assert path.read_bytes() == content


def test_another_version_is_said(content):
    def older(entry):
        entry["versions"]["skad"] = "0.0.1"

    with pytest.warns(UserWarning, match=r"written with skad 0\.0\.1"):
        from_bytes(forged(content, older))


@pytest.mark.skipif(os.name != "posix", reason="needs links")
def test_a_link_stays_and_leads_to_the_new_file(tmp_path):
    (tmp_path / "releases").mkdir()
    link, target = tmp_path / "current.skad", tmp_path / "releases" / "7.skad"
    link.symlink_to(pathlib.Path("releases") / "7.skad")
    for n_neighbors in (3, 4):  # the target is not there at first
        skad.save(skad.KNN(n_neighbors), link)
        assert link.is_symlink()
        assert not target.is_symlink()
        assert skad.load(target).n_neighbors == skad.load(link).n_neighbors
        assert skad.load(target).n_neighbors == n_neighbors
    assert list((tmp_path / "releases").iterdir()) == [target]


def test_what_is_no_place_for_a_file_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"is a folder: pass the name of a file\."):
        skad.save(skad.KNN(), tmp_path)
    with pytest.raises(ValueError, match="is no file"):
        skad.save(skad.KNN(), os.devnull)
    with pytest.raises(FileNotFoundError, match="in a folder that is not there"):
        skad.save(skad.KNN(), tmp_path / "none" / "one.skad")
    assert list(tmp_path.iterdir()) == []


def test_parameters_that_fit_refuses_are_neither_saved_nor_loaded(content, tmp_path):
    with pytest.raises(ValueError, match="'n_neighbors' parameter of KNN must be"):
        skad.save(skad.KNN(n_neighbors="abc"), tmp_path / "one.skad")
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(CorruptFileError, match="'n_neighbors' parameter of KNN"):
        from_bytes(forged(content, lambda e: state(e).update(n_neighbors="abc")))
    with pytest.raises(CorruptFileError, match="n_jobs=10"):
        from_bytes(forged(content, lambda e: state(e).update(n_jobs=10**6)))


def test_detectors_around_a_module_are_loaded_onto_a_device(blobs, tmp_path):
    module = torch.nn.Sequential(torch.nn.Linear(6, 4), torch.nn.Linear(4, 3))
    for detector in (skad.ODIN(module), skad.ViM(module), skad.MaxSoftmax(module)):
        detector.set_params(contamination=0.1).fit(blobs[0][:60], np.arange(60) % 3)
        assert_same(detector, roundtrip(detector, tmp_path), blobs[1][:20])
        assert_same(detector, roundtrip(detector, tmp_path, device="cpu"), blobs[1])
