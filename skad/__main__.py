"""The command line: `python -m skad detect`, `demo` and `list`."""

import argparse
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
        print(f"skad: error: {message} (see {self.prog} --help)", file=sys.stderr)
        self.exit(2)


def main(arguments=None):
    """Run the command line; return the exit status."""
    options = _parser().parse_args(arguments)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("default")
        try:
            options.run(options)
        except (ValueError, FloatingPointError, ImportError, OSError) as error:
            text = " ".join(str(error).split())
            print(f"skad: error: {text}", file=sys.stderr)
            return 2
        except KeyboardInterrupt:
            return 130
    for text in dict.fromkeys(" ".join(str(item.message).split()) for item in caught):
        print(f"skad: warning: {text}", file=sys.stderr)
    return 0


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
        image_size=options.image_size,
        maps=options.maps,
        on_error=options.on_error,
        calibrate=options.calibrate,
        progress=options.progress and sys.stderr.isatty(),
    )
    flagged = int(findings.flagged.sum())
    print(
        f"{findings.name}: flagged {flagged} of {len(findings.score)} {findings.unit}s "
        f"({flagged / len(findings.score):.1%}), threshold {findings.threshold:.6g}: "
        f"{findings.meaning}"
    )
    for name, value in findings.metrics.items():
        print(f"{name}: {value:.4f}")
    print(f"wrote {page} and {page.with_name('scores.csv')}")
    _name_skipped(getattr(findings, "skipped", []), page.with_name("skipped.csv"))


def _name_skipped(skipped, file):
    for _, reason in skipped[:_NAMED]:
        print(f"skad: left out: {' '.join(reason.split())}", file=sys.stderr)
    if len(skipped) > _NAMED:
        more = len(skipped) - _NAMED
        print(f"skad: left out: {more} more, all of them in {file}", file=sys.stderr)


def _demo(options):
    from skad._commands import demo

    def say(text, end="\n"):
        print(text, end=end, flush=True)

    _, page = demo(options.out, say, networks=options.networks)
    print(f"\nwrote {page}")


def _list(options):
    from skad._commands import summaries

    found = summaries()
    width = max(len(name) for lines in found.values() for name, _ in lines)
    for k, (kind, lines) in enumerate(found.items()):
        print(f"{chr(10) if k else ''}Detectors on {kind}:")
        for name, summary in lines:
            print(f"  {name:<{width}}  {summary}")


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
        "in another, and write index.html and scores.csv. Tables and series: CSV and "
        "TSV with a line of column names, Parquet, npy with shape (n, d) or (n, "
        "height, width), npz with an array X and perhaps labels y; every column has to "
        "be numeric and complete. Pictures: a folder of good ones, or one with good/ "
        "and bad/, or train/good/, test/ and ground_truth/.",
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
        "--image-shape",
        type=_shape,
        metavar="HEIGHT,WIDTH",
        help="rows are pictures of this shape; the report draws heat maps",
    )
    detect.add_argument("--out", default="skad-report", metavar="FOLDER")
    series = detect.add_argument_group("series")
    series.add_argument(
        "--series", action="store_true", help="rows are time steps in order"
    )
    series.add_argument(
        "--time-column",
        metavar="NAME",
        help="a column of numbers or dates that is no channel but the axis",
    )
    series.add_argument(
        "--group-column",
        metavar="NAME",
        help="a column that says which series a row is of, where there are several",
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
