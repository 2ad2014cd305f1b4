"""What `python -m skad detect` does: tables, pictures and series in files."""

import contextlib
import csv
import warnings
from pathlib import Path

import numpy as np
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skad import datasets
from skad._commands._build import build_detector, kind_of_data
from skad._commands._checks import (
    check_columns,
    check_looks_at_pictures,
    check_looks_at_rows,
    check_looks_at_series,
    check_outside,
    check_results,
    one_file,
    refuse,
)
from skad._commands._columns import checked_shape, labels, texts, times
from skad._commands._folders import (
    are_pictures,
    load_pictures,
    writable_folder,
)
from skad.datasets._files import read_tables
from skad.datasets._words import shown
from skad.inspection import (
    examine,
    examine_pictures,
    examine_series,
    write_events,
    write_report,
    write_scores,
)
from skad.inspection._findings import open_text


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
    id_column=None,
    day_first=None,
    time_format=None,
    sep=None,
    decimal=None,
    encoding=None,
    header=None,
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
    id_column : str or None, default=None
        Column that says what a row is called.
    day_first, time_format : default=None
        How times are read; see `skad._times.read_times`.
    sep, decimal, encoding, header : default=None
        How text files are read; see `skad.datasets.read_table`.
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
        "--id-column": id_column,
        "--sep": sep,
        "--decimal": decimal,
        "--encoding": encoding,
        "--header or --no-header": None if header is None else True,
    }
    row_options = {"--image-shape": image_shape}
    series_options = {
        "--time-column": time_column,
        "--group-column": group_column,
        "--day-first or --month-first": None if day_first is None else True,
        "--time-format": time_format,
    }
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
        data = load_pictures(train, test, size=image_size, on_error=on_error or "raise")
        held_out = _hold_out(data, calibrate)
        check_outside(out, data.folders)
        written = ["index.html", "scores.csv", "skipped.csv"]
        _prepare(out, [*written, *(["maps"] if maps != "none" else [])], ())
        findings = _on_pictures(model, data, held_out, out, maps or "png", progress)
        _write_skipped(out, findings)
    else:
        train, test = one_file(train, "--train"), one_file(test, "--test")
        if series:
            refuse("series", row_options, picture_options)
            check_looks_at_series(model)
        else:
            refuse("tables without --series", series_options)
            refuse("tables", picture_options)
            check_looks_at_rows(model)
        named = {
            "time_column": time_column,
            "group_column": group_column,
            "id_column": id_column,
        }
        check_columns(drop, label_column=label_column, **named)
        aside = [name for name in named.values() if name is not None]
        reading = {"label_column": label_column, "drop": drop, "aside": aside}
        reading |= {"sep": sep, "decimal": decimal, "encoding": encoding}
        reading["header"] = header
        if series and model.get_params().get("missing") == "skip":
            reading["allow_nan"] = True
        seen, new = read_tables([train, test], **reading)
        names = [shown(Path(path).name) for path in (train, test)]
        datasets.check_same_columns(seen, new, *names)
        found = labels(seen, new, test, label_column, anomaly_label)
        common = {
            "y_train": found[0],
            "y_test": found[1],
            "feature_names": new.columns,
            "title": names[1],
            "name": detector,
            "ids": texts(new.aside.get(id_column), id_column, test, optional=True),
            "id_name": id_column or "id",
        }
        written = ["index.html", "scores.csv", *(["events.csv"] if series else [])]

        def prepare():
            _prepare(out, written, (train, test))

        if series:
            findings = _on_series(
                model,
                seen,
                new,
                (train, test),
                (time_column, group_column),
                {"day_first": day_first, "time_format": time_format},
                scale,
                prepare,
                common,
                progress,
            )
        else:
            findings = _on_rows(
                model, seen, new, image_shape, scale, prepare, common, progress
            )
    write_scores(Path(out) / "scores.csv", findings)
    if series:
        write_events(Path(out) / "events.csv", findings)
    title = f"{detector} on {findings.title}"
    try:
        return findings, write_report(out, [findings], title=title)
    except Exception as error:
        raise RuntimeError(
            f"scores.csv is written to {shown(out)}, but no page could be: {error}"
        ) from error


def _prepare(out, names, inputs):
    """Make the folder, and see that all that the run will write can be written."""
    writable_folder(out)
    check_results(out, names, inputs)


def _on_rows(model, seen, new, image_shape, scale, prepare, common, progress):
    image_shape = checked_shape(image_shape or new.image_shape, new.X.shape[1])
    looks_at_pictures = "image_shape" in model.get_params()
    if kind_of_data(type(model)) == "pictures" and image_shape is None:
        raise ValueError(
            f"{type(model).__name__} looks at pictures, not at rows of a table: pass "
            "folders of pictures, or --image-shape HEIGHT,WIDTH where rows are pictures"
        )
    prepare()  # before the long work
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
            skipped=[(shown(file), shown(reason)) for file, reason in data.skipped],
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
    model, seen, new, names, columns, reading, scale, prepare, common, progress
):
    time_column, group_column = columns
    tables = (seen, new)
    groups = [
        texts(table.aside.get(group_column), group_column, name)
        for table, name in zip(tables, names, strict=True)
    ]
    found = [table.aside.get(time_column) for table in tables]
    when = times(found, groups, names, time_column, **reading)
    prepare()
    if scale:
        model = make_pipeline(StandardScaler(), model)
    with _progress(model, progress):
        return examine_series(
            model,
            seen.X,
            new.X,
            groups_train=groups[0],
            groups_test=groups[1],
            time=when[1],
            time_name=time_column or "time",
            group_name=group_column or "group",
            **common,
        )


def _write_skipped(out, findings):
    if not findings.skipped:
        return
    with open_text(Path(out) / "skipped.csv") as file:
        csv.writer(file).writerows([("file", "reason"), *findings.skipped])


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
