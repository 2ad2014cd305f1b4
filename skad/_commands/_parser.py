"""The options of the command line."""

import argparse

import skad
from skad._commands._options import (
    add_calibrate,
    add_columns,
    add_detector,
    add_events,
    add_json,
    add_labels,
    add_maps,
    add_on_error,
    add_out,
    add_output,
    add_pictures,
    add_series,
    add_text,
    path_of,
)

_EPILOG = """examples:
  skad detect readings.csv
  skad detect pictures/
  skad detect --train normal.csv --test new.csv --detector KNN
  skad detect --train normal.npz --test new.npz --detector OneClassSVM \\
      --set nu=0.05 kernel=rbf --out report/
  skad detect --train normal.csv --test new.csv --detector KNN IsolationForest ECOD
  skad detect --train good/ --test new/ --detector PatchCore --out report/
  skad detect --train a.csv --test b.csv --series --time-column time --merge-gap 10min
  skad fit --train normal.csv --detector KNN --out model.skad
  skad score model.skad new.csv --out report/

`python -m skad` is the same as `skad`.
"""
_STATUS = (
    "Exit status: 0, or 2 with one line on standard error where the input or the "
    "parameters are at fault."
)
_FILES = (
    "Tables and series: CSV, TSV or TXT (.gz, too), Parquet, npy with shape (n, d) or "
    "(n, height, width), npz with an array X and perhaps labels y; every column but "
    "those of labels, times, groups and ids has to be numeric and complete. Pictures: "
    "a folder of good ones, or one with good/ and bad/, or train/good/, test/ and "
    "ground_truth/."
)


def parser_of(kind, run):
    """Return the parser.

    Parameters
    ----------
    kind : type
        The class of parsers.
    run : dict of str to callable
        What each command does, by name.

    Returns
    -------
    parser : argparse.ArgumentParser
    """
    parser = kind(
        prog="skad",
        description="Detect anomalies in tables, pictures and series, and say where.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--version", action="version", version=f"skad {skad.__version__}"
    )
    commands = parser.add_subparsers(required=True, metavar="command")
    for name, add in (
        ("detect", _add_detect),
        ("fit", _add_fit),
        ("score", _add_score),
        ("demo", _add_demo),
        ("list", _add_list),
    ):
        add(commands).set_defaults(run=run[name])
    return parser


def _add_detect(commands):
    detect = commands.add_parser(
        "detect",
        help="learn from one file or folder, look at another, write a report",
        description="Learn what is normal from one file or folder, look for anomalies "
        "in another or in the same, and write index.html and scores.csv. " + _FILES,
        epilog=_STATUS,
    )
    detect.add_argument(
        "files",
        nargs="*",
        type=path_of,
        metavar="PATH",
        help="a table, a series or pictures that are searched for their own anomalies, "
        "or a folder with good and with test pictures; the same as --train alone",
    )
    detect.add_argument(
        "--train",
        nargs="+",
        type=path_of,
        metavar="PATH",
        help="what is normal: a file, a folder of pictures, or several pictures",
    )
    detect.add_argument(
        "--test",
        nargs="+",
        type=path_of,
        metavar="PATH",
        help="what to look at, as --train; a folder with good/ and one folder per "
        "defect gives the metrics. Without it a folder has test pictures, too, or "
        "it, or a table, is searched for its own anomalies",
    )
    add_detector(detect, several=True)
    add_columns(detect, "In the training file it may be missing; where it is there, ")
    add_out(detect)
    add_output(detect)
    add_text(detect)
    add_events(add_series(detect, named=True))
    pictures = add_pictures(detect)
    add_maps(pictures)
    add_calibrate(pictures)
    return detect


def _add_fit(commands):
    fit = commands.add_parser(
        "fit",
        help="learn from one file or folder, write a model for `skad score`",
        description="Learn what is normal and write a model: the detector with the "
        "scaling, the columns, and how files are read. It is a file without pickle "
        "that `skad.load` reads, too. " + _FILES,
        epilog=_STATUS,
    )
    fit.add_argument(
        "--train",
        nargs="+",
        type=path_of,
        required=True,
        metavar="PATH",
        help="what is normal: a file, a folder of pictures, or several pictures",
    )
    add_detector(fit, several=False)
    add_columns(fit, "In the training file ")
    fit.add_argument(
        "--out",
        type=path_of,
        required=True,
        metavar="FILE",
        help="the model, such as model.skad",
    )
    add_output(fit)
    add_text(fit)
    add_series(fit, named=True)
    add_calibrate(add_pictures(fit))
    return fit


def _add_score(commands):
    score = commands.add_parser(
        "score",
        help="look at a file or folder with a model of `skad fit`, write a report",
        description="Look for anomalies with a model that `skad fit` wrote, and write "
        "index.html and scores.csv. Files are read as the training file was, but for "
        "what the options say; columns may be in another order, and those that the "
        "model does not know are left out.",
        epilog=_STATUS,
    )
    score.add_argument(
        "model", type=path_of, metavar="MODEL", help="what `skad fit` wrote"
    )
    score.add_argument(
        "new",
        nargs="+",
        type=path_of,
        metavar="PATH",
        help="what to look at: a file, a folder of pictures, or several pictures",
    )
    add_labels(score, "It may be missing unless it is named here. ")
    add_out(score)
    add_output(score)
    add_text(score)
    add_events(add_series(score, named=False))
    pictures = score.add_argument_group("pictures")
    add_on_error(pictures)
    add_maps(pictures)
    return score


def _add_demo(commands):
    demo = commands.add_parser(
        "demo",
        help="run the detectors on real data and write a report",
        description="Run the detectors on two data sets that scikit-learn ships, on "
        "drawn pictures and on a series, print how well and how fast each is, and "
        "write index.html.",
    )
    add_out(demo)
    demo.add_argument(
        "--networks",
        action="store_true",
        help="run all detectors that train networks, some for minutes, not just a few",
    )
    return demo


def _add_list(commands):
    names = commands.add_parser("list", help="list the detectors")
    names.add_argument(
        "kinds",
        nargs="*",
        metavar="KIND",
        help="only those that look at tables, pictures, series or classifiers",
    )
    add_json(names)
    return names
