"""A scaler for each group of rows, such as machines whose units differ."""

from typing import Any

import numpy as np
from sklearn.base import clone
from sklearn.preprocessing import StandardScaler

from skad._parameters import with_parameters
from skad._sklearn import HasMethods, StrOptions
from skad.series._group_transformer import GroupTransformer


@with_parameters(kw_only=False)
class GroupScaler(GroupTransformer):
    """Rows that each group brings to its own scale.

    Machines do the same at different sizes: one draws ten amperes and one a thousand.
    Each group of rows gets a scaler of its own, fitted to its training rows alone, so
    that a detector behind it learns one normality from all of them.

    Read more in the :ref:`User Guide <series>`.

    Parameters
    ----------
    scaler : transformer, default=None
        What is cloned for each group and keeps the number of columns. None is
        ``StandardScaler()``.
    unknown : {"raise", "pooled"}, default="raise"
        What becomes of rows of a group that `fit` has not seen. "raise" is an error
        that names it, "pooled" takes a scaler of all training rows.

    Attributes
    ----------
    scalers_ : dict
        The scaler of each group, by label.
    pooled_ : transformer
        The scaler of all training rows.

    See Also
    --------
    skad.calibration.QuantileThreshold : With ``per_group=True``, a threshold for each.

    Notes
    -----
    `groups` go with the rows: ``fit(X, groups=groups)``. Pipelines pass them on where
    metadata routing is enabled. Missing values (NaN) are left to the scaler.

    Examples
    --------
    >>> import numpy as np
    >>> from skad.series import GroupScaler
    >>> X = [[1.0], [3.0], [1000.0], [3000.0]]
    >>> machines = ["small", "small", "large", "large"]
    >>> GroupScaler().fit(X, groups=machines).transform(X, groups=machines).ravel()
    array([-1.,  1., -1.,  1.])
    """

    scaler: Any = None
    unknown: str = "raise"

    _parameter_constraints = {
        "scaler": [HasMethods(["fit", "transform"]), None],
        "unknown": [StrOptions({"raise", "pooled"})],
    }

    def _fitted(self, x):
        scaler = StandardScaler() if self.scaler is None else clone(self.scaler)
        if hasattr(scaler, "set_output"):
            scaler.set_output(transform="default")
        return scaler.fit(x)

    def _begin(self, X, parts):
        self.scalers_ = {}
        self.pooled_ = self._fitted(X)

    def _fit_group(self, label, x):
        self.scalers_[label] = self._fitted(x)

    def _transform_group(self, label, x):
        return _scaled(self.scalers_[label], x)

    def _unknown(self, label, x):
        if self.unknown == "pooled":
            return _scaled(self.pooled_, x)
        return super()._unknown(label, x)


def _scaled(scaler, x):
    """Return rows (t, c) as a scaler brings them to scale, of the same shape."""
    scaled = np.asarray(scaler.transform(x))
    if scaled.shape != x.shape:
        raise ValueError(
            f"scaler={type(scaler).__name__} makes {scaled.shape[1:]} columns of "
            f"{x.shape[1]}: it has to keep them."
        )
    return scaled
