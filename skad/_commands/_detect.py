"""What `skad detect` does: learn from some data, look at others, say what is found."""

import csv
from pathlib import Path

from skad._commands._build import build_detectors
from skad._commands._checks import (
    check_looks_at_pictures,
    check_looks_at_rows,
    check_looks_at_series,
    check_rows,
    reads_missing,
    refuse,
)
from skad._commands._comparison import comparison, lines_of
from skad._commands._data import check_options, kind_of, read_data, with_held_out
from skad._commands._defaults import default_detector
from skad._commands._outcome import Outcome, headline, told
from skad._commands._reading import Reading
from skad._commands._run import (
    learn,
    look,
    prepare,
    scaled_for,
    warn_of_scaling,
    write_findings,
    write_page,
    write_skipped,
)
from skad.datasets._words import shown
from skad.inspection._findings import open_text

_CHECKS = {
    "pictures": check_looks_at_pictures,
    "series": check_looks_at_series,
    "tables": check_looks_at_rows,
}


def detect(options):
    """Fit detectors on some data, look at others, and write a report.

    Parameters
    ----------
    options : namespace
        Those of the command line.

    Returns
    -------
    outcome : Outcome
    """
    train, test = _paths(options)
    reading = Reading.of(options)
    kind = kind_of(reading, train, test)
    models, data, chosen = models_and_data(options, kind, reading, train, test)
    out = Path(options.out)
    several = list(models) if len(models) > 1 else []
    scaled = {
        name: scaled_for(model, data, options.scaling) for name, model in models.items()
    }
    prepare(out, data, options.maps, several)
    lines, findings, files = list(chosen), [], []
    for name, (model, _, words) in scaled.items():
        warn_of_scaling(words)
        folder = out / name if several else out
        learned = learn(model, name, data, progress=options.progress)
        found = look(learned, data, folder, options, progress=options.progress)
        findings.append(found)
        files.append(write_findings(folder, found, data))
    skipped_file = write_skipped(out, data.skipped)
    title = f"{', '.join(models)} on {findings[0].title}"
    page = write_page(out, findings, title, comparison=findings if several else ())
    tell = told_of_several if several else told_of_one
    outcome = tell(out, findings, files, page, scaled)
    if data.own:
        outcome.lines.append(
            f"the same {findings[0].unit}s were learned from and looked at"
        )
    outcome.lines[:0] = [*lines, *data.notes]
    outcome.data = {
        "command": "detect",
        "kind": kind,
        "chosen_because": chosen[0] if chosen else None,
        "own": data.own,
        "notes": data.notes,
        **outcome.data,
    }
    return with_skipped(outcome, data.skipped, skipped_file)


def models_and_data(options, kind, reading, train, test, *, only_learn=False):
    """Return detectors, what files hold, and a line on a detector that was chosen."""
    thresholds = (options.set, options.contamination, options.false_alarm_rate)
    models = build_detectors(options.detector, *thresholds) if options.detector else {}
    check_options(kind, reading)
    picture = {"--maps": getattr(options, "maps", None)}
    picture["--calibrate"] = options.calibrate
    event = {
        "--merge-gap": getattr(options, "merge_gap", 0),
        "--min-duration": getattr(options, "min_duration", 0),
    }
    if kind != "pictures":
        refuse(kind, picture)
    if kind != "series":
        refuse(kind, {name: value or None for name, value in event.items()})
    if kind == "pictures":
        refuse("pictures", {"--scaling": options.scaling, "--scale": options.scale})
    for model in models.values():
        _CHECKS[kind](model)
    nan = [reads_missing(model) for model in models.values()]
    if not models:  # which one is taken depends on what is read
        asked = dict(options.set or ())
        nan = [asked.get("missing") in ("interpolate", "skip")]
    data = read_data(
        kind,
        reading,
        train,
        test,
        allow_nan=kind == "series" and all(nan),
        only_learn=only_learn,
    )
    data = with_held_out(data, options.calibrate)
    check_events(data, options)
    if models:
        check_rows(data, models.values())
        return models, data, []
    n_test = 0 if data.test is None else len(data.test.X)
    n_columns = 1 if data.columns is None else len(data.columns)
    shape = data.image_shape if kind == "tables" else None
    name, why = default_detector(kind, len(data.train.X), n_test, n_columns, shape)
    chosen = [f"{name} was taken: {why} (--detector names another)"]
    models = build_detectors([name], *thresholds)
    check_rows(data, models.values())
    return models, data, chosen


def check_events(data, options):
    """Raise ValueError where events are to last for a time that no column tells."""
    if data.kind != "series" or data.test is None:
        return
    time = data.test.time
    dated = time is not None and (
        time.dates() is not None or time.values.dtype.kind == "m"
    )
    for name in ("merge_gap", "min_duration"):
        value = getattr(options, name)
        if isinstance(value, str) and not dated:
            raise ValueError(
                f"--{name.replace('_', '-')} {value}: needs a --time-column of dates "
                "or durations; a number counts steps"
            )


def scaling_of(options):
    """Return the scaling that was asked for, None where none was."""
    return "standard" if options.scale else options.scaling


def told_of_one(out, findings, files, page, scaled):
    """Return what one detector found, as an `Outcome`."""
    [finding], [own] = findings, files
    [(_, scaling, words)] = scaled.values()
    lines = [headline(finding)]
    lines += [f"{name}: {value:.4f}" for name, value in finding.metrics.items()]
    if hasattr(finding, "events"):
        lines.append(_events_line(finding))
    if words and not words.startswith("scaling: none"):
        lines.append(words)
    *first, last = (shown(path) for path in (page, *own.values()))
    lines.append(f"wrote {', '.join(first)} and {last}")
    data = told(finding, {"page": page, **own})
    return Outcome(lines=lines, data=data | {"scaling": scaling})


def told_of_several(out, findings, files, page, scaled):
    """Return what several detectors found beside each other, as an `Outcome`."""
    table, pairs = comparison(findings)
    path = out / "comparison.csv"
    flat = [{**line, **line["metrics"]} for line in table]
    names = [name for name in flat[0] if name != "metrics"]
    with open_text(path) as file:
        writer = csv.writer(file)
        writer.writerow(names)
        writer.writerows([line.get(name, "") for name in names] for line in flat)
    n = len(findings[0].score)
    lines = [f"{len(findings)} detectors on {n:,} {findings[0].unit}s:"]
    lines += lines_of(table)
    lines += [
        f"{name}: {words.removeprefix('scaling: ')}"
        for name, (_, scaling, words) in scaled.items()
        if words and scaling != "none"
    ]
    lines.append(
        f"wrote {shown(page)}, {shown(path)} and a folder for each detector in "
        f"{shown(out)}"
    )
    data = {
        "detectors": [
            told(finding, own) | {"scaling": scaled[finding.name].scaling}
            for finding, own in zip(findings, files, strict=True)
        ],
        "comparison": {"table": table, **pairs},
        "files": {"page": page, "comparison": path},
    }
    return Outcome(lines=lines, data=data)


def with_skipped(outcome, skipped, file):
    """Return the outcome with the files that were left out."""
    if file is not None:
        outcome.data["files"]["skipped"] = file
    outcome.data["left_out"] = [
        {"file": name, "reason": reason} for name, reason in skipped
    ]
    outcome.skipped, outcome.skipped_file = skipped, file
    return outcome


def _events_line(finding):
    n = len(finding.events)
    if n == 0:
        return "events: none"
    worst = finding.events[0]
    where = f"{finding.when(worst.start)} to {finding.when(worst.end)}"
    return f"events: {n:,}, the most anomalous from {where}"


def _paths(options):
    """Return what is learned from and what is looked at, as lists of paths."""
    if options.files and options.train:
        raise ValueError(
            f"{shown(options.files[0])}: is named beside --train; --test names what "
            "to look at"
        )
    if options.files and options.test:
        raise ValueError("--test: needs --train, which names what to learn from")
    train = options.train or options.files
    if not train:
        swallowed = [name for name in options.detector or () if Path(name).exists()]
        hint = "; a file stands before --detector, or behind --train"
        raise ValueError(
            "--train is missing, or a file that is searched by itself"
            + (hint if swallowed else "")
        )
    return train, options.test
