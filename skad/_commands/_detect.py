"""What `python -m skad detect` does: tables, pictures and series in files."""

import contextlib
import csv
import warnings
from difflib import get_close_matches
from pathlib import Path

import numpy as np
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skad import datasets
from skad._commands._build import build_detector, kind_of_data
from skad._commands._folders import (
    are_pictures,
    in_words_of_options,
    load_pictures,
    writable_folder,
)
from skad._commands._kinds import (
    check_looks_at_pictures,
    check_looks_at_rows,
    check_looks_at_series,
    refuse,
)
from skad.datasets._files import read_tables
from skad.inspection import (
    examine,
    examine_pictures,
    examine_series,
    write_events,
    write_report,
    write_scores,
)


def detect(
    train,
    test,
    detector,
    *,
    settings=(),
    out="skad-report",
    label_column=None,
    anomaly_label=None,
    drop=(),
    image_shape=None,
    contamination=None,
    false_alarm_rate=None,
    scale=False,
    series=False,
    time_column=None,
    group_column=None,
    image_size=None,
    maps=None,
    on_error=None,
    calibrate=None,
    progress=False,
):
    """Fit a detector on some data, look at others, and write a report.

    Parameters
    ----------
    train, test : list of str or Path
        A file that `skad.datasets.read_table` reads; or a folder of pictures, or
        several pictures. `test` may be None for a folder with pictures for both.
    detector : str
        Name of a detector.
    settings : sequence of (str, str), default=()
        Parameters and their values as text; Python literals where they are some.
    out : str or Path, default="skad-report"
        Folder for `index.html` and `scores.csv`.
    label_column : str or None, default=None
        Column of the labels, in the test file and perhaps in the training file.
    anomaly_label : str or None, default=None
        Which label means an anomaly; see `skad.datasets.anomaly_labels`.
    drop : sequence of str, default=()
        Columns to leave out, of either file or of both.
    image_shape : tuple of int or None, default=None
        Height and width, where rows are pictures; passed on to detectors that look at
        them as such.
    contamination : "auto", float or None, default=None
        Passed to the detector; None is its default.
    false_alarm_rate : float or None, default=None
        Passed to the detector; None is its default.
    scale : bool, default=False
        Scale every feature to the training rows' mean 0 and variance 1.
    series : bool, default=False
        Whether rows are time steps in order.
    time_column, group_column : str or None, default=None
        Columns of series that hold the time, and which series a row belongs to.
    image_size : tuple of int or None, default=None
        Height and width to bring pictures to.
    maps : {"png", "npy", "none"} or None, default=None
        How the maps of pictures are written; None is "png".
    on_error : {"raise", "skip"} or None, default=None
        What to do with pictures that cannot be read; None is "raise".
    calibrate : float or None, default=None
        Share of the good pictures that are held out and give the threshold; None is the
        detector's own.
    progress : bool, default=False
        Show progress bars on the terminal.

    Returns
    -------
    findings : Findings
        What was found.
    page : Path
        The report.
    """
    model = build_detector(detector, settings, contamination, false_alarm_rate)
    pictures = are_pictures(train) or are_pictures(test)
    table_options = {
        "--label-column": label_column,
        "--anomaly-label": anomaly_label,
        "--drop": drop,
        "--scale": scale,
    }
    row_options = {"--image-shape": image_shape}
    series_options = {"--time-column": time_column, "--group-column": group_column}
    picture_options = {
        "--image-size": image_size,
        "--maps": maps,
        "--on-error": on_error,
        "--calibrate": calibrate,
    }
    if pictures:
        refuse("pictures", table_options | row_options, {"--series": series})
        refuse("pictures", series_options)
        check_looks_at_pictures(model)
        with in_words_of_options():
            data = load_pictures(
                train, test, size=image_size, on_error=on_error or "raise"
            )
            held_out = _hold_out(data, calibrate)
            writable_folder(out)  # before the long work
            findings = _on_pictures(model, data, held_out, out, maps or "png", progress)
        _write_skipped(out, findings)
    else:
        train, test = _one_file(train, "--train"), _one_file(test, "--test")
        if series:
            refuse("series", row_options, picture_options)
            check_looks_at_series(model)
        else:
            refuse("tables without --series", series_options)
            refuse("tables", picture_options)
            check_looks_at_rows(model)
        aside = [name for name in (time_column, group_column) if name is not None]
        reading = {"label_column": label_column, "drop": drop, "aside": aside}
        if series and model.get_params().get("missing") == "skip":
            reading["allow_nan"] = True
        seen, new = read_tables([train, test], **reading)
        datasets.check_same_columns(seen, new, Path(train).name, Path(test).name)
        with in_words_of_options():
            labels = _labels(seen, new, test, label_column, anomaly_label)
        common = {
            "y_train": labels[0],
            "y_test": labels[1],
            "feature_names": new.columns,
            "title": Path(test).name,
            "name": detector,
        }
        if series:
            findings = _on_series(
                model,
                seen,
                new,
                (train, test),
                time_column,
                group_column,
                scale,
                out,
                common,
                progress,
            )
            write_events(Path(out) / "events.csv", findings)
        else:
            findings = _on_rows(
                model, seen, new, image_shape, scale, out, common, progress
            )
    write_scores(Path(out) / "scores.csv", findings)
    title = f"{detector} on {findings.title}"
    return findings, write_report(out, [findings], title=title)


def _on_rows(model, seen, new, image_shape, scale, out, common, progress):
    image_shape = _checked_shape(image_shape or new.image_shape, new.X.shape[1])
    looks_at_pictures = "image_shape" in model.get_params()
    if kind_of_data(type(model)) == "pictures" and image_shape is None:
        raise ValueError(
            f"{type(model).__name__} looks at pictures, not at rows of a table: pass "
            "folders of pictures, or --image-shape HEIGHT,WIDTH where rows are pictures"
        )
    writable_folder(out)  # before the long work
    if image_shape is not None and looks_at_pictures and model.image_shape is None:
        model.set_params(image_shape=tuple(image_shape))
    if scale:
        model = make_pipeline(StandardScaler(), model)
    with _progress(model, progress) as track:
        return examine(
            model, seen.X, new.X, image_shape=image_shape, track=track, **common
        )


def _on_pictures(model, data, held_out, out, maps, progress):
    with _progress(model, progress) as track:
        findings = examine_pictures(
            model,
            data.X_train,
            data.X_test,
            X_held_out=held_out,
            y_test=data.y_test,
            masks=data.masks_test,
            files=data.files,
            defects=data.defects_test,
            skipped=[(str(file), reason) for file, reason in data.skipped],
            title=data.title,
            maps=None if maps == "none" else maps,
            folder=out,
            track=track,
        )
    if findings.flagged.all() and held_out is None:
        warnings.warn(
            "every picture is flagged; --calibrate 0.2 takes the threshold from good "
            "pictures that are held out",
            stacklevel=2,
        )
    return findings


def _hold_out(data, share):
    """Return every so-many-th of the training pictures, and leave the others."""
    if share is None:
        return None
    n = len(data.X_train)
    if not 0 < share < 1 or round(share * n) in (0, n):
        raise ValueError(
            f"--calibrate {share:g}: must leave some of the {n} training pictures to "
            "learn from and some for the threshold"
        )
    held_out = np.zeros(n, dtype=bool)
    held_out[np.linspace(0, n - 1, round(share * n)).astype(int)] = True
    X, data.X_train = data.X_train, data.X_train.take(~held_out)
    return X.take(held_out)


def _on_series(
    model, seen, new, names, time_column, group_column, scale, out, common, progress
):
    groups = [table.aside.get(group_column) for table in (seen, new)]
    times = [
        _times(table.aside.get(time_column), own, time_column, name)
        for table, own, name in zip((seen, new), groups, names, strict=True)
    ]
    writable_folder(out)
    if scale:
        model = make_pipeline(StandardScaler(), model)
    with _progress(model, progress):
        return examine_series(
            model,
            seen.X,
            new.X,
            groups_train=groups[0],
            groups_test=groups[1],
            time=times[1],
            time_name=time_column or "time",
            group_name=group_column or "group",
            **common,
        )


def _times(values, groups, column, file):
    """Return a column of times as numbers or dates, checked to be in order."""
    if values is None:
        return None
    if values.dtype.kind not in "fiuM":
        import pandas as pd

        try:
            values = pd.to_datetime(values).to_numpy()
        except (ValueError, TypeError) as error:
            raise ValueError(
                f"{file}: column {column!r} holds neither numbers nor dates: "
                f"{str(error).partition('. You might')[0]}"
            ) from error
    if values.dtype.kind == "M":
        values = values.astype("datetime64[ns]")
    missing = np.isnat(values) if values.dtype.kind == "M" else np.isnan(values)
    if missing.any():
        raise ValueError(
            f"{file}: column {column!r} in row {int(np.argmax(missing))} is missing"
        )
    order = np.arange(len(values))
    if groups is not None:
        order = np.argsort(np.unique(groups, return_inverse=True)[1], kind="stable")
    back = values[order][1:] < values[order][:-1]
    if groups is not None:
        back &= groups[order][1:] == groups[order][:-1]
    if back.any():
        row = int(order[1:][np.argmax(back)])
        raise ValueError(
            f"{file}: column {column!r} goes back in row {row}; rows have to be in the "
            "order of time"
        )
    return values


def _write_skipped(out, findings):
    if not findings.skipped:
        return
    with open(Path(out) / "skipped.csv", "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("file", "reason"), *findings.skipped])


def _one_file(paths, option):
    if paths is None:
        raise ValueError(f"{option} is missing")
    return paths[0]


def _labels(train, test, test_name, label_column, anomaly_label):
    if test.labels is None:
        if label_column is not None:
            near = get_close_matches(label_column, test.columns, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise ValueError(f"{test_name}: no label column {label_column!r}{hint}")
        if anomaly_label is not None:
            raise ValueError("--anomaly-label needs --label-column")
        return None, None
    seen = () if train.labels is None else train.labels
    y_test = datasets.anomaly_labels(
        test.labels, anomaly_label=anomaly_label, known=seen
    )
    if not y_test.all():
        raise ValueError(
            f"{test_name}: row {int(np.argmin(abs(y_test)))} is unlabelled"
        )
    if train.labels is None:
        return None, y_test
    y_train = datasets.anomaly_labels(
        seen, anomaly_label=anomaly_label, known=test.labels
    )
    return y_train, y_test


def _checked_shape(image_shape, n_features):
    if image_shape is not None and np.prod(image_shape) != n_features:
        height, width = image_shape
        raise ValueError(
            f"--image-shape {height},{width} means {height * width} columns, "
            f"but there are {n_features}"
        )
    return image_shape


@contextlib.contextmanager
def _progress(model, wanted):
    """Show scikit-learn's bars while fitting, and yield a tracker for what follows."""
    if not wanted:
        yield None
        return
    try:
        import rich
        from rich.progress import track
    except ImportError:
        yield None
        return
    with contextlib.suppress(ImportError):  # callbacks came with scikit-learn 1.9
        from sklearn.callback import ProgressBar

        model.set_callbacks(ProgressBar())
    # scikit-learn's bars are drawn on rich's global console: borrow it for a while
    console = rich.get_console()
    before, console.stderr = console.stderr, True

    def tracked(blocks, description, total):
        return track(blocks, description, total, console=console, transient=True)

    try:
        yield tracked
    finally:
        console.stderr = before
