"""What a detector says about pictures, a block of them in memory at a time."""

from dataclasses import dataclass
from math import ceil, sqrt
from typing import Any

import numpy as np

from skad._array import to_numpy
from skad._needed import need
from skad.inspection._anomaly_map import in_unit_range
from skad.inspection._findings import (
    Findings,
    detection_metrics,
    timed,
    tracked,
)
from skad.inspection._inspected import inspected, threshold_of
from skad.inspection._learned import learned_pictures
from skad.inspection._map_files import MapFiles
from skad.metrics import pixel_roc_auc, pro_score

__all__ = ["PictureFindings", "ShownPicture", "examine_pictures"]

# Pictures are read and scored in blocks of this many values, 64 at most.
_BLOCK_ELEMENTS = 2**23
_BLOCK_PICTURES = 64

# So many pictures, spread evenly, give the scale of the maps; and the distribution of
# training scores where a detector does not keep it.
_SCALE_PICTURES = 64

# The figures over pixels look at this many at most, evenly spread over all pictures.
_PIXELS = 2**25

_THUMBNAIL = 320  # pixels, the longer side of a picture on the page


@dataclass(frozen=True)
class ShownPicture:
    """A picture that the page shows, with its map and mask, all scaled down alike."""

    picture: np.ndarray  # (h, w) or (h, w, 3), floats in 0..1
    heat: np.ndarray  # (h, w)
    mask: np.ndarray | None  # (h, w), booleans


@dataclass(frozen=True, kw_only=True)
class PictureFindings(Findings):
    """What a fitted detector says about pictures; made by `examine_pictures`.

    Parameters
    ----------
    image_shape : tuple of int
        (height, width, channels) of the pictures.
    files : list of str or None
        What each picture is called.
    defects : array of shape (n,) or None
        The name of each picture's defect, "good" for normal ones.
    pictures : list of ShownPicture
        Those of `shown`.
    map_threshold : float
        The value of the maps that the contours follow.
    map_low : float
        The median of the maps, which is drawn clear.
    map_files : list of str or None
        Where the maps were written, below the folder of the report.
    pixel_stride : int
        Every so many pixels in both directions count in the figures over pixels.
    skipped : list of (str, str)
        Files that could not be read, with the reason.
    """

    unit = "picture"

    image_shape: tuple
    files: list | None
    defects: Any
    pictures: list
    map_threshold: float
    map_low: float
    map_files: list | None
    pixel_stride: int
    skipped: list

    def identity(self):
        """Return {column: values} of the files and of the kinds of defects."""
        columns = {"file": self.files, "defect": self.defects}
        return {name: values for name, values in columns.items() if values is not None}

    def places(self):
        """Return {column: values} of the files that the maps were written to."""
        return {} if self.map_files is None else {"map": self.map_files}


def examine_pictures(
    detector,
    X_train,
    X_test,
    *,
    X_held_out=None,
    y_test=None,
    masks=None,
    files=None,
    defects=None,
    skipped=(),
    title="Pictures",
    name=None,
    n_shown=12,
    maps=None,
    folder=None,
    track=None,
):
    """Fit a detector on pictures and gather what it says about others.

    Each picture is read and looked at once, a block at a time, and maps are written as
    soon as they are computed, so that memory does not grow with the number of pictures.

    Parameters
    ----------
    detector : detector
        Any detector that takes pictures.
    X_train, X_test : PictureFiles or array of shape (n, h, w) or (n, h, w, c)
        Pictures to learn normality from, and pictures to look at.
    X_held_out : PictureFiles or array or None, default=None
        More normal pictures. Their scores give the threshold, in the meaning that the
        detector's `contamination` and `false_alarm_rate` have; without them it is the
        detector's own.
    y_test : array of shape (n_test,) or None, default=None
        1 normal, -1 anomaly; gives the metrics.
    masks : sequence of arrays of shape (h, w) or None, default=None
        Where the pictures are defective; gives the metrics over pixels.
    files : list of str or None, default=None
        What each picture is called.
    defects : array of shape (n_test,) or None, default=None
        The name of each picture's defect, "good" for normal ones.
    skipped : list of (str, str), default=()
        Files that could not be read, with the reason, to be listed on the page.
    title : str, default="Pictures"
        What the data are called.
    name : str or None, default=None
        What the detector is called; its class if None.
    n_shown : int, default=12
        How many of the most anomalous pictures are kept for the page.
    maps : {"png", "npy"} or None, default=None
        How all maps are written: as pictures in grey, 128 at the threshold and 255
        twice as far from the median of the maps (of the held-out pictures where there
        are some, else of 64 that are looked at); or as they are, in float32.
    folder : str or Path or None, default=None
        The maps go into the folder "maps" in it.
    track : callable or None, default=None
        Called with an iterable of blocks, a description and the number of blocks;
        returns an iterable over the same, to show progress.

    Returns
    -------
    findings : PictureFindings
        Everything that `write_report` and `write_scores` need.
    """
    if maps not in ("png", "npy", None):
        raise ValueError(f"maps={maps!r}: must be 'png', 'npy' or None.")
    if maps == "png":
        need("PIL", "maps='png'")
    return look_at_pictures(
        learn_pictures(
            detector, X_train, X_held_out=X_held_out, name=name, track=track
        ),
        X_test,
        y_test=y_test,
        masks=masks,
        files=files,
        defects=defects,
        skipped=skipped,
        title=title,
        n_shown=n_shown,
        maps=maps,
        folder=folder,
        track=track,
    )


def learn_pictures(detector, X, *, X_held_out=None, name=None, track=None):
    """Fit a detector; return what `look_at_pictures` needs. See `examine_pictures`."""

    def score_some(detector):
        return _sample_scores(detector, X, track)

    def look_at_held_out(detector):
        scores, extremes = [], []
        every = range(len(X_held_out))
        for rows in tracked(blocks_of(every, X_held_out), track, "held out"):
            found = inspected(detector, np.asarray(X_held_out[rows]))
            scores.append(found.scores)
            extremes += extremes_of(flat(found.maps, X_held_out))
        scores = np.concatenate(scores)
        threshold = threshold_of(detector, scores)
        scale = scale_of(scores, extremes, threshold)
        return len(X_held_out), scores, threshold, scale

    held_out = None if X_held_out is None else look_at_held_out
    return learned_pictures(
        detector, X, held_out=held_out, name=name, score_some=score_some
    )


def look_at_pictures(
    learned,
    X_test,
    *,
    y_test=None,
    masks=None,
    files=None,
    defects=None,
    skipped=(),
    title="Pictures",
    n_shown=12,
    maps=None,
    folder=None,
    track=None,
):
    """Gather what a `Learned` says about pictures. See `examine_pictures`."""
    detector, threshold, scale = learned.detector, learned.threshold, learned.scale
    shape = (*X_test.shape[1:], 1)[:3]
    n, (height, width) = len(X_test), shape[:2]
    stride = max(1, ceil(sqrt(n * height * width / _PIXELS)))
    written = None if maps is None else MapFiles(folder, n, files, maps)
    if written is not None and scale is not None:
        written.set_scale(*scale)
    score, seconds = np.empty(n), 0.0
    kept, extremes, thin_maps, thin_masks = [], [], [], []
    first, others = _spread_first(n)
    parts = blocks_of(first, X_test) + blocks_of(others, X_test)
    for rows in tracked(parts, track, "score"):
        block = np.asarray(X_test[rows])
        if hasattr(detector, "inspect_rows"):  # copies, each of some of the pictures
            found, took = timed(detector.inspect_rows, block, np.asarray(rows))
        else:
            found, took = timed(inspected, detector, block)
        score[rows], heat = found.scores, flat(found.maps, X_test)  # (b, h, w)
        seconds += took
        if written is not None:
            for i, own in zip(rows, heat, strict=True):
                written.write(i, own)
        if scale is None:
            extremes += extremes_of(heat)
            if len(extremes) == len(first):
                scale = scale_of(score[first], extremes, threshold)
                if written is not None:
                    written.set_scale(*scale)
        marked = None if masks is None else [masks[i] for i in rows]
        if marked is not None:
            thin_maps += [own[::stride, ::stride].copy() for own in heat]
            thin_masks += [own[::stride, ::stride].copy() for own in marked]
        kept += [
            (score[i], i, block[k], heat[k], None if marked is None else marked[k])
            for k, i in enumerate(rows)
        ]
        kept.sort(key=lambda entry: entry[:2])
        # what leads so far, scaled down: blocks are not kept alive
        kept = [(*entry[:2], *_small(*entry[2:])) for entry in kept[:n_shown]]
    low, level = scale
    decision = score - threshold
    metrics = {} if y_test is None else detection_metrics(y_test, decision)
    if thin_masks and any(mask.any() for mask in thin_masks):
        metrics["pixel ROC AUC"] = pixel_roc_auc(thin_masks, thin_maps)
        metrics["AUPRO (to 0.3)"] = pro_score(thin_masks, thin_maps)
    return PictureFindings(
        **learned.found(score),
        title=title,
        y=y_test,
        shown=np.array([entry[1] for entry in kept]),
        score_seconds=seconds,
        metrics=metrics,
        image_shape=shape,
        files=None if files is None else list(files),
        defects=defects,
        pictures=[ShownPicture(*entry[2:]) for entry in kept],
        map_threshold=level,
        map_low=low,
        map_files=None if written is None else written.names,
        pixel_stride=stride,
        skipped=list(skipped),
    )


def scale_of(scores, extremes, threshold):
    """Return two values of maps, from those of some pictures: low and threshold.

    The threshold is the detector's own where its score is the largest value of the map,
    so that exactly the flagged pictures reach it. Otherwise it is the value that as
    many of these pictures reach as are flagged.
    """
    medians, largest = np.transpose(extremes)
    low, level = float(np.median(medians)), -threshold
    if not np.allclose(largest, -scores, rtol=1e-4):
        level = float(np.quantile(largest, np.mean(scores >= threshold)))
    return low, level


def extremes_of(heat):
    """Return the median and the largest value of each map."""
    return [(float(np.median(own)), float(own.max())) for own in heat]


def _spread_first(n):
    """Return pictures, evenly spread, that show the scale of the maps, and others."""
    first = np.unique(np.linspace(0, n - 1, min(n, _SCALE_PICTURES)).astype(int))
    return first, np.setdiff1d(np.arange(n), first)


def _sample_scores(detector, X, track):
    """Return scores of some pictures, evenly spread."""
    chosen, _ = _spread_first(len(X))
    return np.concatenate(
        [
            to_numpy(detector.score_samples(np.asarray(X[rows])))
            for rows in tracked(blocks_of(chosen, X), track, "compare")
        ]
    )


def flat(maps, X):
    """Return maps (b, h, w), summed over channels where they have some."""
    return maps.reshape(len(maps), *X.shape[1:3], -1).sum(axis=3)


def blocks_of(indices, X):
    """Return the indices in blocks of bounded size."""
    size = _BLOCK_ELEMENTS // int(np.prod(X.shape[1:]))
    size = max(1, min(_BLOCK_PICTURES, size))
    return [indices[i : i + size] for i in range(0, len(indices), size)]


def _small(picture, heat, mask):
    """Return picture, map and mask no larger than a thumbnail, as arrays of their own.

    What is small already comes back as it is.
    """
    if picture.dtype.kind == "f" and (picture.min() < 0 or picture.max() > 1):
        picture = (picture - picture.min()) / np.ptp(picture)
    picture = in_unit_range(picture)
    factor = ceil(max(heat.shape) / _THUMBNAIL)
    if factor > 1:
        picture, heat = _shrunk(picture, factor), _shrunk(heat, factor)
        mask = None if mask is None else _shrunk(mask.astype(np.float32), factor) > 0
    return np.array(picture), np.array(heat), None if mask is None else np.array(mask)


def _shrunk(values, factor):
    """Return the means of blocks of `factor` by `factor` pixels."""
    height, width = (length // factor * factor for length in values.shape[:2])
    if min(height, width) == 0:  # a strip thinner than a block: every so many pixels
        return values[::factor, ::factor]
    parts = values[:height, :width].reshape(
        height // factor, factor, width // factor, factor, *values.shape[2:]
    )
    return parts.mean(axis=(1, 3), dtype=np.float32)
