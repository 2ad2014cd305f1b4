"""The command line: `python -m skad detect`, `demo` and `list`."""

import argparse
import contextlib
import os
import sys
import warnings

import skad

_EPILOG = """examples:
  python -m skad detect --train normal.csv --test new.csv --detector KNN
  python -m skad detect --train normal.npz --test new.npz --detector OneClassSVM \\
      --set nu=0.05 kernel=rbf --scale --out report/
  python -m skad detect --train good/ --test new/ --detector PatchCore --out report/
  python -m skad detect --train a.csv --test b.csv --detector MatrixProfile --series
"""

_NAMED = 20  # files left out that are named on the terminal


class _Parser(argparse.ArgumentParser):
    """Complains in one line, as everything here does."""

    def error(self, message):
        _say(f"skad: error: {message} (see {self.prog} --help)", sys.stderr)
        self.exit(2)


def main(arguments=None):
    """Run the command line; return the exit status."""
    options = _parser().parse_args(arguments)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("default")
        try:
            options.run(options)
        except KeyboardInterrupt:
            return 130
        except Exception as error:
            if getattr(options, "traceback", False):
                raise
            _say(f"skad: error: {_in_words_of_options(_reason(error))}", sys.stderr)
            return 2
    for text in dict.fromkeys(str(item.message) for item in caught):
        _say(f"skad: warning: {_in_words_of_options(text)}", sys.stderr)
    return 0


def _reason(error):
    """Return what is wrong; errors that no one meant for the user say their kind."""
    meant = (ValueError, FloatingPointError, ImportError, OSError, RuntimeError)
    if isinstance(error, meant) and str(error):
        return str(error)
    words = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    return f"{words} (a setting of the wrong kind? --traceback shows where)"


def _in_words_of_options(text):
    """Return a message in one line, with options in place of parameters."""
    for parameter, option in (
        ("size=(height, width)", "--image-size HEIGHT,WIDTH"),
        ("on_error='skip' leaves", "--on-error skip leaves"),
        ("with anomaly_label", "with --anomaly-label"),
        ("day_first=True or day_first=False", "--day-first or --month-first"),
        ("time_format='%y/%m/%d'", "--time-format %y/%m/%d"),
        ("header=False", "--no-header"),
        ("header=True", "--header"),
        ("decimal=',' or decimal='.'", "--decimal"),
        ("encoding=", "--encoding"),
        ("sep=", "--sep "),
    ):
        text = text.replace(parameter, option)
    return " ".join(text.split())


def _say(text, stream=None, end="\n"):
    """Print, whatever the terminal can show and whether or not it is still there."""
    stream = sys.stdout if stream is None else stream
    try:
        print(text, end=end, file=stream, flush=True)
    except UnicodeEncodeError:
        encoding = stream.encoding or "ascii"
        plain = text.encode(encoding, "backslashreplace").decode(encoding)
        print(plain, end=end, file=stream, flush=True)
    except (OSError, ValueError):  # what reads it has gone; the results are written
        with contextlib.suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def _detect(options):
    from skad._commands import detect

    findings, page = detect(
        options.train,
        options.test,
        options.detector,
        settings=options.set,
        out=options.out,
        label_column=options.label_column,
        anomaly_label=options.anomaly_label,
        drop=options.drop,
        image_shape=options.image_shape,
        contamination=options.contamination,
        false_alarm_rate=options.false_alarm_rate,
        scale=options.scale,
        series=options.series,
        time_column=options.time_column,
        group_column=options.group_column,
        id_column=options.id_column,
        day_first=options.day_first,
        time_format=options.time_format,
        sep=options.sep,
        decimal=options.decimal,
        encoding=options.encoding,
        header=options.header,
        image_size=options.image_size,
        maps=options.maps,
        on_error=options.on_error,
        calibrate=options.calibrate,
        progress=options.progress and sys.stderr.isatty(),
    )
    flagged = int(findings.flagged.sum())
    _say(
        f"{findings.name}: flagged {flagged} of {len(findings.score)} {findings.unit}s "
        f"({flagged / len(findings.score):.1%}), threshold {findings.threshold:.6g}: "
        f"{findings.meaning}"
    )
    for name, value in findings.metrics.items():
        _say(f"{name}: {value:.4f}")
    _say(f"wrote {page} and {page.with_name('scores.csv')}")
    _name_skipped(getattr(findings, "skipped", []), page.with_name("skipped.csv"))


def _name_skipped(skipped, file):
    for _, reason in skipped[:_NAMED]:
        _say(f"skad: left out: {_in_words_of_options(reason)}", sys.stderr)
    if len(skipped) > _NAMED:
        more = len(skipped) - _NAMED
        _say(f"skad: left out: {more} more, all of them in {file}", sys.stderr)


def _demo(options):
    from skad._commands import demo

    def say(text, end="\n"):
        _say(text, end=end)

    _, page = demo(options.out, say, networks=options.networks)
    _say(f"\nwrote {page}")


def _list(options):
    from skad._commands import summaries

    found = summaries()
    width = max(len(name) for lines in found.values() for name, _ in lines)
    for k, (kind, lines) in enumerate(found.items()):
        _say(f"{chr(10) if k else ''}Detectors on {kind}:")
        for name, summary in lines:
            _say(f"  {name:<{width}}  {summary}")


def _parser():
    parser = _Parser(
        prog="python -m skad",
        description="Detect anomalies in tables, pictures and series, and say where.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--version", action="version", version=f"skad {skad.__version__}"
    )
    commands = parser.add_subparsers(required=True, metavar="command")

    detect = commands.add_parser(
        "detect",
        help="learn from one file or folder, look at another, write a report",
        description="Learn what is normal from one file or folder, look for anomalies "
        "in another, and write index.html and scores.csv. Tables and series: CSV, TSV "
        "or TXT (.gz, too), Parquet, npy with shape (n, d) or (n, height, width), npz "
        "with an array X and perhaps labels y; every column but those of labels, "
        "times, groups and ids has to be numeric and complete. Pictures: a folder of "
        "good ones, or one with good/ and bad/, or train/good/, test/ and "
        "ground_truth/.",
        epilog="Exit status: 0, or 2 with one line on standard error where the input "
        "or the parameters are at fault.",
    )
    detect.add_argument(
        "--train",
        required=True,
        nargs="+",
        metavar="PATH",
        help="what is normal: a file, a folder of pictures, or several pictures",
    )
    detect.add_argument(
        "--test",
        nargs="+",
        metavar="PATH",
        help="what to look at, as --train; a folder with good/ and one folder per "
        "defect gives the metrics. May be left out where --train is a folder that has "
        "test pictures, too",
    )
    detect.add_argument(
        "--detector", required=True, metavar="NAME", help="see `python -m skad list`"
    )
    detect.add_argument(
        "--set",
        action="extend",
        nargs="+",
        default=[],
        type=_setting,
        metavar="NAME=VALUE",
        help="a parameter of the detector, a Python literal or text; nested ones as "
        "detector__n_neighbors=5; several, or repeated",
    )
    detect.add_argument(
        "--contamination",
        type=_contamination,
        metavar="SHARE",
        help="what the threshold is for: auto (the default) flags about "
        "--false-alarm-rate of new normal samples, for training data that are normal; "
        "a share in (0, 0.5] flags so many of the training samples, for training data "
        "that hold about so many anomalies",
    )
    detect.add_argument(
        "--false-alarm-rate",
        type=float,
        metavar="RATE",
        help="with --contamination auto, the share of new normal samples that may be "
        "flagged, in (0, 0.5] (default: 0.05)",
    )
    detect.add_argument(
        "--scale",
        action="store_true",
        help="scale every feature to mean 0 and variance 1 over the training rows",
    )
    detect.add_argument(
        "--label-column",
        metavar="NAME",
        help="a column that holds labels; gives the metrics. In the training file it "
        "may be missing; where it is there, it goes to the methods that use labels, "
        "and no row is left out. In npz files the array of labels (default: y)",
    )
    detect.add_argument(
        "--anomaly-label",
        metavar="VALUE",
        help="the label that means an anomaly. Without it 1 and -1 are read as "
        "scikit-learn's (-1 an anomaly, 0 unlabelled), and 0 and 1 as 1 = anomaly",
    )
    detect.add_argument(
        "--drop",
        action="append",
        default=[],
        metavar="COLUMN",
        help="a column to leave out, of either file or of both; may be repeated",
    )
    detect.add_argument(
        "--id-column",
        metavar="NAME",
        help="a column that says what a row is called; it is no feature, and "
        "scores.csv has it as it stands",
    )
    detect.add_argument(
        "--image-shape",
        type=_shape,
        metavar="HEIGHT,WIDTH",
        help="rows are pictures of this shape; the report draws heat maps",
    )
    detect.add_argument("--out", default="skad-report", metavar="FOLDER")
    detect.add_argument(
        "--traceback", action="store_true", help="show where an error comes from"
    )
    text = detect.add_argument_group(
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
    series = detect.add_argument_group("series")
    series.add_argument(
        "--series", action="store_true", help="rows are time steps in order"
    )
    series.add_argument(
        "--time-column",
        metavar="NAME",
        help="a column that is no channel but the axis: dates and times of any usual "
        "kind, with or without a time zone, durations, or numbers. Tables show it as "
        "it stands, but day-first dates with the year first",
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
    series.add_argument(
        "--group-column",
        metavar="NAME",
        help="a column that says which series a row is of, where there are several; "
        "its values are text: 007 is not 7",
    )
    pictures = detect.add_argument_group("pictures")
    pictures.add_argument(
        "--image-size",
        type=_shape,
        metavar="HEIGHT,WIDTH",
        help="bring all pictures to this size; without it they must have one",
    )
    pictures.add_argument(
        "--maps",
        choices=("png", "npy", "none"),
        help="how all anomaly maps are written into maps/: in grey with 128 at the "
        "threshold (png, the default), as they are (npy), or not at all",
    )
    pictures.add_argument(
        "--on-error",
        choices=("raise", "skip"),
        help="stop at a picture that cannot be read (the default), or leave it out",
    )
    pictures.add_argument(
        "--calibrate",
        type=float,
        metavar="SHARE",
        help="hold out that share of the good pictures, and take the threshold from "
        "their scores, whatever the detector's own way is; in the meaning of "
        "--contamination",
    )
    detect.add_argument(
        "--no-progress",
        dest="progress",
        action="store_false",
        help="no progress bars (there are none where standard error is no terminal)",
    )
    detect.set_defaults(run=_detect)

    demo = commands.add_parser(
        "demo",
        help="run the detectors on real data and write a report",
        description="Run the detectors on two data sets that scikit-learn ships, "
        "print how well and how fast each is, and write index.html.",
    )
    demo.add_argument("--out", default="skad-report", metavar="FOLDER")
    demo.add_argument(
        "--networks",
        action="store_true",
        help="run all detectors that train networks, some for minutes, not just a few",
    )
    demo.set_defaults(run=_demo)

    names = commands.add_parser("list", help="list the detectors")
    names.set_defaults(run=_list)
    return parser


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


if __name__ == "__main__":
    sys.exit(main())
