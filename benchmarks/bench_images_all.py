"""Every detector of pictures on two real sets, beside what looks at pixels alone.

    OMP_NUM_THREADS=1 python benchmarks/bench_images_all.py --data ../shared/data

Pictures at 128 px on one core; of the tiles 80 to train on and 160 to score, half of
them good, of the cookies all. ResNet-18 is the network whose weights are in the data's
folder; all else are the defaults, but for epochs: what trains for longer than
``--seconds`` of processor time gets as many as fit into them, of all its phases the
same share, by the time of its first steps. Every fit is a process of its own, which
ends after ``--limit`` seconds. Times are of a processor, ``peak_mb`` is of the process,
with the pictures and what is imported, and ``flagged`` is the share of good test
pictures that `predict` calls anomalies. Maps that are integrated gradients of a network
of whole pictures are left out: they take half a second each.

A row that is in ``benchmarks/results/images_all.tsv`` is not measured again: remove it
there, or name its detector in ``--again``. What ends below the better of the two
baselines has its reason in ``_picture_rows.py``, and so has what is left out;
``--reasons`` writes them into the file.
"""

import argparse
import gc
import multiprocessing
import pathlib
import resource
import signal
import time
import warnings
from contextlib import suppress

import numpy as np
from _measure import Table, kept_notes
from _picture_rows import (
    BASELINES,
    COLUMNS,
    KEY,
    LEFT_OUT,
    NOT_YET,
    SETS,
    below,
    reason,
    rows_of,
)
from bench_pictures import real
from sklearn.metrics import roc_auc_score
from skorch.callbacks import Callback

import skad
from skad._training._loop import Stop
from skad._training._pictures import PictureNetworkDetector
from skad.metrics import pixel_roc_auc, pro_score

RESULTS = pathlib.Path(__file__).parent / "results"
RESNET = "weights/resnet18_conv1_to_layer3_bnfolded.npz"
# Arguments that are no defaults: the weights end with layer3, and some take minutes.
TO_LAYER3 = ("layer1", "layer2", "layer3")
SETTINGS = {
    "CNNSelfSimilarity": {"layers": ("layer3",)},
    "GLCF": {"layers": TO_LAYER3},
    "MeanShifted": {"layers": ("layer3",)},
    "MuSc": {"layers": ("layer3",)},
    "PANDA": {"layers": ("layer3",)},
    "PFM": {"layers": TO_LAYER3},
    "SLSG": {"layers": TO_LAYER3},
    "SetFeatures": {"layers": ("layer3",)},
}
# Of these the time of a step is taken: so many at most, after the first, and seconds.
STEPS, SECONDS = 20, 1.5
# An epoch that takes longer than so many times what a training may take is not begun.
MOST = 3


class Known(Exception):  # noqa: N818 (no error)
    """Ends a fit of which only the time of its steps is asked."""


class FirstSteps(Callback):
    """Times the first steps of each phase, and ends the fit with them.

    Raises ValueError where an epoch takes longer than `most` seconds.
    """

    def __init__(self, most):
        self.most = most
        self.seconds = self.n_phases = 0

    def __deepcopy__(self, memo):
        return self

    def on_train_begin(self, net, **parameters):
        self.n_steps, self.n_phases = 0, self.n_phases + 1

    def on_epoch_begin(self, net, dataset_train=None, **parameters):
        self.n_batches = len(dataset_train)
        self.begin = time.process_time()

    def on_batch_end(self, net, training=False, **parameters):
        if not training:
            return
        self.n_steps += 1
        now = time.process_time()
        if self.n_steps == 1:  # what is done once is in it
            self.start = now
            epoch = (now - self.begin) * self.n_batches
            if epoch > self.most:
                raise ValueError(f"an epoch takes {epoch:.0f} seconds")
            return
        spent, n_timed = now - self.start, self.n_steps - 1
        if n_timed < STEPS and spent < SECONDS:
            return
        self.seconds += spent / n_timed * self.n_batches * net.max_epochs
        raise Known if self.n_phases == len(net.module_.phases) else Stop


class Limit(Callback):
    """Counts steps, and ends a phase that takes far longer than was foreseen."""

    def __init__(self, seconds):
        self.seconds, self.n_steps = seconds, 0

    def __deepcopy__(self, memo):
        return self

    def on_train_begin(self, net, **parameters):
        self.ends = time.process_time() + 1.5 * self.seconds

    def on_epoch_begin(self, net, **parameters):
        if time.process_time() > self.ends:
            raise Stop

    def on_batch_end(self, net, training=False, **parameters):
        self.n_steps += bool(training)


def public():
    """Return the names of all detectors that look at pictures."""
    return [name for name, cls in skad.all_detectors() if cls._data == "pictures"]


def sees_through(kind):
    """Tell whether a detector has a backbone."""
    return kind in public() and "backbone" in getattr(skad, kind)._parameter_constraints


def built(kind, backbone, weights, seed):
    """Return a detector with the backbone, the seed and the settings of this table."""
    detector = getattr(skad, kind)(**SETTINGS.get(kind, {}))
    known = detector.get_params(deep=False)
    given = {"random_state": seed}
    if backbone:
        given |= {"backbone": backbone, "weights": weights}
    return detector.set_params(**{k: v for k, v in given.items() if k in known})


def shortened(make, X, seconds, **known):
    """Return a detector that trains for about so many seconds, and its `Limit`.

    `fit` takes what is `known` of the pictures besides.
    """
    detector, limit = make(), Limit(seconds)
    if "callbacks" not in detector.get_params(deep=False):
        return detector, None
    first = FirstSteps(MOST * seconds)
    with suppress(Known):
        detector.set_params(callbacks=[first]).fit(X, **known)
    share = min(1.0, seconds / first.seconds)
    detector = make()
    gc.collect()  # what was trained for some steps is in circles: its memory counts
    epochs = {
        name: max(1, int(share * getattr(detector, name)))
        for name in detector._epoch_parameters
        if getattr(detector, name)
    }
    return detector.set_params(**epochs, callbacks=[limit]), limit


def figures(y, masks, anomaly, maps):
    """Return ROC AUC over pictures and, where there are maps, pixels, and AUPRO."""
    found = {"image_auc": roc_auc_score(y, anomaly)}
    if maps is not None:
        found["pixel_auc"] = pixel_roc_auc(masks, maps)
        found["aupro"] = pro_score(masks, maps)
    return found


def scored(detector, X):
    """Return the scores (n,) and the maps, or None where these take long."""
    if isinstance(detector, PictureNetworkDetector):
        return detector.score_samples(X), None
    inspected = detector.inspect(X)
    return inspected.scores, inspected.maps


def baseline(kind, train, test):
    """Return the anomaly (n,) and the maps (n, h, w) of a baseline on pixels."""
    if kind == "mean_picture":
        away = np.abs(test - train.mean(0))
    else:
        rows, flat = test.reshape(len(test), -1), train.reshape(len(train), -1)
        squares = np.square(rows).sum(1)[:, None] + np.square(flat).sum(1)
        away = np.abs(test - train[(squares - 2 * rows @ flat.T).argmin(1)])
    anomaly = np.square(away.reshape(len(away), -1)).mean(1) ** 0.5
    return anomaly, away.mean(3) if away.ndim == 4 else away


def one(kind, backbone, sets, weights, seed, options):
    """Return the figures of a detector, in a process whose peak memory is asked for."""
    train, test, y, masks = sets
    found = {"fit_cpu_s": 0.0}
    if kind in BASELINES:
        start = time.process_time()
        anomaly, maps = baseline(kind, train, test)
    else:
        detector, limit = shortened(
            lambda: built(kind, backbone, weights, seed), train, options.seconds
        )
        start = time.process_time()
        detector.fit(train)
        found["fit_cpu_s"] = time.process_time() - start
        if limit is not None:
            whole = built(kind, backbone, weights, seed)
            found["epochs"] = len(detector.history_)
            found["default_epochs"] = sum(map(whole._epochs, detector.net_.phases))
            found["steps"] = limit.n_steps
        start = time.process_time()
        scores, maps = scored(detector, test)
        anomaly = -scores
        found["flagged"] = float((scores[~y] < detector.offset_).mean())
    found["score_cpu_ms"] = 1000 * (time.process_time() - start) / len(test)
    found |= figures(y, masks, anomaly, maps)
    found["peak_mb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return found


def send(pipe, limit, *arguments):
    """Send what `one` finds, or the error that it ends with."""
    resource.setrlimit(resource.RLIMIT_CPU, (limit, limit + 5))
    warnings.simplefilter("ignore")
    try:
        pipe.send(one(*arguments))
    except Exception as error:  # it is told, and the others go on
        words = " ".join(str(error).split()) or type(error).__name__
        pipe.send({"note": words[:200]})


def measured(options, *arguments):
    """Return the figures of a fit in a process of its own, or why there are none."""
    fork, limit = multiprocessing.get_context("fork"), options.limit
    ours, theirs = fork.Pipe(duplex=False)
    process = fork.Process(target=send, args=(theirs, limit, *arguments, options))
    process.start()
    theirs.close()
    try:
        found = ours.recv()
    except EOFError:
        found = None
    process.join()
    if process.exitcode == -signal.SIGXCPU:
        return {"note": f"more than {limit / 60:g} minutes"}
    return found or {"note": f"ended with {process.exitcode}"}


def write(rows, path, notes):
    """Write the rows (dicts), with reasons of those below the baseline."""
    places = {name: i for i, name in enumerate(SETS)}
    rows.sort(key=lambda row: (places[row["set"]], int(row["seed"]), row["detector"]))
    weak = [id(row) for row in below(rows)] if rows else []
    table = Table(COLUMNS)
    for row in rows:
        row["reason"] = reason(row) if id(row) in weak else ""
        table.rows.append([row[name] for name in COLUMNS])
    table.write(path, *notes)


def text(value):
    """Return a cell as it stands in the file."""
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def in_turn(options):
    """Yield the keys of all rows, those of what trains nothing first."""
    kinds = [kind for kind in public() if LEFT_OUT.get(kind, NOT_YET) == NOT_YET]
    wanted = options.detectors or [*BASELINES, *kinds]

    def trains(kind):
        if kind in BASELINES:
            return False
        return "max_epochs" in getattr(skad, kind)._parameter_constraints

    for seed in options.seeds:
        for last in (False, True):
            for name in options.sets:
                for kind in wanted:
                    drawn = kind not in BASELINES or seed == options.seeds[0]
                    if drawn and trains(kind) == last:
                        backbone = "resnet18" if sees_through(kind) else ""
                        yield name, kind, backbone, str(seed)


def main():
    """Measure what is not in the file yet."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", default="../shared/data")
    parser.add_argument("--sets", nargs="+", default=SETS, choices=SETS)
    parser.add_argument("--detectors", nargs="+")
    parser.add_argument("--again", nargs="+", default=[])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--seconds", type=float, default=60, help="of a training")
    parser.add_argument("--limit", type=int, default=300, help="seconds of a process")
    parser.add_argument("--reasons", action="store_true", help="measure nothing")
    parser.add_argument("--out", default=RESULTS)
    options = parser.parse_args()
    data, sets = pathlib.Path(options.data), {}
    path = pathlib.Path(options.out) / "images_all.tsv"
    notes = [note for note in kept_notes(path) if not note.endswith("--reasons")]
    for key in () if options.reasons else in_turn(options):
        name, kind, backbone, seed = key
        rows = rows_of(path)  # another process may have written
        known = [row for row in rows if tuple(row[part] for part in KEY) == key]
        if known and kind not in options.again:
            continue
        if name not in sets:
            sets[name] = real(data / "images" / name)
        given = backbone, sets[name], data / RESNET, int(seed)
        found = measured(options, kind, *given)
        settings = ", ".join(
            f"{part}={'+'.join(value) if part == 'layers' else value}"
            for part, value in SETTINGS.get(kind, {}).items()
        )
        own = dict(zip(KEY, key, strict=True)) | {"settings": settings}
        row = dict.fromkeys(COLUMNS, "") | {"image_auc": "nan"} | own | found
        row = {column: text(value) for column, value in row.items()}
        print("\t".join(row.values()), flush=True)
        rows = [other for other in rows_of(path) if other not in known]
        write([*rows, row], path, notes)
    if options.reasons:
        write(rows_of(path), path, notes)


if __name__ == "__main__":
    main()
