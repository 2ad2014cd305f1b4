"""Groups of options that several commands have."""

import argparse

from skad._commands._scaling import SCALINGS
from skad._events import parse_duration


def add_detector(command, *, several):
    more = "; several are compared, in folders of their own" if several else ""
    command.add_argument(
        "--detector",
        action="extend",
        nargs="+",
        metavar="NAME",
        help=f"see `skad list`{more}. Without it one is taken that suits the data",
    )
    own = "; of several detectors KNN.n_neighbors=5 is for one" if several else ""
    command.add_argument(
        "--set",
        action="extend",
        nargs="+",
        default=[],
        type=_setting,
        metavar="NAME=VALUE",
        help="a parameter of the detector, a Python literal or text; nested ones as "
        f"detector__n_neighbors=5; several, or repeated{own}",
    )
    command.add_argument(
        "--contamination",
        type=_contamination,
        metavar="SHARE",
        help="what the threshold is for: auto (the default) flags about "
        "--false-alarm-rate of new normal samples, for training data that are normal; "
        "a share in (0, 0.5] flags so many of the training samples, for training data "
        "that hold about so many anomalies",
    )
    command.add_argument(
        "--false-alarm-rate",
        type=float,
        metavar="RATE",
        help="with --contamination auto, the share of new normal samples that may be "
        "flagged, in (0, 0.5] (default: 0.05)",
    )
    scaling = command.add_mutually_exclusive_group()
    scaling.add_argument(
        "--scaling",
        choices=SCALINGS,
        help="how features of other units are brought to one scale: to mean 0 and "
        "variance 1 over the training rows, with stray values set aside (robust) or "
        "not (standard), or not at all. Default: robust where the detector depends on "
        "units and rows are no pictures, otherwise none",
    )
    scaling.add_argument(
        "--scale",
        action="store_true",
        help="the same as --scaling standard",
    )


def add_columns(command, where):
    add_labels(
        command,
        f"{where}it goes to the methods that use labels, and no row is left out. ",
    )
    command.add_argument(
        "--drop",
        action="append",
        default=[],
        metavar="COLUMN",
        help="a column to leave out, of any file; may be repeated",
    )
    command.add_argument(
        "--image-shape",
        type=_shape,
        metavar="HEIGHT,WIDTH",
        help="rows are pictures of this shape; the report draws heat maps",
    )


def add_labels(command, where):
    command.add_argument(
        "--label-column",
        metavar="NAME",
        help=f"a column that holds labels; gives the metrics. {where}In npz files the "
        "array of labels (default: y)",
    )
    command.add_argument(
        "--anomaly-label",
        metavar="VALUE",
        help="the label that means an anomaly. Without it 1 and -1 are read as "
        "scikit-learn's (-1 an anomaly, 0 unlabelled), and 0 and 1 as 1 = anomaly",
    )
    command.add_argument(
        "--id-column",
        metavar="NAME",
        help="a column that says what a row is called; it is no feature, and "
        "scores.csv has it as it stands",
    )


def add_out(command):
    """Add the folder of a report."""
    command.add_argument("--out", type=path_of, default="skad-report", metavar="FOLDER")


def path_of(text):
    """Return a path as it was given; an empty one would be the current folder."""
    if not text.strip():
        raise argparse.ArgumentTypeError("a path may not be empty")
    return text


def add_json(command):
    command.add_argument(
        "--json",
        action="store_true",
        help="print one JSON object instead of text, and nothing else",
    )


def add_output(command):
    add_json(command)
    command.add_argument(
        "--traceback", action="store_true", help="show where an error comes from"
    )
    command.add_argument(
        "--no-progress",
        dest="progress",
        action="store_false",
        help="no progress bars (there are none where standard error is no terminal)",
    )


def add_text(command):
    text = command.add_argument_group(
        "text files", "How CSV and TSV are read is seen from them, unless it is said."
    )
    text.add_argument(
        "--sep",
        metavar="CHARACTER",
        help="what separates the values; tab and space may be written as words",
    )
    text.add_argument(
        "--decimal", choices=(".", ","), help="what decimals stand behind"
    )
    text.add_argument("--encoding", metavar="NAME", help="such as utf-8 or cp1252")
    text.add_argument(
        "--header",
        action=argparse.BooleanOptionalAction,
        help="whether the first line holds names; without names the columns are called "
        "x0, x1, ...",
    )


def add_series(command, *, named):
    """Add the options of series; `named` are those that say what they are."""
    series = command.add_argument_group("series")
    if named:
        series.add_argument(
            "--series", action="store_true", help="rows are time steps in order"
        )
        series.add_argument(
            "--time-column",
            action="append",
            metavar="NAME",
            help="a column that is no channel but the axis: dates and times of any "
            "usual kind, with or without a time zone, durations, or numbers. Tables "
            "show it as it stands, but day-first dates with the year first. Where the "
            "date and the time of day are two columns, once for each, the date first",
        )
    first = series.add_mutually_exclusive_group()
    first.add_argument(
        "--day-first",
        action="store_const",
        const=True,
        default=None,
        help="01.02.2015 is in February; needed where no row of the files settles it",
    )
    first.add_argument(
        "--month-first",
        dest="day_first",
        action="store_const",
        const=False,
        help="01/02/2015 is in January",
    )
    first.add_argument(
        "--time-format",
        metavar="FORMAT",
        help="how times are written, in the codes of strptime such as %%d.%%m.%%y; or "
        "what numbers count: s, ms, us or ns since 1970, or excel for the days of "
        "spreadsheets",
    )
    if named:
        series.add_argument(
            "--group-column",
            metavar="NAME",
            help="a column that says which series a row is of, where there are "
            "several; its values are text: 007 is not 7",
        )
        series.add_argument(
            "--resample",
            metavar="STEP",
            help="bring the steps of --time-column to a regular one: a time such as "
            "10min, or a number where times are numbers. Steps without rows are "
            "missing, and --set missing=skip or missing=interpolate says what then",
        )
        series.add_argument(
            "--resample-by",
            choices=("mean", "interpolate"),
            help="the mean of the rows of a step (the default), or what lies on the "
            "line between the rows around its beginning",
        )
    series.add_argument(
        "--gaps",
        choices=("split", "ignore"),
        help="whether a series ends where the next row of --time-column is later than "
        "one and a half median steps, so that no window and no event runs over a gap "
        "(the default), or goes on",
    )
    return series


def add_events(series):
    for option, what in (
        (
            "--merge-gap",
            "flagged stretches with at most so much between them are one event in "
            "events.csv: a number of steps, or a time such as 30s, 10min, 2h or 1d",
        ),
        (
            "--min-duration",
            "leave out events that are shorter: a number of steps, or a time from the "
            "first to the last step",
        ),
    ):
        series.add_argument(
            option, type=_extent, default=0, metavar="STEPS|TIME", help=what
        )


def add_pictures(command):
    pictures = command.add_argument_group("pictures")
    pictures.add_argument(
        "--image-size",
        type=_shape,
        metavar="HEIGHT,WIDTH",
        help="bring all pictures to this size; without it they must have one",
    )
    add_on_error(pictures)
    return pictures


def add_on_error(pictures):
    pictures.add_argument(
        "--on-error",
        choices=("raise", "skip"),
        help="stop at a picture that cannot be read (the default), or leave it out",
    )


def add_maps(pictures):
    pictures.add_argument(
        "--maps",
        choices=("png", "npy", "none"),
        help="how all anomaly maps are written into maps/: in grey with 128 at the "
        "threshold (png, the default), as they are (npy), or not at all",
    )


def add_calibrate(pictures):
    pictures.add_argument(
        "--calibrate",
        type=float,
        metavar="SHARE",
        help="hold out that share of the good pictures, and take the threshold from "
        "their scores, whatever the detector's own way is; in the meaning of "
        "--contamination",
    )


def _setting(text):
    name, equals, value = text.partition("=")
    if not equals or not name.strip():
        raise argparse.ArgumentTypeError(f"{text!r} is not of the form NAME=VALUE")
    return name.strip(), value.strip()


def _contamination(text):
    if text == "auto":
        return text
    try:
        return float(text)
    except ValueError:
        message = f"{text!r} is neither auto nor a number"
        raise argparse.ArgumentTypeError(message) from None


def _shape(text):
    try:
        height, width = (int(part) for part in text.replace("x", ",").split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not HEIGHT,WIDTH") from None
    return height, width


def _extent(text):
    if text.isdecimal():
        return int(text)
    if parse_duration(text) is None:
        raise argparse.ArgumentTypeError(
            f"{text!r} is neither a number of steps nor a time such as 30s, 10min or 2h"
        )
    return text
