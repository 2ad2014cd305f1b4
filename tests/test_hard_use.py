"""Bad input on every public method of every public detector; threads; memory; peace.

A cell of the table is one kind of input in one method of one detector. It gives an
error that says what is wrong, or a finite answer of the right shape; either way the
detector answers as before, a failed fit leaves what was there, and the input stays as
it is. Cells are counted, and the count is printed at the end of the run.

Of the detectors that take their input on the same path, one has the whole table in each
run and the others an eighth of it, by turns; with --full all of them have it whole.
"""

import contextlib
import copy
import dataclasses
import inspect
import os
import re
import sys
import textwrap
import threading
import tracemalloc
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from sklearn import config_context
from sklearn.base import clone
from torch.utils._python_dispatch import TorchDispatchMode

import skad
from skad._answers import Inspection
from tests._bad_inputs import (
    EITHER,
    FINITE,
    FOR_PICTURES,
    FOR_SERIES,
    GROUPS,
    LABELS,
    MISSING,
    NAN,
    PATHS,
    PICTURES,
    REFUSED,
    SAME,
    TABLES,
    TEXT_OF_FRAMES,
    frame,
)
from tests._classifiers import bumps
from tests._instances import OWN_LABELS, default_instance, excused, labels_for
from tests._process import run_python

RNG = np.random.default_rng(0)
# whole numbers, which every dtype and wrapper can hold
TRAIN = RNG.integers(0, 10, size=(24, 4)).astype(float)
PROBE = RNG.integers(0, 10, size=(12, 4)).astype(float)

# Methods that change what they are called on: they get a copy.
CHANGING = {"partial_fit", "score_stream"}

# Methods that all others call.
LOOKING = {"score_samples", "transform"}

# Parameters that make a fit as cheap as it can be.
TINY = {
    "max_epochs": 1,
    "pretrain_epochs": 1,
    "n_search_steps": 1,
    "n_estimators": 5,
    "n_representations": 2,
    "false_alarm_rate": 0.5,  # a small one needs many rows
}


def is_network(detector):
    return any("epochs" in name for name in detector.get_params())


def tiny(detector):
    """Return a clone whose fit is seeded and as cheap as it can be."""
    settings = {}
    for name, value in detector.get_params().items():
        last = name.split("__")[-1]
        settings |= {name: TINY[last]} if last in TINY else {}
        settings |= {name: 0} if last == "random_state" else {}
        settings |= {name: bumps()} if last == "classifier" and value is None else {}
    if is_network(detector) and "contamination" in detector.get_params():
        settings["contamination"] = 0.1  # needs no copies of the network
    return clone(detector).set_params(**settings)


def detectors():
    """Return an instance of every public detector by its name."""
    return {name: tiny(default_instance(name)) for name, _ in skad.all_detectors()}


DETECTORS = detectors()
every_detector = pytest.mark.parametrize("name", DETECTORS)

# What a table goes through before a method sees it, and its answers on their way back.
ON_THE_PATH = (
    "fit",
    "inspect",
    "score_samples",
    "transform",
    "_in_blocks",
    "_learn",
    "_validate",
)


def path(name):
    """Return the functions that a detector shares with others of the same path."""
    # as they stand in the class: what is not always there would be made anew each time
    owner = type(DETECTORS[name])
    return tuple(inspect.getattr_static(owner, part) for part in ON_THE_PATH)


@pytest.fixture
def takes(name, request, record_property):
    """Return a function: number of a kind of input to whether this run tries it."""
    rotation = request.config.option.rotation
    same = [other for other in DETECTORS if path(other) == path(name)]
    if request.config.option.full:
        return lambda number: True
    if same[rotation % len(same)] == name:
        record_property("whole", name)
        return lambda number: True
    return lambda number: (number + rotation + same.index(name)) % 8 == 0


# Methods whose answer is not one value, or one row, for each row.
OTHERS = {"kneighbors", "score"}


def methods(detector):
    """Return the names of all public methods that take X, `fit` before the others."""
    found = []
    for name in dir(type(detector)):
        member = None if name[0] == "_" else getattr(detector, name, None)
        if inspect.ismethod(member):
            parameters = list(inspect.signature(member).parameters)
            found += [name] if parameters[:1] == ["X"] and name not in OTHERS else []
    return sorted(found, key=lambda name: name != "fit")


def labels(name, n_rows):
    """Return what else `fit` needs."""
    if name not in OWN_LABELS:
        return ()
    return (labels_for(name, np.arange(n_rows, dtype=float)[:, None]),)


def twin(detector):
    """Return a detector of its own with the same state in it."""
    again = type(detector).__new__(type(detector))
    vars(again).update(vars(detector))
    return again


def same_state(detector, before):
    """Tell whether a detector holds the very objects that it held before."""
    now = vars(detector)
    return now.keys() == before.keys() and all(now[k] is v for k, v in before.items())


def contents(X):
    """Return what must not change in an input."""
    if isinstance(X, torch.Tensor):
        facts = X.dtype, X.requires_grad, X.layout
        if X.layout != torch.strided or X.is_meta or X.is_quantized:
            return facts
        return *facts, repr(X.detach().tolist())
    if isinstance(X, np.ndarray):
        masked = np.ma.getmaskarray(X).sum() if isinstance(X, np.ma.MaskedArray) else 0
        return X.tobytes(), X.dtype, X.strides, X.flags.writeable, masked
    if hasattr(X, "columns"):
        return list(X.columns), repr(X.to_numpy().tolist())
    return repr(X) if isinstance(X, list | tuple | dict | set) else None


def on_host(answer):
    """Return an answer as an array; of `inspect` all but the labels side by side."""
    if isinstance(answer, Inspection):
        parts = [on_host(part) for part in answer if part is not answer.labels]
        return np.column_stack([part.reshape(len(part), -1) for part in parts])
    return np.asarray(answer.detach() if isinstance(answer, torch.Tensor) else answer)


class Cells:
    """The cells of one detector: how many were seen, and what was wrong with them."""

    def __init__(self, name):
        self.name, self.count, self.wrong = name, 0, []

    @contextlib.contextmanager
    def cell(self, *where):
        self.count += 1
        try:
            yield
        except Exception as error:
            text = f"{type(error).__name__}: {error}".split("\nassert ")[0]
            self.wrong.append(f"{self.name}, {', '.join(where)}: {text[:400]}")

    def close(self, record_property):
        record_property("cells", self.count)
        if self.wrong:
            pytest.fail("\n".join([f"{len(self.wrong)} wrong", *self.wrong]), False)


def allowed(detector, bad, kind):
    """Return what may happen with a kind of table in a detector, and which errors."""
    errors, parameters = (ValueError, TypeError), detector.get_params(deep=False)
    if excused(detector, kind):
        bad = dataclasses.replace(bad, fit=REFUSED)
    if excused(detector, "text of frames") and kind in TEXT_OF_FRAMES:
        bad = dataclasses.replace(bad, fit=FINITE)
    missing = kind in MISSING or bad.says == NAN
    if missing and detector.__sklearn_tags__().input_tags.allow_nan:
        bad = dataclasses.replace(bad, fit=EITHER, score=EITHER)
    for (kinds, says), takes in [
        (FOR_PICTURES, "image_shape" in parameters),
        (FOR_SERIES, detector._data == "series"),
    ]:
        if takes and kind in kinds:
            bad = dataclasses.replace(bad, says=f"{bad.says}|{says}", fit=EITHER)
    if "image_shape" in parameters and kind in PATHS[0]:
        bad, errors = dataclasses.replace(bad, says=PATHS[1]), FileNotFoundError
    if EITHER in (bad.fit, bad.score):  # may be too little for a parameter
        names = "|".join(rf"\b{name}\b" for name in parameters)
        bad = dataclasses.replace(bad, says=f"{bad.says}|{names}")
    return bad, errors


def check_cell(name, detector, method, bad, errors, truths):
    """Check one cell; return the error that it gave, or None."""
    learns = method.startswith("fit")
    rows = TRAIN if learns else PROBE
    plain, X, before = bad.plain(rows), bad.make(rows), vars(detector).copy()
    fate = bad.fit if learns else bad.score
    known = contents(X)
    trial = detector
    if learns:
        trial = twin(detector)
    elif method in CHANGING and fate != REFUSED:
        trial = copy.deepcopy(detector)
        before = vars(trial).copy()
    extra = labels(name, len(plain)) if "fit" in method else ()
    error = None
    try:
        answer = getattr(trial, method)(X, *extra)
    except errors as raised:
        error = raised
    if error is not None:
        assert re.search(bad.says, str(error)), f"unclear: {error!r}"
        assert fate != FINITE, f"refused: {error!r}"
        assert same_state(trial, before), "half fitted"
        if fate == SAME and not learns:
            with pytest.raises((ValueError, TypeError)):
                getattr(copy.deepcopy(detector), method)(plain, *extra)
    assert contents(X) == known, "the input was changed"
    assert fate != REFUSED or error is not None, "accepted"
    if method in ("fit", "partial_fit") and error is None:
        assert answer is trial
        assert np.isfinite(trial.offset_)
        if fate == EITHER:
            check_answer(trial.score_samples(bad.make(rows)), plain)
        if fate == SAME and method == "fit" and bad.plain(PROBE) is PROBE:
            far = abs(trial.offset_ - detector.offset_)
            assert far <= bad.tolerance * max(1, abs(detector.offset_)), "learns other"
    elif error is None:
        answer = check_answer(answer, plain)
        if fate == SAME and "predict" not in method:
            key = method, plain.tobytes()
            if key not in truths:
                other = copy.deepcopy(detector) if method in CHANGING else detector
                truths[key] = on_host(getattr(other, method)(plain))
            assert answer.shape == truths[key].shape
            far = np.abs(answer - truths[key]).max()
            largest = max(1, np.abs(truths[key]).max())
            assert far <= bad.tolerance * largest, f"off by {far}, scale {largest}"
    return error


def check_answer(answer, plain):
    answer = on_host(answer)
    assert len(answer) == len(plain), answer.shape
    assert answer.dtype.kind == "O" or np.isfinite(answer).all(), "not finite"
    return answer


@pytest.fixture(scope="module")
def fitted():
    """Return a function: name and whether on a frame to the fitted detector, once."""
    known = {}

    def get(name, on_frame=False):
        if (name, on_frame) not in known:
            X = frame(TRAIN) if on_frame else TRAIN
            known[name, on_frame] = clone(DETECTORS[name]).fit(X, *labels(name, 24))
        return known[name, on_frame]

    return get


def planned(name, detector):
    """Yield the cells of a detector: kinds with the methods that they are passed to.

    Where `fit` takes an input, `fit_predict` and `fit_transform` are `fit` and another
    cell in one, and are left out. A quarter of the inputs that are taken goes to every
    method of a network, another quarter for each network; the others, which reach it as
    the same arrays, go only to the two methods that look at them.
    """
    turn, every = list(DETECTORS).index(name), methods(detector)
    for number, kind in enumerate(TABLES):
        bad, _ = allowed(detector, TABLES[kind], kind)
        found = every
        if bad.fit != REFUSED:
            found = [method for method in found if not method.startswith("fit_")]
            if is_network(detector) and (number + turn) % 4:
                found = [name for name in found if name in LOOKING]
        yield kind, found


@every_detector
@pytest.mark.filterwarnings("ignore")  # a warning is a fair answer
def test_bad_tables(name, fitted, takes, record_property):
    cells, truths = Cells(name), {False: {}, True: {}}
    scores = {on: fitted(name, on).score_samples(PROBE) for on in truths}
    for number, (kind, names) in enumerate(planned(name, fitted(name))):
        if not takes(number):
            continue
        detector = fitted(name, TABLES[kind].names)
        before = vars(detector).copy()
        bad, errors = allowed(detector, TABLES[kind], kind)
        for method in names:
            with cells.cell(kind, method):
                check_cell(name, detector, method, bad, errors, truths[bad.names])
        with cells.cell(kind, "afterwards"):
            assert same_state(detector, before)
            if bad.score != REFUSED or bad.fit != REFUSED:
                again = detector.score_samples(PROBE)
                assert np.array_equal(again, scores[bad.names])
    cells.close(record_property)


def test_the_table_is_large():
    assert len(TABLES) >= 100
    n_cells = sum(
        len(names)
        for name, detector in DETECTORS.items()
        for _, names in planned(name, clone(detector))
    )
    assert n_cells > 40 * 6 * len(DETECTORS)


# --------------------------------------------------- labels, groups, pictures, merging


def attempt(detector, call, says, errors=(ValueError, TypeError)):
    """Call, and check that an error says what is wrong and leaves all as it was."""
    before = vars(detector).copy()
    try:
        return call()
    except errors as raised:
        error = raised
    assert re.search(says, str(error)), f"unclear: {error!r}"
    assert same_state(detector, before), "half fitted"
    return None


@every_detector
@pytest.mark.filterwarnings("ignore")
def test_bad_labels(name, fitted, takes, record_property):
    detector, cells = fitted(name), Cells(name)
    scores = detector.score_samples(PROBE)
    first = list(DETECTORS).index(name)
    for turn, (kind, make) in enumerate(LABELS.items(), first):
        if not takes(turn):
            continue
        if is_network(detector) and name not in OWN_LABELS and turn % 4:
            continue  # most networks do not look at labels, and are trained again
        with cells.cell(kind, "fit"):
            trial = twin(detector)
            y = make(24)
            says = r"\by\b|label|class|anomal|target|outlier|normal"
            if attempt(trial, lambda: trial.fit(TRAIN, y), says) is not None:  # noqa: B023
                assert np.isfinite(trial.score_samples(PROBE)).all()
    assert np.array_equal(detector.score_samples(PROBE), scores)
    cells.close(record_property)


SERIES = [
    name
    for name, detector in DETECTORS.items()
    if "groups" in inspect.signature(detector.score_samples).parameters
]


@pytest.mark.parametrize("name", SERIES)
@pytest.mark.filterwarnings("ignore")
def test_bad_groups(name, fitted, takes, record_property):
    detector, cells = fitted(name), Cells(name)
    scores = detector.score_samples(PROBE)
    for number, (kind, make) in enumerate(GROUPS.items()):
        if not takes(number):
            continue
        for method in ("score_samples", "predict", "transform", "fit"):
            rows = TRAIN if method == "fit" else PROBE
            trial = twin(detector)
            with cells.cell(kind, method):
                answer = attempt(
                    trial,
                    lambda: getattr(trial, method)(rows, groups=make(len(rows))),  # noqa: B023
                    "groups|label|1d array|Series|time steps|array",
                )
                if method == "fit" and answer is not None:
                    answer = trial.score_samples(PROBE)
                if answer is not None:
                    assert len(answer) in (12, 24)
                    assert np.isfinite(answer).all()
    assert np.array_equal(detector.score_samples(PROBE), scores)
    cells.close(record_property)


# Pictures that another fit may well learn, which takes networks long.
LEARNABLE = {"two channels", "four channels", "grey", "another size"}

PICTURED = [
    name
    for name, detector in DETECTORS.items()
    if "image_shape" in detector.get_params(deep=False)
]


@pytest.mark.parametrize("name", PICTURED)
@pytest.mark.filterwarnings("ignore")
def test_bad_pictures(name, takes, record_property):
    pictures = np.random.default_rng(0).random((12, 8, 8, 3))
    cells = Cells(name)
    detector = clone(DETECTORS[name])
    y = labels(name, 12)
    detector.fit(pictures, *y)
    scores = detector.score_samples(pictures)
    says = (
        "image|picture|shape|size|feature|channel|file|NaN|infinity|too large|2D|"
        "[Dd]im|[Cc]omplex|sample|dtype|mask|tensor|convert|number|float|sequence|array|pixel|"
        "n_neighbors|read but once"
    )
    for number, (kind, make) in enumerate(PICTURES.items()):
        if not takes(number):
            continue
        for method in ("score_samples", "predict", "transform", "fit"):
            if method == "fit" and is_network(detector) and kind in LEARNABLE:
                continue
            with cells.cell(kind, method):
                X, trial = make(pictures), twin(detector)
                known = contents(X)
                extra = y if method == "fit" else ()
                answer = attempt(
                    trial,
                    lambda: getattr(trial, method)(X, *extra),  # noqa: B023
                    says,
                    (ValueError, TypeError, OSError),
                )
                if answer is not None and method != "fit":
                    assert len(answer) == len(X)
                    assert np.isfinite(on_host(answer)).all()
                assert contents(X) == known, "the input was changed"
    assert np.array_equal(detector.score_samples(pictures), scores)
    cells.close(record_property)


@pytest.mark.parametrize(
    "name", [name for name, found in DETECTORS.items() if hasattr(found, "merge")]
)
def test_merge_refuses_what_is_no_other_part(name, fitted, record_property):
    detector, cells = fitted(name), Cells(name)
    for other in (None, "part", TRAIN, skad.KNN().fit(TRAIN), skad.KNN, object()):
        with (
            cells.cell(repr(other)[:20], "merge"),
            pytest.raises(TypeError, match="other"),
        ):
            detector.merge(other)
    with cells.cell("unfitted", "merge"), pytest.raises(ValueError, match="not fitted"):
        detector.merge(clone(detector))
    with cells.cell("features", "merge"), pytest.raises(ValueError, match="features"):
        detector.merge(clone(detector).fit(TRAIN[:, :3]))
    both = detector.merge(clone(detector).fit(torch.tensor(TRAIN)))
    assert np.isfinite(both.score_samples(PROBE)).all()
    cells.close(record_property)


# ------------------------------------------------------------------------------ threads


@every_detector
def test_eight_threads_score_as_one(name, fitted):
    detector = fitted(name)
    calls = [detector.score_samples, detector.transform] * 4
    alone = [call(PROBE) for call in calls[:2]]
    before = threading.active_count()
    start = threading.Barrier(len(calls))

    def run(call):
        start.wait(30)
        return [call(PROBE) for _ in range(3)]

    with ThreadPoolExecutor(len(calls)) as pool:
        for turn, answers in enumerate(pool.map(run, calls)):
            for answer in answers:
                assert np.array_equal(answer, alone[turn % 2])
    assert threading.active_count() <= before, "threads stay"


# ------------------------------------------------------------------------------- memory


class Largest(TorchDispatchMode):
    """Notes the size of the largest tensor that an operation makes, in bytes."""

    def __init__(self, X):
        super().__init__()
        self.bytes = 0
        self.known = X.data_ptr() if isinstance(X, torch.Tensor) else X.ctypes.data
        self.n_known = X.nbytes

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        made = function(*args, **(kwargs or {}))
        if isinstance(made, torch.Tensor):
            inside = 0 <= made.data_ptr() - self.known < self.n_known  # a view of X
            self.bytes = max(self.bytes, 0 if inside else made.nbytes)
        return made


def peak_bytes(detector, X):
    """Return the most that NumPy holds at once in scoring, and torch's largest."""
    tracemalloc.start()
    with Largest(X) as largest:
        detector.score_samples(X)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return np.array([peak, largest.bytes])


# Of every family what could hold most: distances, kernels, networks, features.
HUNGRY = [
    "AutoEncoder",
    "DeepSVDD",
    "ECOD",
    "Energy",
    "GMM",
    "IsolationForest",
    "KDE",
    "KNN",
    "Mahalanobis",
    "OneClassSVM",
    "PCAReconstruction",
    "PaDiM",
    "ScoreEnsemble",
]


@pytest.mark.sampled(3)
@pytest.mark.parametrize("library", ["numpy", "torch"])
@pytest.mark.parametrize("name", HUNGRY)
@pytest.mark.filterwarnings("ignore")
def test_memory_of_scoring_does_not_grow_with_rows(name, library, monkeypatch):
    monkeypatch.setattr("skad._array._BLOCK_ELEMENTS", 2**12)
    rng = np.random.default_rng(0)
    detector = clone(DETECTORS[name])
    if name == "PaDiM":
        detector.set_params(batch_size=64)  # its blocks, which are to be several
    detector.fit(rng.normal(size=(64, 32)))
    X = rng.normal(size=(400, 32))
    X = torch.from_numpy(X) if library == "torch" else X
    detector.score_samples(X[:200])  # what is imported and kept
    with config_context(working_memory=1):
        few, many = peak_bytes(detector, X[:200]), peak_bytes(detector, X)
    # a row itself takes 256 bytes and its score 8; each block's slice, of which there
    # is one for every few rows here, takes about 130
    assert ((many - few) / 200 < 128).all(), (many - few) / 200


# -------------------------------------------------------------------------------- peace

PEACE = """
    import locale, logging, os, random, signal, sys, threading, warnings
    import decimal, joblib, numpy as np, pandas, polars, pytest, scipy, sklearn
    import sklearn.callback, skorch, torch, torch._dynamo
    import tests._classifiers

    def state():
        return {
            "environment": dict(os.environ),
            "directory": os.getcwd(),
            "path": list(sys.path),
            "hooks": (sys.excepthook, sys.displayhook, threading.excepthook),
            "recursion": sys.getrecursionlimit(),
            "umask": [os.umask(0o22), os.umask(0o22)],
            "warnings": list(warnings.filters),
            "locale": locale.setlocale(locale.LC_ALL),
            "logging": (logging.root.level, list(logging.root.handlers)),
            "disabled": logging.root.manager.disable,
            "signals": [signal.getsignal(s) for s in signal.valid_signals()],
            "decimal": repr(decimal.getcontext()),
            "random": random.getstate(),
            "numpy": repr(np.random.get_state(legacy=False)),
            "numpy errors": np.geterr(),
            "numpy printing": np.get_printoptions(),
            "scikit-learn": sklearn.get_config(),
            "torch": torch.get_rng_state().tolist(),
            "torch dtype": torch.get_default_dtype(),
            "torch device": torch.get_default_device(),
            "torch grad": torch.is_grad_enabled(),
            "torch threads": (torch.get_num_threads(), torch.get_num_interop_threads()),
            "torch determinism": torch.are_deterministic_algorithms_enabled(),
            "cudnn": (torch.backends.cudnn.benchmark, torch.backends.cudnn.enabled),
            "precision": torch.get_float32_matmul_precision(),
            "matplotlib": "matplotlib" in sys.modules,
            "threads": threading.active_count(),
        }

    touched = []
    CHANGES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
    EVENTS = ("socket.", "subprocess.", "os.system", "os.exec", "os.fork", "os.posix",
              "os.mkdir", "os.remove", "os.rename", "os.rmdir", "os.truncate",
              "os.putenv", "os.unsetenv", "os.chdir", "os.kill", "shutil.", "tempfile.",
              "urllib.", "http.", "ftplib.", "webbrowser.", "sqlite3.", "syslog.")

    def hook(event, arguments):
        if event == "open" and arguments[0] != os.devnull and arguments[2] & CHANGES:
            touched.append((event, str(arguments[:2])))
        elif event.startswith(EVENTS):
            touched.append((event, str(arguments)[:200]))

    def check(when):
        assert not touched, (when, touched)
        now = state()
        for name, value in before.items():
            assert now[name] == value, (when, name, value, now[name])

    before = state()
    sys.addaudithook(hook)
    import skad
    skad.all_detectors()
    import skad.calibration, skad.metrics, skad.inspection, skad.persistence
    check("import")
    from tests.test_hard_use import DETECTORS, PROBE, TRAIN, labels
    warnings.filters[:] = before["warnings"]
    check("collect")
    for name, detector in DETECTORS.items():
        detector.fit(TRAIN, *labels(name, len(TRAIN)))
        check(("fit", name))
        for X in (PROBE, torch.from_numpy(PROBE)):
            detector.predict(X)
            detector.transform(X)
            check(("score", name))
    print(len(DETECTORS))
"""


def test_nothing_is_touched_by_import_fit_and_score():
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = run_python("-B", "-c", textwrap.dedent(PEACE), env=environment)
    assert int(done.stdout) == len(DETECTORS)
