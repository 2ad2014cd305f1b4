"""The base of detectors that hold detectors of different kinds by name."""

from typing import Any, Self

from joblib import effective_n_jobs
from sklearn.utils import Bunch, get_tags
from sklearn.utils.validation import check_is_fitted

from skad._answers import Inspection
from skad._dask import by_block, is_dask
from skad._members import (
    costliest_first,
    fit_members,
    scores_of,
    seeded_clone,
    take_over_features,
)
from skad._sklearn import _BaseComposition
from skad.base import BaseDetector


def is_dropped(detector):
    """Tell whether a detector was left out by ``set_params(name="drop")``."""
    return isinstance(detector, str) and detector == "drop"


def scored(member, X):
    """Return the anomaly (n,) of rows that the member checks itself."""
    return -scores_of(member, X)


class NamesDetectors(_BaseComposition):
    """Gives the detectors in the list `detectors` parameters by their names."""

    def get_params(self, deep=True) -> dict[str, Any]:
        """Return the parameters, those of the detectors as ``name__parameter``.

        Parameters
        ----------
        deep : bool, default=True
            Whether to return the detectors by name, and their parameters.

        Returns
        -------
        params : dict
            Parameters by name.
        """
        return self._get_params("detectors", deep=deep)

    def set_params(self, **params) -> Self:
        """Set parameters, those of the detectors as ``name__parameter``.

        Parameters
        ----------
        **params : dict
            Parameters by name; a detector's own name replaces the detector, in
            ensembles "drop" leaves it out.

        Returns
        -------
        self : object
            The estimator.
        """
        self._set_params("detectors", **params)
        return self


class PassesOn(BaseDetector):
    """Base of detectors whose members get `X` as it is and check it themselves.

    So tables, frames, tensors, pictures and series go through unchanged. A class writes
    `_anomaly` and `_map` for all rows at once.
    """

    def _validate(self, X, *, reset):
        return X  # the members check it

    def _in_blocks(self, function, X, **options):
        return function(X)  # the members have blocks of their own

    def inspect(self, X) -> Inspection:
        """Return scores, decision, labels and maps from one pass over the samples.

        Parameters
        ----------
        X : array-like, tensor, pictures or series
            The samples.

        Returns
        -------
        inspection : Inspection
            A named tuple `(scores, decision, labels, maps)` of what `score_samples`,
            `decision_function`, `predict` and `transform` return.
        """
        check_is_fitted(self)
        return self._inspection(*self._inspect(self._validate(X, reset=False)))

    def transform(self, X) -> Any:
        """Return the anomaly map: how anomalous each element of each sample is.

        Parameters
        ----------
        X : array-like, tensor, pictures or series
            The samples.

        Returns
        -------
        maps : ndarray, tensor or frame
            Higher is more anomalous, in the shape of the members' maps.
        """
        check_is_fitted(self)
        if is_dask(X):
            return by_block(self, "transform", X)
        return self._map(self._validate(X, reset=False))


class NamedMembers(NamesDetectors, PassesOn):
    """Base of ensembles whose parameter `detectors` is a list of (name, detector).

    A class writes `_fit`, which calls `_fit_members`, as well as `_anomaly` and `_map`.
    """

    def _default_detectors(self):
        """Return what ``detectors=None`` stands for."""
        from skad.ensemble._isolation_forest import IsolationForest
        from skad.marginal import ECOD
        from skad.neighbors import KNN

        kinds = {"knn": KNN, "isolation_forest": IsolationForest, "ecod": ECOD}
        return [(name, kind()) for name, kind in kinds.items()]

    # -------------------------------------------------------------------- parameters

    @property
    def named_detectors_(self):
        """The fitted members by name."""
        check_is_fitted(self)
        names = [name for name, _ in self._kept()]
        return Bunch(**dict(zip(names, self.detectors_, strict=True)))

    def _all(self):
        """Return all names and detectors."""
        return self._default_detectors() if self.detectors is None else self.detectors

    def _kept(self):
        """Return the names and detectors that are not dropped."""
        return [pair for pair in self._all() if not is_dropped(pair[1])]

    def _check_parameters(self, X):
        for pair in self._all():
            named = isinstance(pair, tuple) and len(pair) == 2
            if not named or not isinstance(pair[0], str):
                raise ValueError(
                    f"detectors has {pair!r}, which is no pair of a name and a "
                    "detector, such as ('knn', KNN())."
                )
            if not is_dropped(pair[1]) and not is_detector(pair[1]):
                raise ValueError(
                    f"detectors has {pair[1]!r} as {pair[0]!r}, which is no detector "
                    "with scores and maps."
                )
        self._validate_names([name for name, _ in self._all()])
        if not self._kept():
            raise ValueError(f"detectors={self.detectors!r} leaves no member.")

    # ------------------------------------------------------------------------ members

    def _fit_members(self, X, y, random):
        """Keep the fitted members; return their training anomalies, m times (n,)."""
        members = [seeded_clone(member, random, True) for _, member in self._kept()]
        order = range(len(members))
        if effective_n_jobs(self.n_jobs) > 1:
            order = costliest_first(members, X)
        placed, same = [members[i] for i in order], (X for _ in members)
        fitted = fit_members(self, placed, same, y, self.n_jobs, scored)
        found = dict(zip(order, fitted, strict=True))
        self.detectors_ = [found[i][0] for i in range(len(members))]
        take_over_features(self, self.detectors_[0])
        return [found[i][1] for i in range(len(members))]

    def _anomalies(self, X):
        """Return the members' anomalies, m times (n,)."""
        return [scored(member, X) for member in self.detectors_]

    # ----------------------------------------------------------------------- contract

    @property
    def _looks_around(self):
        return any(getattr(one, "_looks_around", False) for one in self.detectors_)

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        members = [pair[-1] for pair in self._all() if isinstance(pair, tuple)]
        inner = [get_tags(member) for member in members if is_detector(member)]
        tags.target_tags.required = any(tag.target_tags.required for tag in inner)
        tags.input_tags.sparse = all(tag.input_tags.sparse for tag in inner)
        tags.input_tags.allow_nan = all(tag.input_tags.allow_nan for tag in inner)
        return tags


def is_detector(member):
    methods = ("fit", "score_samples", "transform")
    return not isinstance(member, type) and all(hasattr(member, m) for m in methods)
