"""The command line: `skad detect`, `fit`, `score`, `demo` and `list`."""

import argparse
import ast
import contextlib
import json
import os
import re
import shlex
import sys
import warnings
from functools import partial

_NAMED = 20  # files left out that are named on the terminal


class _Parser(argparse.ArgumentParser):
    """Complains in one line, as everything here does."""

    def error(self, message):
        _say(f"skad: error: {message} (see {self.prog} --help)", error=True)
        self.exit(2)


def main(arguments=None):
    """Run the command line; return the exit status."""
    try:
        from skad._commands._parser import parser_of
    except ImportError as error:
        _say(f"skad: error: {_reason(error)}", error=True)
        return 2
    run = {"detect": _detect, "fit": _fit, "score": _score}
    options = parser_of(_Parser, run | {"demo": _demo, "list": _list}).parse_args(
        arguments
    )
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("default")
        try:
            if getattr(options, "progress", False):
                options.progress = sys.stderr is not None and sys.stderr.isatty()
            outcome = options.run(options)
        except KeyboardInterrupt:
            return 130
        except Exception as error:
            if getattr(options, "traceback", False):
                raise
            _say(f"skad: error: {_in_words_of_options(_reason(error))}", error=True)
            return 2
    texts = dict.fromkeys(_in_words_of_options(str(item.message)) for item in caught)
    if outcome is not None and getattr(options, "json", False):
        _say(json.dumps(outcome.json(texts), indent=2, allow_nan=False))
    elif outcome is not None:
        for line in outcome.lines:
            _say(line)
    if outcome is not None:
        _name_skipped(outcome.skipped, outcome.skipped_file)
    for text in texts:
        _say(f"skad: warning: {text}", error=True)
    return 0


def _reason(error):
    """Return what is wrong; errors that no one meant for the user say their kind."""
    if isinstance(error, ModuleNotFoundError):
        # packages that not everybody has are asked for by `need`, in its own words
        return f"{error}; pip install skad brings it"
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
        ("are both time columns", "are named by --time-column DATE --time-column TIME"),
        ("header=False", "--no-header"),
        ("header=True", "--header"),
        ("decimal=',' or decimal='.'", "--decimal"),
        ("encoding=", "--encoding"),
        ("sep=", "--sep "),
        ("merge_gap=", "--merge-gap "),
        ("min_duration=", "--min-duration "),
    ):
        text = text.replace(parameter, option)
    for parameter, option in (
        (r"aside=\[(.+?)\] keeps them apart", "--series --time-column {} takes it so"),
        (
            r"aside=\[(.+?)\] for names",
            "--group-column {0} or --id-column {0} for names",
        ),
        (r"drop=\[(.+?)\]", "--drop {}"),
        (r"label_column=('.+?'|\".+?\")", "--label-column {}"),
    ):
        text = re.sub(parameter, partial(_with_column, option), text)
    return " ".join(text.split())


def _with_column(option, found):
    """Return an option for a column, whose name was found as Python writes it."""
    return option.format(shlex.quote(ast.literal_eval(found[1])))


def _say(text, *, error=False, end="\n"):
    """Print, whatever the terminal can show and whether or not it is still there."""
    stream = sys.stderr if error else sys.stdout
    if stream is None:  # closed from the start, as services do
        return
    try:
        print(text, end=end, file=stream, flush=True)
    except UnicodeEncodeError:
        encoding = stream.encoding or "ascii"
        plain = text.encode(encoding, "backslashreplace").decode(encoding)
        print(plain, end=end, file=stream, flush=True)
    except (OSError, ValueError):  # what reads it has gone; the results are written
        with contextlib.suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def _name_skipped(skipped, file):
    for _, reason in skipped[:_NAMED]:
        _say(f"skad: left out: {_in_words_of_options(reason)}", error=True)
    if len(skipped) > _NAMED:
        more = len(skipped) - _NAMED
        where = "" if file is None else f", all of them in {file}"
        _say(f"skad: left out: {more} more{where}", error=True)


def _detect(options):
    from skad._commands import detect

    return detect(options)


def _fit(options):
    from skad._commands import fit

    return fit(options)


def _score(options):
    from skad._commands import score

    return score(options)


def _demo(options):
    from skad._commands import demo

    def say(text, end="\n"):
        _say(text, end=end)

    _, page = demo(options.out, say, networks=options.networks)
    _say(f"\nwrote {page}")


def _list(options):
    from skad._commands import listed

    return listed(options.kinds)


if __name__ == "__main__":
    sys.exit(main())
