"""Detectors in scikit-learn's pipelines, searches, workers and callbacks."""

import gc
import os
import random
import sys
import textwrap
import warnings

import numpy as np
import pytest
import sklearn
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import clone
from sklearn.frozen import FrozenEstimator
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import (
    GridSearchCV,
    KFold,
    cross_val_predict,
    cross_val_score,
)
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler

import skad
from skad.base import BaseDetector
from skad.density import Mahalanobis
from skad.model_selection import ExcessMass, NoveltyKFold, excess_mass
from tests._instances import (
    CHEAP,
    VARIANTS,
    default_instances,
    identify,
    quick,
    seeded,
)
from tests._process import run_python

every_class = pytest.mark.parametrize(
    "detector", quick(default_instances()), ids=identify
)

NAMES = ["width", "height", "depth", "weight"]


@pytest.fixture(scope="module")
def table():
    """120 rows with correlated features on scales that differ by 1e4."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(120, 4))
    X[:, 1] += X[:, 0]
    return X * [1, 10, 100, 1e4] + [0, 5, -3, 1e4]


def scaled(table):
    return StandardScaler().fit_transform(table)


_KEPT = {}


def fitted(detector, table):
    """Return a detector fitted on the scaled table; the latest is kept."""
    key = identify(detector)
    if key not in _KEPT:
        _KEPT.clear()
        _KEPT[key] = seeded(detector).fit(scaled(table))
    return _KEPT[key]


def frame(library, X):
    library = pytest.importorskip(library)
    if library.__name__ == "pandas":
        return library.DataFrame(X, columns=NAMES)
    return library.DataFrame(X, schema=NAMES)


# ---------------------------------------------------------------------------- pipelines


@pytest.mark.parametrize("library", ["pandas", "polars"])
@every_class
@pytest.mark.sampled(3)
def test_maps_keep_the_names_of_the_features(detector, library, table):
    X = frame(library, table)
    pipeline = make_pipeline(StandardScaler(), seeded(detector))
    pipeline.set_output(transform=library)
    maps = pipeline.fit(X).transform(X[:7])
    assert type(maps) is type(X)
    assert list(maps.columns) == NAMES
    assert list(pipeline.get_feature_names_out()) == NAMES
    plain = fitted(detector, table).transform(scaled(table)[:7])
    assert_allclose(maps.to_numpy(), plain, rtol=1e-6, atol=1e-9)


@every_class
@pytest.mark.sampled(3)
def test_pipelines_score_as_their_detector(detector, table):
    pipeline = make_pipeline(StandardScaler(), seeded(detector))
    alone = fitted(detector, table)
    assert_array_equal(pipeline.fit_predict(table), alone.predict(scaled(table)))
    for method in ("score_samples", "decision_function", "predict", "transform"):
        assert_array_equal(
            getattr(pipeline, method)(table), getattr(alone, method)(scaled(table))
        )


@every_class
@pytest.mark.sampled(3)
def test_frozen_detectors_stay_as_they_are(detector, table):
    alone, table = fitted(detector, table), scaled(table)
    frozen = clone(FrozenEstimator(alone)).fit(table[:5], None)
    pipeline = Pipeline([("detect", frozen)]).fit(table[:9])
    for method in ("score_samples", "decision_function", "predict", "transform"):
        expected = getattr(alone, method)(table)
        assert_array_equal(getattr(frozen, method)(table), expected)
        assert_array_equal(getattr(pipeline, method)(table), expected)


# ----------------------------------------------------------------------------- searches


@pytest.fixture(scope="module")
def small_cluster():
    """A large and a small cluster of normal rows; anomalies surround the small one."""
    rng = np.random.default_rng(0)
    normal = np.concatenate(
        [rng.normal(size=(150, 2)), 12 + 0.3 * rng.normal(size=(15, 2))]
    )
    angle = rng.uniform(0, 2 * np.pi, size=20)
    anomalies = 12 + 3 * np.column_stack([np.cos(angle), np.sin(angle)])
    return np.concatenate([normal, anomalies]), np.repeat([1, -1], [165, 20])


def test_search_with_labels_finds_the_planted_setting(small_cluster):
    X, y = small_cluster
    search = GridSearchCV(
        make_pipeline(StandardScaler(), skad.KNN()),
        {"knn__n_neighbors": [1, 3, 60]},
        scoring="roc_auc",
        cv=NoveltyKFold(5, shuffle=True, random_state=0),
    ).fit(X, y)
    # sixty neighbours reach beyond the small cluster
    scores = search.cv_results_["mean_test_score"]
    assert search.best_params_["knn__n_neighbors"] in (1, 3)
    assert search.best_score_ > 0.99
    assert scores[2] < 0.97


def test_search_scores_are_the_roc_auc_of_the_folds(small_cluster):
    X, y = small_cluster
    folds = NoveltyKFold(3)
    scores = cross_val_score(Mahalanobis(), X, y, cv=folds, scoring="roc_auc")
    for score, (train, test) in zip(scores, folds.split(X, y), strict=True):
        detector = Mahalanobis().fit(X[train])
        assert score == roc_auc_score(y[test], detector.score_samples(X[test]))


SEARCHED = [one for one in quick(default_instances()) if type(one).__name__ in VARIANTS]


@pytest.mark.sampled(4)
@pytest.mark.parametrize("detector", SEARCHED, ids=identify)
def test_each_candidate_of_a_search_takes_effect(detector, table):
    detector = seeded(detector)
    settings = [
        setting
        for setting in VARIANTS[type(detector).__name__]
        if "precomputed" not in setting.values()  # a box is not made of kernels
    ]
    grid = [{name: [value] for name, value in row.items()} for row in settings]
    folds, scoring = KFold(2), ExcessMass(n_points=1000)
    search = GridSearchCV(
        detector, grid, scoring=scoring, cv=folds, refit=False, error_score="raise"
    )
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Only .* of n_points", UserWarning)
        results = search.fit(table).cv_results_
        for k, setting in enumerate(settings):
            for fold, (train, test) in enumerate(folds.split(table)):
                alone = clone(detector).set_params(**setting).fit(table[train])
                assert results[f"split{fold}_test_score"][k] == pytest.approx(
                    scoring(alone, table[test])
                )


@pytest.mark.parametrize(
    ("name", "grid"),
    [
        ("KNN", {"n_neighbors": [1, 30]}),
        ("KDE", {"bandwidth": [0.1, 3.0]}),
        ("GMM", {"n_components": [1, 5]}),
        ("LOF", {"n_neighbors": [2, 40]}),
    ],
)
def test_set_params_changes_scores(name, grid, table):
    X = StandardScaler().fit_transform(table)
    detector = seeded(getattr(skad, name)())
    (parameter, (low, high)) = next(iter(grid.items()))
    scores = [
        clone(detector).set_params(**{parameter: value}).fit(X).score_samples(X)
        for value in (low, high)
    ]
    assert not np.allclose(*scores)
    search = GridSearchCV(detector, grid, scoring=excess_mass, cv=2).fit(X)
    assert len(set(search.cv_results_["mean_test_score"])) == 2


@pytest.fixture
def one_thread():
    """Give torch one thread, as joblib gives each of two workers on two cores.

    With another number of threads the sums of a training round otherwise.
    """
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.sampled(8)
@every_class
def test_two_workers_score_as_one(detector, table, one_thread):
    X = StandardScaler().fit_transform(table)
    kept = {"cv": 2, "method": "decision_function"}
    serial = cross_val_predict(seeded(detector), X, **kept)
    parallel = cross_val_predict(seeded(detector), X, **kept, n_jobs=2)
    assert_allclose(parallel, serial, rtol=1e-10, atol=1e-12)


# ------------------------------------------------------------------- processes, threads


def run_fresh(code, **environment):
    """Run `code` in a new interpreter with default threads; return what it prints."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if name not in ("SCIPY_ARRAY_API", "OMP_NUM_THREADS", "MKL_NUM_THREADS")
    }
    kept |= {"PYTHONPATH": os.pathsep.join(sys.path), **environment}
    code = textwrap.dedent(code)
    options = ["-W", "error::RuntimeWarning", "-c", code]
    return run_python(*options, env=kept).stdout


# scikit-learn itself imports pandas and rich where they are installed.
HEAVY = ["matplotlib", "numba", "polars", "pynndescent", "torch"]


def test_importing_imports_nothing_heavy():
    code = f"""
        import sys
        import skad
        assert not {{"pandas", "rich", *{HEAVY}}} & set(sys.modules)
        skad.KNN, skad.density.Mahalanobis, skad.model_selection.NoveltyKFold
        print(sorted(set({HEAVY}) & set(sys.modules)))
    """
    assert run_fresh(code).strip() == "[]"


def test_numpy_in_needs_nothing_heavy():
    # what is trained by gradients needs torch; nothing else does
    names = [
        name
        for name, detector in skad.all_detectors()
        if not any(base.__name__ == "TorchDetector" for base in detector.__mro__)
        # pictures are described by torch; classifiers have tests of their own
        and detector.__module__.split(".")[1] not in ("image", "ood")
    ]
    assert len(names) >= 15
    own = {name: CHEAP[name] for name in names if name in CHEAP}
    code = f"""
        import sys
        import numpy as np
        import skad
        class Names(dict):
            def __missing__(self, name):
                return getattr(skad, name)
        own = eval({repr(own)!r}, {{}}, Names())  # with the detectors in it
        X = np.random.default_rng(0).normal(size=(80, 5))
        for name in {names}:
            detector = getattr(skad, name)(**own.get(name, {{}})).fit(X)
            detector.predict(X)
            detector.transform(X)
            found = set({HEAVY}) & set(sys.modules)
            assert not found, (name, found)
            print(name)
    """
    assert run_fresh(code).split() == names


# What a worker of a search has running: torch's threads, and those of the process.
THREADS_CODE = """
    import os
    import numpy as np
    import skad
    from sklearn.model_selection import GridSearchCV
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import FunctionTransformer

    def as_tensor(X):
        import torch
        return torch.as_tensor(np.asarray(X))

    def compute_threads(estimator, X, y=None):
        import threadpoolctl
        import torch
        scores = estimator.decision_function(X)
        assert np.isfinite(np.asarray(scores)).all()
        pools = [pool["num_threads"] for pool in threadpoolctl.threadpool_info()]
        return max(torch.get_num_threads(), *pools)

    X = np.random.default_rng(0).normal(size=(400, 8))
"""


def test_workers_share_the_cores():
    # the workers of a search, then those with workers inside, in one pool of processes
    code = (
        THREADS_CODE
        + """
    import torch
    from sklearn.model_selection import cross_val_score
    # torch has worked in the parent too before the workers start
    torch.randn(500, 500) @ torch.randn(500, 500)
    shared = {"scoring": compute_threads, "cv": 2, "n_jobs": 2, "error_score": "raise"}
    most = 0
    for detector, grid in [
        (skad.KNN(), {"knn__n_neighbors": [2, 4]}),
        (skad.Mahalanobis(), {"mahalanobis__tol": [1e-12, 1e-6]}),
    ]:
        detector.fit(as_tensor(X)).score_samples(as_tensor(X))
        search = GridSearchCV(
            make_pipeline(FunctionTransformer(as_tensor), detector), grid, **shared
        ).fit(X)
        most = max(most, search.cv_results_["mean_test_score"].max())
    bagging = skad.FeatureBagging(n_jobs=2)
    bagging = make_pipeline(FunctionTransformer(as_tensor), bagging)
    bagging.fit(X).predict(X)
    nested = cross_val_score(bagging, X, **shared).max()
    print(int(most), int(nested), os.cpu_count())
    """
    )
    most, nested, cores = map(int, run_fresh(code).split())
    assert most <= max(1, cores // 2)
    assert nested <= max(1, cores // 2)


def test_threads_search_as_one(table):
    import joblib

    X = StandardScaler().fit_transform(table)
    torch = pytest.importorskip("torch")
    pipeline = make_pipeline(FunctionTransformer(torch.from_numpy), skad.KNN())
    grid = {"knn__n_neighbors": [1, 2, 5]}
    serial = GridSearchCV(pipeline, grid, scoring=excess_mass, cv=3).fit(X)
    with joblib.parallel_config("threading"):
        threads = GridSearchCV(pipeline, grid, scoring=excess_mass, cv=3, n_jobs=2)
        threads.fit(X)
    assert_array_equal(
        threads.cv_results_["mean_test_score"], serial.cv_results_["mean_test_score"]
    )


# ------------------------------------------------------------------------- global state


def global_state():
    """Return everything that a library must leave alone."""
    import threadpoolctl
    import torch

    return {
        "random": random.getstate(),
        "numpy": repr(np.random.get_state(legacy=False)),  # noqa: NPY002
        "numpy errors": np.geterr(),
        "torch": torch.get_rng_state().tolist(),
        "torch threads": torch.get_num_threads(),
        "torch dtype": torch.get_default_dtype(),
        "torch grad": torch.is_grad_enabled(),
        "torch deterministic": torch.are_deterministic_algorithms_enabled(),
        "threads": sorted(
            (pool["filepath"], pool["num_threads"])
            for pool in threadpoolctl.threadpool_info()
        ),
        "warnings": list(warnings.filters),
        "environment": dict(os.environ),
        "scikit-learn": sklearn.get_config(),
        "directory": os.getcwd(),
    }


@every_class
@pytest.mark.parametrize("library", ["numpy", "torch"])
@pytest.mark.sampled(3)
def test_global_state_is_left_alone(detector, library, table):
    torch = pytest.importorskip("torch")
    X = StandardScaler().fit_transform(table)
    X = torch.from_numpy(X) if library == "torch" else X
    detector = seeded(detector)  # without a seed NumPy's global one is asked for
    before = global_state()
    fitted = detector.fit(X)
    fitted.score_samples(X)
    fitted.predict(X)
    fitted.transform(X)
    after = global_state()
    for name, value in before.items():
        assert after[name] == value, name


# ---------------------------------------------------------------------------- callbacks


class Record:
    """A callback that keeps what happened, and may ask to stop or raise."""

    max_propagation_depth = None  # also for the estimators inside

    def __init__(self, stop=False, fail_at=None):
        self.stop = stop
        self.fail_at = fail_at
        self.events = []

    def _note(self, event, context):
        self.events.append((event, context))
        if len(self.events) - 1 == self.fail_at:
            raise RuntimeError("the callback failed")

    def setup(self, estimator, context):
        self._note("setup", context)

    def teardown(self, estimator, context):
        self.events.append(("teardown", context))

    def on_fit_task_begin(self, estimator, context):
        self._note("begin", context)

    def on_fit_task_end(self, estimator, context):
        self._note("end", context)
        return self.stop

    def contexts(self, event):
        return [context for name, context in self.events if name == event]


needs_callbacks = pytest.mark.skipif(
    not hasattr(BaseDetector, "set_callbacks"),
    reason="scikit-learn has callbacks since 1.9",
)


def check_task_tree(record):
    """Check that all tasks ended inside their parent and hang on one root."""
    begun, ended = record.contexts("begin"), record.contexts("end")
    assert len(begun) == len(ended) == len({id(context) for context in begun})
    assert {id(context) for context in begun} == {id(context) for context in ended}
    place = {(name, id(c)): i for i, (name, c) in enumerate(record.events)}
    assert record.events[0][0] == "setup"
    assert record.events[-1][0] == "teardown"
    assert [name for name, _ in record.events].count("teardown") == 1
    root = begun[0]
    assert root.parent is None
    for context in begun:
        assert context.root_uuid == root.root_uuid
        if context is not root:
            above = context.parent
            assert context in above._children_map.values()
            assert place["begin", id(above)] < place["begin", id(context)]
            assert place["end", id(context)] < place["end", id(above)]
        children = list(context._children_map)
        if context.sequential_subtasks:
            assert children == list(range(len(children)))
        if context.max_subtasks is not None:
            assert len(children) <= context.max_subtasks
    return root


def leftovers(estimator):
    return {name for name in vars(estimator) if name[0] == "_" and "callback" in name}


@needs_callbacks
@every_class
@pytest.mark.sampled(3)
def test_callbacks_see_the_tasks_of_every_detector(detector, table):
    X = StandardScaler().fit_transform(table)
    record = Record()
    watched = seeded(detector).set_callbacks(record)
    watched.fit(X)
    root = check_task_tree(record)
    assert root.task_name == "fit"
    assert root.estimator_name == type(detector).__name__
    # there is something to wait for: a phase with its steps
    phases = list(root._children_map.values())
    assert phases
    assert all(phase._children_map for phase in phases)
    assert leftovers(watched) == {"_skl_callbacks"}
    assert leftovers(watched.set_callbacks()) == set()
    # watching changes nothing
    alone = fitted(detector, table)
    assert set(vars(alone)) == set(vars(watched))
    assert_array_equal(watched.score_samples(X), alone.score_samples(X))
    assert watched.offset_ == alone.offset_


@needs_callbacks
@every_class
@pytest.mark.sampled(3)
def test_a_wish_to_stop_gives_a_detector_that_works(detector, table):
    X = StandardScaler().fit_transform(table)
    record = Record(stop=True)
    stopped = seeded(detector).set_callbacks(record).fit(X)
    check_task_tree(record)
    scores = stopped.score_samples(X)
    assert np.isfinite(scores).all()
    assert np.isfinite(stopped.offset_)
    # the threshold belongs to the scores, also where training was cut short
    assert 0 < (stopped.predict(X) == -1).mean() < 0.6


@needs_callbacks
@every_class
@pytest.mark.sampled(3)
def test_a_failing_callback_leaves_the_detector_as_it_was(detector, table):
    X = StandardScaler().fit_transform(table)
    record = Record()
    seeded(detector).set_callbacks(record).fit(X)
    n_events = len(record.events) - 1  # all but the teardown
    gc.freeze()  # as for the whole run: what is made here alone is looked at
    for fail_at in sorted({0, 2, n_events // 2, n_events - 1}):
        failing = Record(fail_at=fail_at)
        watched = seeded(detector).set_callbacks(failing)
        with pytest.raises(RuntimeError, match="the callback failed"):
            watched.fit(X)
        n_seen = len(failing.events)
        gc.collect()  # half-done loops are closed, and stay quiet
        assert len(failing.events) == n_seen == fail_at + 2
        assert failing.events[-1][0] == "teardown"
        assert leftovers(watched) == {"_skl_callbacks"}
        assert not [name for name in vars(watched) if name.endswith("_")]
    watched.set_callbacks().fit(X)


@needs_callbacks
@every_class
@pytest.mark.sampled(3)
def test_progress_bars_on_every_detector(detector, table, capsys):
    pytest.importorskip("rich")
    from sklearn.callback import ProgressBar

    X = StandardScaler().fit_transform(table)
    watched = seeded(detector).set_callbacks(ProgressBar()).fit(X)
    shown = capsys.readouterr().out
    assert f"{type(detector).__name__} - fit" in shown
    assert "100%" in shown
    assert watched.predict(X).shape == (120,)


@needs_callbacks
@pytest.mark.parametrize("jobs", [None, 2])
def test_progress_bars_in_a_search(jobs, table, capsys):
    pytest.importorskip("rich")
    from sklearn.callback import ProgressBar

    X = StandardScaler().fit_transform(table)
    search = GridSearchCV(
        Mahalanobis(), {"tol": [1e-12, 1e-6]}, scoring=excess_mass, cv=2, n_jobs=jobs
    )
    search.set_callbacks(ProgressBar(max_propagation_depth=None)).fit(X)
    shown = capsys.readouterr().out
    assert "GridSearchCV - refit-with-best-params | Mahalanobis - fit" in shown
    assert leftovers(search.best_estimator_) == set()


@needs_callbacks
def test_callbacks_reach_detectors_inside(table):
    X = StandardScaler().fit_transform(table)
    record = Record()
    search = GridSearchCV(
        make_pipeline(StandardScaler(), Mahalanobis()),
        {"mahalanobis__tol": [1e-12, 1e-6]},
        scoring=excess_mass,
        cv=2,
    ).set_callbacks(record)
    search.fit(X)
    root = check_task_tree(record)
    assert root.estimator_name == "GridSearchCV"
    fits = [
        context
        for context in record.contexts("begin")
        if (context.estimator_name, context.task_name) == ("Mahalanobis", "fit")
    ]
    assert len(fits) == 2 * 2 + 1
    for context in fits:
        assert context.source_estimator_name == "Pipeline"
        assert context.parent.source_estimator_name == "GridSearchCV"
        assert context._children_map
    for estimator in (search.best_estimator_, search.best_estimator_[-1]):
        assert leftovers(estimator) == set()


@needs_callbacks
def test_callbacks_reach_members_in_threads(table):
    record = Record()
    bagging = skad.FeatureBagging(Mahalanobis(), n_estimators=5, n_jobs=2)
    bagging.set_callbacks(record).fit(table)
    root = check_task_tree(record)
    fits = [
        context
        for context in record.contexts("begin")
        if context.source_estimator_name == "FeatureBagging"
    ]
    assert len(fits) == 5
    assert all(context.estimator_name == "Mahalanobis" for context in fits)
    assert {context.parent.parent for context in fits} == {root}
    assert all(leftovers(member) == set() for member in bagging.estimators_)


@needs_callbacks
def test_scores_of_the_fitted_detector_are_monitored(small_cluster):
    from sklearn.callback import ScoringMonitor

    X, y = small_cluster
    monitor = ScoringMonitor(scoring="roc_auc")
    detector = Mahalanobis().set_callbacks(monitor).fit(X, y)
    (row,) = monitor.get_logs().data
    assert row["roc_auc"] == roc_auc_score(y, detector.score_samples(X))
    assert row["estimator_name"] == "Mahalanobis"


class Stepper(BaseDetector):
    """Twenty steps, of which a loop may leave some out."""

    _parameter_constraints = {
        "leave_at": "no_validation",
        "fail_at": "no_validation",
        "may_stop": ["boolean"],
    }
    contamination = 0.1

    def __init__(self, leave_at=None, fail_at=None, may_stop=False):
        self.leave_at = leave_at
        self.fail_at = fail_at
        self.may_stop = may_stop

    def _fit(self, X, y):
        self.n_steps_ = 0
        steps = self._steps(range(20), "outer", 20, may_stop=self.may_stop)
        if self.fail_at is not None:
            self.kept = steps  # as a traceback keeps what its frames hold
        for step in steps:
            self.n_steps_ += 1
            for _ in self._steps(iter("ab"), "inner", None):
                pass
            if step == self.leave_at:
                break
            if step == self.fail_at:
                raise ArithmeticError("the method failed")

    def _map(self, X):
        return X**2


@needs_callbacks
@pytest.mark.parametrize(
    ("stop", "settings", "n_steps"),
    [
        (False, {}, 20),
        (True, {}, 20),
        (True, {"may_stop": True}, 1),
        (False, {"may_stop": True}, 20),
        (False, {"leave_at": 4}, 5),
        (True, {"leave_at": 19}, 20),
    ],
)
def test_loops_may_end_early_and_stay_balanced(stop, settings, n_steps, table):
    record = Record(stop=stop)
    detector = Stepper(**settings).set_callbacks(record).fit(table)
    root = check_task_tree(record)
    assert detector.n_steps_ == n_steps
    phases = list(root._children_map.values())
    assert [phase.task_name for phase in phases] == [
        "outer",
        *["inner"] * n_steps,
        "score",
    ]
    assert len(phases[0]._children_map) == n_steps
    assert Stepper(leave_at=4).fit(table).n_steps_ == 5


@needs_callbacks
def test_a_failing_method_ends_no_task_after_the_teardown(table):
    record = Record()
    detector = Stepper(fail_at=2).set_callbacks(record)
    with pytest.raises(ArithmeticError):
        detector.fit(table)
    del detector.kept  # the loop that was left by the error is closed only now
    assert [name for name, _ in record.events[-3:]] == ["end", "end", "teardown"]
    assert record.events[-2][1].task_name == "inner"
    assert leftovers(detector) == {"_skl_callbacks"}


def test_steps_without_callbacks_pass_items_through(table):
    detector = Stepper().fit(table)
    assert list(detector._steps(iter("abc"), "name", 3)) == ["a", "b", "c"]


def test_plain_rows_are_not_checked_at_length(monkeypatch):
    X = np.random.default_rng(0).normal(size=(50, 3))
    detector = Mahalanobis().fit(X)
    expected = detector.score_samples(X.tolist())
    whole = skad._validation.validate_data
    asked = []
    monkeypatch.setattr(
        skad._validation,
        "validate_data",
        lambda *args, **kwargs: asked.append(1) or whole(*args, **kwargs),
    )
    assert_array_equal(detector.score_samples(X), expected)
    assert not asked
    for bad, message in (
        (np.full((1, 3), np.nan), "NaN"),
        (np.full((1, 3), np.inf), "infinity"),
        (np.full((1, 3), 1e200), "too large"),
        (X[:, :2], "2 features"),
        (X[:0], "0 sample"),
        (X[0], "1D array"),
    ):
        with pytest.raises(ValueError, match=message):
            detector.score_samples(bad)
