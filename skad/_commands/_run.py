"""What the commands do with data: learn, look, and write what was found."""

import contextlib
import csv
import warnings
from pathlib import Path

from skad._commands._build import kind_of_data
from skad._commands._checks import check_outside, check_results
from skad._commands._data import warn_of_all_flagged
from skad._commands._folders import writable_folder
from skad._commands._scaling import Scaled, with_scaling
from skad._gaps import USUAL
from skad.datasets._words import shown
from skad.inspection import write_events, write_report, write_scores
from skad.inspection._findings import open_text
from skad.inspection._own_pictures import learn_own_pictures
from skad.inspection._pictures import learn_pictures, look_at_pictures
from skad.inspection._rows import learn_rows, look_at_rows
from skad.inspection._time_series import learn_series, look_at_series


def scaled_for(model, data, scaling):
    """Return the detector as `Scaled`, told what pictures its rows are."""
    if data.kind == "pictures":
        return Scaled(model, "none", "")
    shape = data.image_shape
    if data.kind == "tables":
        if kind_of_data(type(model)) == "pictures" and shape is None:
            raise ValueError(
                f"{type(model).__name__} looks at pictures, not at rows of a table: "
                "pass folders of pictures, or --image-shape HEIGHT,WIDTH where rows "
                "are pictures"
            )
        params = model.get_params(deep=False)
        if shape is not None and params.get("image_shape", shape) is None:
            model.set_params(image_shape=tuple(int(side) for side in shape))
    return with_scaling(model, data.train.X, scaling, image_shape=shape)


def learn(model, name, data, *, progress=False):
    """Fit a detector on the training data; return a `Learned`.

    Parameters
    ----------
    model : estimator
        The detector, perhaps behind a scaling.
    name : str
        What it is called.
    data : Data
        What was read.
    progress : bool, default=False
        Whether bars are shown.
    """
    train = data.train
    with _progress(model, progress) as track:
        if data.kind == "pictures" and data.own:
            return learn_own_pictures(model, train.X, name=name, track=track)
        if data.kind == "pictures":
            options = {"X_held_out": data.held_out, "name": name, "track": track}
            return learn_pictures(model, train.X, **options)
        if data.kind == "series":
            groups = train.groups if train.stretches is None else train.stretches
            return learn_series(model, train.X, train.y, groups=groups, name=name)
        return learn_rows(model, train.X, train.y, name=name, track=track)


def look(learned, data, folder, options, *, progress=False):
    """Return the findings of a `Learned` about what is to be looked at.

    Parameters
    ----------
    learned : Learned
        What was fitted.
    data : Data
        What was read.
    folder : str or Path
        Where maps of pictures go.
    options : namespace
        `maps`, `merge_gap` and `min_duration`.
    progress : bool, default=False
        Whether bars are shown.
    """
    test, reading = data.test, data.reading
    common = {"y_test": test.y, "title": data.title}
    with _progress(learned.detector, progress, fits=False) as track:
        if data.kind == "pictures":
            maps = options.maps or "png"
            findings = look_at_pictures(
                learned,
                test.X,
                masks=test.masks,
                files=test.files,
                defects=test.defects,
                skipped=data.skipped,
                maps=None if maps == "none" else maps,
                folder=folder,
                track=track,
                **common,
            )
            warn_of_all_flagged(findings)
            return findings
        common |= {"feature_names": data.columns, "ids": test.ids}
        common["id_name"] = reading.id_column or "id"
        if data.kind == "series":
            return look_at_series(
                learned,
                test.X,
                groups=test.groups,
                stretches=test.stretches,
                time=test.time,
                time_name=reading.time_name or "time",
                group_name=reading.group_column or "group",
                merge_gap=options.merge_gap,
                min_duration=options.min_duration,
                longest_step=None if reading.gaps == "ignore" else USUAL,
                **common,
            )
        shape = data.image_shape
        return look_at_rows(learned, test.X, image_shape=shape, track=track, **common)


def written(data, maps, names=()):
    """Return the files that a run writes, below its folder.

    Parameters
    ----------
    data : Data
        What was read.
    maps : str or None
        How maps of pictures are written.
    names : sequence of str, default=()
        The detectors, where there are several: each has a folder.
    """
    own = ["scores.csv", *(["events.csv"] if data.kind == "series" else [])]
    if data.kind == "pictures" and maps != "none":
        own.append("maps")
    files = [f"{name}/{file}" for name in names for file in own] if names else own
    more = ["index.html", *(["comparison.csv"] if names else [])]
    return [*more, *files, *(["skipped.csv"] if data.kind == "pictures" else [])]


def prepare(out, data, maps, names=()):
    """Make the folder, and see that all that the run will write can be written."""
    if data.kind == "pictures":
        check_outside(out, data.folders)
    writable_folder(out)
    for name in names:
        writable_folder(Path(out) / name)
    check_results(out, written(data, maps, names), data.inputs)


def write_findings(folder, findings, data):
    """Write the tables of what one detector found; return {what: path}."""
    folder = Path(folder)
    files = {"scores": folder / "scores.csv"}
    write_scores(files["scores"], findings)
    if data.kind == "series":
        files["events"] = folder / "events.csv"
        write_events(files["events"], findings)
    if getattr(findings, "map_files", None) is not None:
        files["maps"] = folder / "maps"
    return files


def write_page(out, findings, title, *, comparison=()):
    """Write the page; return its path."""
    try:
        return write_report(out, findings, title=title, comparison=comparison)
    except Exception as error:
        raise RuntimeError(
            f"scores.csv is written to {shown(out)}, but no page could be: {error}"
        ) from error


def write_skipped(out, skipped):
    """Write which files were left out; return the path, or None where none was."""
    if not skipped:
        return None
    path = Path(out) / "skipped.csv"
    with open_text(path) as file:
        csv.writer(file).writerows([("file", "reason"), *skipped])
    return path


def warn_of_scaling(words):
    """Warn where a detector that needs it is without scaling."""
    if words.startswith("scaling: none"):
        warnings.warn(words, stacklevel=2)


@contextlib.contextmanager
def _progress(model, wanted, fits=True):
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
    if fits:
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
        if fits and hasattr(model, "set_callbacks"):
            model.set_callbacks()  # a model in a file has no bars
