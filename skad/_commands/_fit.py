"""What `skad fit` and `skad score` do: learn once, look at what comes later."""

from dataclasses import fields, replace
from pathlib import Path

from skad._commands._checks import reads_missing, refuse
from skad._commands._data import check_options, kind_of, read_new
from skad._commands._detect import (
    check_events,
    models_and_data,
    scaling_of,
    told_of_one,
    with_skipped,
)
from skad._commands._model import Model, check_model_file, load_model, save_model
from skad._commands._outcome import Outcome
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
from skad._commands._scaling import Scaled
from skad.datasets._words import shown
from skad.inspection._inspected import last_step

_UNITS = {"tables": "row", "series": "time step", "pictures": "picture"}


def fit(options):
    """Fit a detector and write it into a file.

    Parameters
    ----------
    options : namespace
        Those of the command line.

    Returns
    -------
    outcome : Outcome
    """
    reading = Reading.of(options)
    kind = kind_of(reading, options.train)
    models, data, chosen = models_and_data(
        options, kind, reading, options.train, None, only_learn=True
    )
    if len(models) > 1:
        raise ValueError(
            "--detector: a model holds one; `skad detect` compares several"
        )
    [(name, model)] = models.items()
    inputs = data.inputs or data.train.X.paths
    check_model_file(options.out, inputs)
    model, scaling, words = scaled_for(model, data, scaling_of(options))
    warn_of_scaling(words)
    learned = learn(model, name, data, progress=options.progress)
    saved = Model(
        kind=kind,
        learned=learned,
        reading=data.reading,
        scaling=scaling,
        columns=data.columns,
        image_shape=data.image_shape,
        known_labels=data.known_labels,
    )
    save_model(saved, options.out)
    unit = _UNITS[kind]
    lines = [*chosen, *data.notes]
    lines.append(f"{name}: learned from {learned.n_train:,} {unit}s{_of(data)}")
    lines[-1] += f", threshold {learned.threshold:.6g}: {learned.meaning}"
    if words and scaling != "none":
        lines.append(words)
    lines.append(f"wrote {shown(options.out)}")
    found = {
        "command": "fit",
        "kind": kind,
        "detector": name,
        "setting": learned.setting,
        "chosen_because": chosen[0] if chosen else None,
        "notes": data.notes,
        "scaling": scaling,
        "unit": unit,
        "learned_from": learned.n_train,
        "columns": data.columns,
        "threshold": learned.threshold,
        "threshold_meaning": learned.meaning,
        "fit_seconds": learned.fit_seconds,
        "files": {"model": Path(options.out)},
    }
    outcome = Outcome(lines=lines, data=found)
    return with_skipped(outcome, data.skipped, None)


def score(options):
    """Look at new data with a model of `fit`, and write a report.

    Parameters
    ----------
    options : namespace
        Those of the command line.

    Returns
    -------
    outcome : Outcome
    """
    model = load_model(options.model)
    reading = _merged(model.reading, Reading.of(options))
    new = kind_of(reading, options.new)
    if (new == "pictures") != (model.kind == "pictures"):
        raise ValueError(
            f"{shown(options.new[0])}: holds {new}, and {shown(options.model)} looks "
            f"at {model.kind}"
        )
    check_options(model.kind, reading)
    if model.kind != "pictures":
        refuse(model.kind, {"--maps": options.maps})
    if model.kind != "series":
        events = {"--merge-gap": options.merge_gap or None}
        refuse(model.kind, events | {"--min-duration": options.min_duration or None})
    detector = last_step(model.learned.detector)
    nan = model.kind == "series" and reads_missing(detector)
    data = read_new(model, options.new, reading, allow_nan=nan)
    check_events(data, options)
    out = Path(options.out)
    data.inputs.append(options.model)
    prepare(out, data, options.maps)
    findings = look(model.learned, data, out, options, progress=options.progress)
    files = write_findings(out, findings, data)
    skipped_file = write_skipped(out, data.skipped)
    name = model.learned.name
    page = write_page(out, [findings], f"{name} on {findings.title}")
    scaled = {name: Scaled(None, model.scaling, "")}
    outcome = told_of_one(out, [findings], [files], page, scaled)
    outcome.lines[:0] = data.notes
    outcome.data = {
        "command": "score",
        "kind": model.kind,
        "notes": data.notes,
        "model": shown(options.model),
        **outcome.data,
    }
    return with_skipped(outcome, data.skipped, skipped_file)


def _merged(own, asked):
    """Return how a model's files are read, but for what is said anew."""
    default = Reading()
    said = {
        field.name: getattr(asked, field.name)
        for field in fields(Reading)
        if getattr(asked, field.name) != getattr(default, field.name)
    }
    return replace(own, **said)


def _of(data):
    if data.kind == "pictures":
        height, width, _ = data.image_shape
        return f" of {height} x {width} pixels"
    what = "channel" if data.kind == "series" else "feature"
    n = len(data.columns)
    return f" of {n} {what}{'s' if n > 1 else ''}"
