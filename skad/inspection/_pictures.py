"""What a detector says about pictures, a block of them in memory at a time."""

from dataclasses import dataclass
from math import ceil, sqrt
from pathlib import Path, PurePath
from typing import Any

import numpy as np

from skad._array import to_numpy
from skad.inspection._anomaly_map import in_unit_range
from skad.inspection._findings import (
    Findings,
    description,
    detection_metrics,
    last_step,
    timed,
    tracked,
)
from skad.metrics import pixel_roc_auc, pro_score

# Pictures are read and scored in blocks of this many values, 64 at most.
_BLOCK_ELEMENTS = 2**23
_BLOCK_PICTURES = 64

# So many training pictures, spread evenly, give the distribution of training scores and
# the scale of the maps.
_TRAINING_PICTURES = 64

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
        The median of the maps of training pictures, which is drawn clear.
    map_files : list of str or None
        Where the maps were written, below the folder of the report.
    pixel_stride : int
        Every so many pixels in both directions count in the figures over pixels.
    skipped : list of (str, str)
        Files that could not be read, with the reason.
    """

    unit = "picture"
    scored = "score and map"

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

    Pictures are read a block at a time, and maps are written as soon as they are
    computed, so that memory does not grow with the number of pictures.

    Parameters
    ----------
    detector : detector
        Any detector that takes pictures.
    X_train, X_test : PictureFiles or array of shape (n, h, w) or (n, h, w, c)
        Pictures to learn normality from, and pictures to look at.
    X_held_out : PictureFiles or array or None, default=None
        More normal pictures. The threshold is the quantile of their scores that the
        detector's `contamination` says; without them it is the detector's own, which is
        too strict where a detector remembers its training pictures.
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
        twice as far from the median of the training maps; or as they are, in float32.
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
    _, fit_seconds = timed(detector.fit, X_train)
    threshold, X_normal = float(last_step(detector).offset_), X_train
    if X_held_out is not None:
        X_normal, held_out = X_held_out, []
        for rows in tracked(_blocks(range(len(X_normal)), X_normal), track, "held out"):
            held_out.append(_scores(detector, np.asarray(X_normal[rows])))
        share = last_step(detector).contamination
        threshold = float(np.quantile(np.concatenate(held_out), share))
    normal_score, low, level = _normal(detector, X_normal, threshold, track)

    shape = (*X_test.shape[1:], 1)[:3]
    n, (height, width) = len(X_test), shape[:2]
    stride = max(1, ceil(sqrt(n * height * width / _PIXELS)))
    map_files = None
    if maps is not None:
        map_files = _map_files(n, files, maps)
    score, kept, thin_maps, thin_masks, seconds = np.empty(n), [], [], [], 0.0
    for rows in tracked(_blocks(range(n), X_test), track, "score"):
        block = np.asarray(X_test[rows])
        score[rows], took = timed(_scores, detector, block)
        heat, took_too = timed(_maps, detector, block)  # (b, h, w)
        seconds += took + took_too
        if maps is not None:
            for i, own in zip(rows, heat, strict=True):
                _write_map(Path(folder, map_files[i]), own, low, level)
        marked = None if masks is None else masks[rows]
        if marked is not None:
            thin_maps += [own[::stride, ::stride].copy() for own in heat]
            thin_masks += [own[::stride, ::stride].copy() for own in marked]
        first = rows[0]
        kept += [
            (score[i], i, block[i - first], heat[i - first], _at(marked, i - first))
            for i in rows
        ]
        kept.sort(key=lambda entry: entry[:2])
        # what leads so far, scaled down: blocks are not kept alive
        kept = [(*entry[:2], *_small(*entry[2:])) for entry in kept[:n_shown]]
    decision = score - threshold
    metrics = {} if y_test is None else detection_metrics(y_test, decision)
    if thin_masks and any(mask.any() for mask in thin_masks):
        metrics["pixel ROC AUC"] = pixel_roc_auc(thin_masks, thin_maps)
        metrics["AUPRO (to 0.3)"] = pro_score(thin_masks, thin_maps)
    return PictureFindings(
        title=title,
        name=name or type(last_step(detector)).__name__,
        setting=description(detector),
        n_train=len(X_train),
        train_decision=normal_score - threshold,
        threshold=threshold,
        score=score,
        decision=decision,
        y=y_test,
        shown=np.array([entry[1] for entry in kept]),
        fit_seconds=fit_seconds,
        score_seconds=seconds,
        metrics=metrics,
        held_out=0 if X_held_out is None else len(X_held_out),
        image_shape=shape,
        files=None if files is None else list(files),
        defects=defects,
        pictures=[ShownPicture(*entry[2:]) for entry in kept],
        map_threshold=level,
        map_low=low,
        map_files=map_files,
        pixel_stride=stride,
        skipped=list(skipped),
    )


def _normal(detector, X, threshold, track):
    """Return scores of normal pictures, and two values of maps: low and threshold.

    The threshold is the detector's own where its score is the largest value of the map,
    so that exactly the flagged pictures reach it. Otherwise it is the value that as
    many normal pictures reach as are flagged.
    """
    chosen = np.unique(np.linspace(0, len(X) - 1, _TRAINING_PICTURES).astype(int))
    scores, medians, largest = [], [], []
    for rows in tracked(_blocks(chosen, X), track, "compare"):
        block = np.asarray(X[rows])
        heat = _maps(detector, block)
        scores.append(_scores(detector, block))
        medians += [float(np.median(own)) for own in heat]
        largest += [float(own.max()) for own in heat]
    scores = np.concatenate(scores)
    low, level = float(np.median(medians)), -threshold
    if not np.allclose(largest, -scores, rtol=1e-4):
        level = float(np.quantile(largest, np.mean(scores >= threshold)))
    return scores, low, level


def _scores(detector, block):
    return to_numpy(detector.score_samples(block))


def _maps(detector, block):
    """Return maps (b, h, w), summed over channels where they have some."""
    maps = np.asarray(to_numpy(detector.transform(block)))
    return maps.reshape(*block.shape[:3], -1).sum(axis=3)


def _blocks(indices, X):
    """Return the indices in blocks of bounded size."""
    size = _BLOCK_ELEMENTS // int(np.prod(X.shape[1:]))
    size = max(1, min(_BLOCK_PICTURES, size))
    return [indices[i : i + size] for i in range(0, len(indices), size)]


def _at(masks, i):
    return None if masks is None else masks[i]


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


def _map_files(n, files, kind):
    """Return where each map goes: the picture's own path, below "maps"."""
    if files is None:
        width = len(str(n - 1))
        return [f"maps/{i:0{width}d}.{kind}" for i in range(n)]
    paths = [PurePath(file) for file in files]
    stems = [path.with_suffix("").as_posix() for path in paths]
    if len(set(stems)) < len(stems):  # a.jpg beside a.png
        stems = [path.as_posix() for path in paths]
    return [f"maps/{stem}.{kind}" for stem in stems]


def _write_map(path, heat, low, level):
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".npy":
        np.save(path, heat.astype(np.float32))
        return
    from PIL import Image

    unit = max(level - low, np.finfo(np.float32).tiny)
    grey = np.clip(128 * (heat.astype(np.float64) - low) / unit, 0, 255)
    Image.fromarray(np.rint(grey).astype(np.uint8)).save(path)
