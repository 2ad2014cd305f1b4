"""What `fit` takes besides `X` and `y`: known outliers, masks and boxes.

A family takes a mixin and gets what it checked in `_fit`. A family with several of them
writes a `fit` of its own with all their names, which passes them to `_learn`; each
mixin's `_take` checks its own.
"""

from typing import Self

import numpy as np

from skad._array import is_torch, like, namespace, to_numpy
from skad._labels import check_labels, label_column, reference_classes
from skad._picture_input import Pictures
from skad._sklearn import _fit_context
from skad._sparse import dense_rows


class OutliersMixin:
    """Gives `fit` known outliers that are no rows of `X`: they join it as y = -1.

    `_fit`, the threshold and copies for it see the joined `X` and `y`.
    """

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X, y=None, *, X_outliers=None) -> Self:
        """Learn what is normal.

        Parameters
        ----------
        X : array-like or tensor of shape (n_samples, n_features)
            Training data, at least two rows; images as for other detectors.
        y : array-like of shape (n_samples,), default=None
            Labels: 1 normal, -1 a known anomaly, 0 unlabelled.
        X_outliers : array-like or callable, default=None
            Samples like those of `X` that are known anomalies (outlier exposure), of
            shape (n_outliers, n_features); or a callable that returns them. A search
            cuts an array of exactly `n_samples` rows to its folds, a callable never.
            Steps of a Pipeline transform them where its `transform_input` names them.

        Returns
        -------
        self : object
            The fitted detector.
        """
        return self._learn(
            X, y, self._fit, forget=self._forgets(), **given(X_outliers=X_outliers)
        )

    def _take(self, X, y, params):
        X, y, params = super()._take(X, y, params)
        if "X_outliers" not in params:
            return X, y, params
        others = {k: value for k, value in params.items() if k != "X_outliers"}
        outliers = check_outliers(self, params["X_outliers"])
        return self._joined(X, y, outliers, others)

    def _joined(self, X, y, outliers, params):
        """Return what `_fit` gets of training data and checked outliers (m, d)."""
        labels = np.zeros(X.shape[0], dtype=np.int64)
        if y is not None:
            labels = check_labels(y, X.shape[0], others=True)
        labels = np.concatenate([labels, np.full(outliers.shape[0], -1)])
        if isinstance(X, Pictures):
            return X.joined(outliers), labels, params
        if isinstance(outliers, Pictures):
            outliers = outliers[:]
        return namespace(X).concat([X, like(outliers, X)]), labels, params


class ReferenceMixin(OutliersMixin):
    """Gives `fit` pictures of other classes beside those of one.

    `_fit` sees them joined to `X`, with labels -1, -2, ... for their classes.
    """

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X, y=None, *, X_outliers=None, y_outliers=None) -> Self:
        """Learn what is of the class, beside pictures of others.

        Parameters
        ----------
        X : array-like, tensor or files of shape (n_samples, height, width[, channels])
            Training pictures; also rows with `image_shape`.
        y : array-like of shape (n_samples,), default=None
            Labels: 0 or 1 for pictures of the class, and numbers below 0, each a class
            of the reference set, for its pictures. None is the class for all.
        X_outliers : array-like or callable, default=None
            Pictures of the reference set, or a callable that returns them.
        y_outliers : array-like or callable, default=None
            Their classes, labels of any kind, or a callable that returns them.

        Returns
        -------
        self : object
            The fitted detector.
        """
        params = given(X_outliers=X_outliers, y_outliers=y_outliers)
        return self._learn(X, y, self._fit, forget=self._forgets(), **params)

    def _take(self, X, y, params):
        if ("X_outliers" in params) != ("y_outliers" in params):
            raise ValueError("y_outliers are the classes of X_outliers: pass both.")
        return super()._take(X, y, params)

    def _joined(self, X, y, outliers, params):
        n, m = X.shape[0], outliers.shape[0]
        classes = params.get("y_outliers")
        classes = label_column(classes() if callable(classes) else classes, m)
        own = np.zeros(n, int) if y is None else reference_classes(y, n)
        X, _, _ = super()._joined(X, None, outliers, {})
        # behind those that y names
        codes = np.unique(classes, return_inverse=True)[1]
        return X, np.concatenate([own, min(own.min(), 0) - 1 - codes]), {}


def given(**params):
    """Return those of the parameters of `fit` that are not None."""
    return {name: value for name, value in params.items() if value is not None}


def check_outliers(detector, X_outliers):
    """Return outliers checked as samples to score are, after the `X` of a fit was."""
    if callable(X_outliers):
        X_outliers = X_outliers()
    if getattr(detector.__sklearn_tags__().input_tags, "pairwise", False):
        raise ValueError(
            "X_outliers needs the samples themselves, and X is a kernel matrix: mark "
            "its outliers by -1 in y."
        )
    try:
        return dense_rows(detector, detector._validate(X_outliers, reset=False))
    except ValueError as error:
        raise ValueError(f"X_outliers cannot be used: {error}") from error


class MasksMixin:
    """Gives `fit` masks or boxes of anomalies, which `_fit` takes as `masks`.

    They come as an array (n, h, w) of float32, 0 normal and 1 anomalous, NaN all over
    where nothing but the label is known, beside labels `y` (n,) that agree with them;
    `_fit` gets no masks where `fit` got neither. While it runs they are `_masks_`.
    """

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X, y=None, *, masks=None, boxes=None) -> Self:
        """Learn what is normal and what is not.

        Parameters
        ----------
        X : array-like, tensor or files of shape (n_samples, height, width[, channels])
            Training pictures; also rows with `image_shape`.
        y : array-like of shape (n_samples,), default=None
            Labels: 1 normal, -1 a known anomaly, 0 unlabelled. Masks label unlabelled
            pictures: those that mark a pixel as anomalous, those that mark none as
            normal.
        masks : array-like of shape (n_samples, height, width), default=None
            What is anomalous in each picture: 1 or True where it is, 0 or False where
            it is not; NaN all over where only the label is known.
        boxes : list of array-like of shape (n_boxes, 4), default=None
            Instead of masks for each picture boxes (top, left, bottom, right) in
            pixels, rows `top` to ``bottom - 1`` and columns `left` to ``right - 1``; an
            empty list where nothing is anomalous, None where only the label is known.

        Returns
        -------
        self : object
            The fitted detector.
        """
        forget = self._forgets()
        return self._learn(
            X, y, self._fit, forget=forget, **given(masks=masks, boxes=boxes)
        )

    def _take(self, X, y, params):
        X, y, params = super()._take(X, y, params)
        if not {"masks", "boxes"} & set(params):
            return X, y, params
        if {"masks", "boxes"} <= set(params):
            raise ValueError("masks and boxes say the same: pass one of them.")
        if self.image_shape_ is None:
            raise ValueError(
                "masks and boxes are of pictures, and X has rows without a shape: pass "
                "image_shape=(height, width)."
            )
        shape = X.shape[0], *self.image_shape_[:2]
        if "boxes" in params:
            masks = masks_of_boxes(params["boxes"], shape)
        else:
            masks = check_masks(params["masks"], shape)
        others = {k: v for k, v in params.items() if k not in ("masks", "boxes")}
        return X, labels_of_masks(masks, y), {**others, "masks": masks}

    def _fit(self, X, y, masks=None):
        self._masks_ = masks
        try:
            return super()._fit(X, y)
        finally:
            vars(self).pop("_masks_", None)

    def _masks_of(self, labels):
        """Return masks (n, h w) of samples with labels (n,), an array.

        They are 0 for all but known anomalies, and NaN for those without a mask.
        """
        masks = self._masks_
        if masks is None:
            shape = len(labels), *self.image_shape_[:2]
            masks = np.full(shape, np.nan, np.float32)
        known = to_numpy(labels) == -1
        return np.where(known[:, None], masks.reshape(len(masks), -1), np.float32(0))


def check_masks(masks, shape):
    """Return masks as float32 of `shape` (n, h, w), each of 0 and 1 or all NaN."""
    try:
        masks = to_numpy(masks) if is_torch(masks) else np.asarray(masks)
        masks = masks.astype(np.float32)
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"masks is no array of numbers of shape {shape}: {error}"
        ) from error
    if masks.shape != shape:
        raise ValueError(f"masks has shape {masks.shape}, the pictures have {shape}.")
    unknown = np.isnan(masks)
    wrong = np.flatnonzero(~np.all((masks == 0) | (masks == 1) | unknown, axis=(1, 2)))
    if len(wrong):
        values = masks[wrong[0]]
        value = values[(values != 0) & (values != 1) & ~np.isnan(values)][0]
        raise ValueError(
            f"masks has {value:.6g} in picture {wrong[0]}, not 0 or 1: pass masks > 0, "
            "or what else tells the anomaly."
        )
    partly = np.flatnonzero(unknown.any(axis=(1, 2)) & ~unknown.all(axis=(1, 2)))
    if len(partly):
        raise ValueError(
            f"masks has NaN in a part of picture {partly[0]}: a mask is known whole or "
            "NaN all over."
        )
    return masks


def masks_of_boxes(boxes, shape):
    """Return masks (n, h, w) that are 1 within the boxes of each picture."""
    n, height, width = shape
    if len(boxes) != n:
        raise ValueError(f"boxes has lists for {len(boxes)} pictures, X has {n}.")
    masks = np.zeros(shape, dtype=np.float32)
    for i, own in enumerate(boxes):
        if own is None:
            masks[i] = np.nan
            continue
        try:
            own = np.asarray(to_numpy(own), dtype=np.float64)
        except (TypeError, ValueError) as error:
            raise ValueError(
                f"boxes of picture {i} are no rows of four numbers: {error}"
            ) from error
        if own.size == 0:
            continue
        if own.ndim != 2 or own.shape[1] != 4:
            raise ValueError(
                f"boxes of picture {i} have shape {own.shape}, not (n_boxes, 4)."
            )
        for box in own:
            top, left, bottom, right = box
            inside = 0 <= top < bottom <= height and 0 <= left < right <= width
            if not inside or np.any(box != np.round(box)):
                raise ValueError(
                    f"boxes has {tuple(box.tolist())} in picture {i}: (top, left, "
                    "bottom, right) are whole numbers with 0 <= top < bottom <= "
                    f"{height} and 0 <= left < right <= {width}."
                )
            top, left, bottom, right = box.astype(np.int64)
            masks[i, top:bottom, left:right] = 1
    return masks


def labels_of_masks(masks, y):
    """Return labels (n,), 1, -1 and 0, that agree with the masks, or raise."""
    n = len(masks)
    labels = np.zeros(n, dtype=np.int64)
    if y is not None:
        labels = check_labels(y, n, others=True)
    shown = np.nan_to_num(masks).any(axis=(1, 2))
    empty = ~shown & ~np.isnan(masks[:, 0, 0])
    for i in np.flatnonzero(shown & (labels == 1)):
        raise ValueError(
            f"y says that picture {i} is normal (1), and its mask that a part of it is "
            "not."
        )
    for i in np.flatnonzero(empty & (labels == -1)):
        raise ValueError(
            f"y says that picture {i} is anomalous (-1), and its mask that no part of "
            "it is: where only the label is known, pass a mask of NaN, or None for "
            "boxes."
        )
    return np.where(shown, -1, np.where(empty, 1, labels))
