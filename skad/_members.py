"""Detectors that are held by another one: copies with seeds, scores, maps."""

from contextlib import nullcontext
from itertools import repeat

import joblib
import numpy as np
from sklearn import config_context
from sklearn.base import clone
from sklearn.frozen import FrozenEstimator
from sklearn.pipeline import Pipeline
from sklearn.utils.metadata_routing import process_routing
from sklearn.utils.parallel import Parallel, delayed
from threadpoolctl import threadpool_limits

from skad._array import is_torch, like
from skad._sparse import rows_to_learn
from skad.base import BaseDetector

# How detectors come by honest anomalies of every training row.
_OF_EVERY_ROW = ("leave one out", "out of bag", "its members'")

# Weights of an ordinary network for each feature, in an epoch.
_OF_NETWORKS = 500


def seeded_clone(detector, random, unset_only=False):
    """Return an unfitted copy with every `random_state`, nested ones too, drawn.

    With `unset_only`, those that are not None stay as they are.
    """
    detector = clone(detector)
    names = [
        name
        for name, value in sorted(detector.get_params().items())
        if name.split("__")[-1] == "random_state" and (value is None or not unset_only)
    ]
    if isinstance(detector, BaseDetector):
        detector._is_copy = True
    return detector.set_params(**{name: random.randint(2**31 - 1) for name in names})


def anomaly_of(member, X):
    """Return the anomaly (n,) of rows that need no second validation."""
    if isinstance(member, BaseDetector):
        return member._in_blocks(member._anomaly, X)
    return -member.score_samples(X)


def map_of(member, X):
    """Return the map (n, d) of rows that need no second validation."""
    if isinstance(member, BaseDetector):
        return member._in_blocks(member._map, X, dtype=X.dtype)
    return member.transform(X)


def both_of(member, X):
    """Return the anomaly (n,) and the map (n, d) of such rows, from one pass."""
    if isinstance(member, BaseDetector):
        return member._in_blocks(member._inspect, X, dtype=X.dtype)
    return anomaly_of(member, X), map_of(member, X)


def scores_of(member, X, **params):
    """Return the scores of rows that a member checks itself, float64 where `X` is.

    A pipeline, which scores without parameters, passes them on as in `predict`.
    """
    while isinstance(member, FrozenEstimator):
        member = member.estimator
    while params and isinstance(member, Pipeline):
        *steps, (last, final) = member.steps
        routed = process_routing(member, "predict", **params)
        for name, step in steps:
            if step not in (None, "passthrough"):
                X = step.transform(X, **routed[name].transform)
        member, params = final, routed[last].predict
    scores = member.score_samples(X, **params)
    if is_torch(X):
        scores = like(scores, X, dtype="keep")
    return scores if is_torch(scores) else np.asarray(scores, dtype=np.float64)


def maps_of(member, X, **params):
    """Return the maps of rows that a member checks itself, never as a frame."""
    with config_context(transform_output="default"):
        maps = member.transform(X, **params)
    return maps if is_torch(maps) else np.asarray(maps)


def inspect_of(member, X, **params):
    """Return scores and maps of rows that a member checks itself, from one pass.

    They are those of `scores_of` and `maps_of`.
    """
    if not hasattr(member, "inspect"):
        return scores_of(member, X, **params), maps_of(member, X, **params)
    scores, *_, maps = member.inspect(X, **params)
    if is_torch(X):
        scores = like(scores, X, dtype="keep")
    return scores, maps


def without_threshold(member):
    """Return an unfitted member whose threshold nobody asks for, set at no cost.

    That of ``contamination="auto"`` may need another fit.
    """
    if isinstance(member, BaseDetector) and "contamination" in member.get_params(False):
        member.set_params(contamination=0.5)
    return member


def honest_anomalies(members, tables, y, seen=None):
    """Return the honest anomalies, m times (n,), of fitted members' training rows.

    None where they are not to be had for every row in its order: from detectors without
    them, and from those that hold rows out.

    Parameters
    ----------
    members : list of detectors
        Are fitted.
    tables : iterable
        What each was fitted to.
    y : array of shape (n,) or None
        Labels, for all of them.
    seen : list of arrays of shape (n,) or None
        The members' anomalies of their training rows, where they are known.
    """
    if any(getattr(one, "_honesty", None) not in _OF_EVERY_ROW for one in members):
        return None
    found = []
    seen = [None] * len(members) if seen is None else seen
    for member, X, anomaly in zip(members, tables, seen, strict=True):
        X = rows_to_learn(member, member._validate(X, reset=False))
        honest = member._honest_anomaly(X, y, anomaly)
        if len(honest) != (X.shape[0] if hasattr(X, "shape") else len(X)):
            return None
        found.append(honest)
    return found


def take_over_features(holder, member):
    """Let a detector know of its features what a fitted member knows."""
    for name in ("n_features_in_", "feature_names_in_", "image_shape_"):
        if hasattr(member, name):
            setattr(holder, name, getattr(member, name))


def fit_within(context, caller, member, X, y, **params):
    """Fit a member as a task that the caller's callbacks see; None without any."""
    if context is None:
        return member.fit(X, y, **params)
    with context.propagate_callback_context(member):
        context.call_on_fit_task_begin(estimator=caller, X=X, y=y)
        member.fit(X, y, **params)
    context.call_on_fit_task_end(estimator=caller, X=X, y=y)
    return member


def costliest_first(members, X):
    """Return the order in which several at a time are done soonest.

    A costly one that begins last is waited for. Costs are what detectors think that
    `fit` takes; one that does not say, or `X` without a shape, is put first.
    """
    return np.argsort([-_work(member, X) for member in members], kind="stable")


def _work(member, X):
    """Return roughly how many multiplications the fit of a member takes."""
    if len(getattr(X, "shape", ())) != 2 or not isinstance(member, BaseDetector):
        return np.inf
    work = float(member._fit_work(X))
    for name in ("n_estimators", "max_epochs", "n_init"):
        work *= getattr(member, name, 1)
    return work * (_OF_NETWORKS if hasattr(member, "max_epochs") else 1)


def fit_members(caller, members, tables, y, n_jobs, anomaly_of=anomaly_of, labels=None):
    """Fit members on a table each, `n_jobs` of them at a time.

    Parameters
    ----------
    caller : detector
        Who holds the members, and whose callbacks see each of them.
    members : list of detectors
        Are fitted as they are, not cloned.
    tables : iterable
        One `X` per member, asked for one by one.
    y : array of shape (n,) or None
        Labels, for all of them.
    n_jobs : int or None
        As in joblib; threads unless a joblib context says otherwise.
    anomaly_of : callable
        Returns the anomaly of a fitted member's rows.
    labels : iterable or None
        One `y` per member instead of the same for all.

    Yields
    ------
    member, anomaly : detector, array of shape (n,)
        The fitted members in their order, and the anomaly of their training rows.
    """
    n_jobs = min(joblib.effective_n_jobs(n_jobs), len(members))
    n_threads = None if n_jobs == 1 else max(1, joblib.cpu_count() // n_jobs)
    phase, contexts = _member_contexts(caller, len(members))
    labels = repeat(y, len(members)) if labels is None else labels
    yield from Parallel(n_jobs=n_jobs, prefer="threads", return_as="generator")(
        delayed(_fit_member)(member, X, own, anomaly_of, n_threads, context, caller)
        for member, X, own, context in zip(
            members, tables, labels, contexts, strict=True
        )
    )
    if phase is not None:
        phase.call_on_fit_task_end(estimator=caller)


def _member_contexts(caller, n_members):
    """Return the callback task of the members and one below it for each member."""
    root = getattr(caller, "_callback_fit_ctx", None)
    if root is None:
        return None, [None] * n_members
    phase = root.subcontext(
        task_name="fit members",
        max_subtasks=n_members,
        sequential_subtasks=False,
    )
    phase.call_on_fit_task_begin(estimator=caller)
    return phase, [
        phase.subcontext(task_name="fit member", task_id=t) for t in range(n_members)
    ]


def _fit_member(member, X, y, anomaly_of, n_threads, context, caller):
    """Return a fitted member and the anomaly of its training rows.

    `n_threads` is what each of several members at a time may use, or None. `context`
    is the callback task of this member, or None.
    """
    # outer parameters are checked by now, the member's are not; a frame is no map
    checked = config_context(skip_parameter_validation=False)
    limited = nullcontext()
    if n_threads is not None:
        # each thread has an OpenMP pool of its own, and so has torch in it
        limited = threadpool_limits(n_threads, user_api="openmp")
    with checked, limited:
        if hasattr(member, "set_output"):
            member.set_output(transform="default")
        fit_within(context, caller, member, X, y)
        return member, anomaly_of(member, X)
