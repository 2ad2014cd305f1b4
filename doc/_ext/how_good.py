"""Figures of quality and speed for the manual's text, read from benchmarks/results."""

from importlib import import_module

import picture_table
from detector_figures import MEASURED, NOTES, RESULTS, figures, read, where
from detector_rows import KINDS, kind

import skad
from benchmarks import _readme
from skad.base import BaseDetector

SHOWN = ("Quality", "Flagged", "Seconds")  # of the table of all detectors


def figure(text):
    """Return a figure in three digits, empty where nobody has measured it."""
    return "" if text in ("", "-", "nan") else f"{float(text):.3f}"


def quality_of(name):
    """Return the figure of a detector on real data, the first where there are two."""
    cls = getattr(skad, name)
    found = MEASURED[kind(cls)](name)[0]
    known = [value for value in found if value is not None]
    if not known:
        raise ValueError(f"benchmarks/results have no figure of {name}")
    return f"{known[0]:.3f}"


def cell(words):
    """Return a cell of a file: "file column key=value ...", which one row matches."""
    name, column, *pairs = words.split()
    rows = where(read(name), **dict(pair.split("=", 1) for pair in pairs))
    if len(rows) != 1:
        raise ValueError(f"{words!r} matches {len(rows)} rows of benchmarks/results")
    return figure(rows[0][column])


def family_tables(family):
    """Yield (note, rows) of a family's detectors, by what they look at."""
    module = import_module(f"skad.{family}")
    members = [getattr(module, name) for name in sorted(module.__all__)]
    found = {}
    for cls in members:
        if isinstance(cls, type) and issubclass(cls, BaseDetector):
            cells = figures(cls, kind(cls))
            cells = {name: cells[name] for name in SHOWN}
            if any(cells.values()):
                row = {"Detector": f"``{cls.__name__}``"} | cells
                found.setdefault(kind(cls), []).append(row)
    for looked_at in KINDS:
        if looked_at in found:
            yield NOTES[looked_at], found[looked_at]


def beside_peers():
    """Return {title: (note, rows)} of the figures of quality, beside those of peers."""
    tables = [
        {
            "Detector": f"``{row['detector'].replace(',', ', ')}``",
            "ROC AUC": figure(row["auc"]),
            "PyOD": figure(row["peer_auc"]),
        }
        for row in [
            *where(read("tables_accuracy"), dataset="mean", setting="semi"),
            *(
                row | {"detector": f"{row['detector']}()"}
                for row in where(
                    read("networks_tables"),
                    dataset="mean of 10",
                    setting="semi",
                    settings="default",
                )
            ),
        ]
    ]
    return {
        "Rows of a table": (
            "Mean ROC AUC over ten ODDS tables, trained on half of the normal rows, "
            "with the defaults but for what is named; PyOD's method of that kind, on "
            "the same rows.",
            tables,
        ),
        "Time series": (
            "Mean VUS-PR over two series of NAB and two of UCR, beside the "
            "implementation that is named.",
            [
                {
                    "Detector": f"``{row['detector']}``",
                    "VUS-PR": figure(row["vus_pr"]),
                    "Peer": row["peer"],
                    "Peer's VUS-PR": figure(row["peer_vus_pr"]),
                }
                for row in where(read("series_quality"), series="mean of 4")
            ],
        ),
        "Pictures": picture_table.pictures(),
        "Around a classifier": (
            "ROC AUC of digits that a small network has not learned, mean of three "
            "seeds, beside pytorch-ood.",
            [
                {
                    "Detector": f"``{row['method']}``",
                    "ROC AUC": figure(row["mean"]),
                    "pytorch-ood": figure(row["peer_mean"]),
                }
                for row in where(read("ood_digits"), network="mlp")
            ],
        ),
    }


def times():
    """Return the rows of README's table of times, without the dates."""
    parts = _readme.tables, _readme.series, _readme.classifiers, _readme.pictures
    rows = [row[:-1] for part in parts for row in part(RESULTS)]
    return [
        {
            name: text.replace("`", "``")
            for name, text in zip(_readme.HEAD[:-1], row, strict=True)
        }
        for row in rows
    ]


def networks():
    """Return the times of networks beside PyOD's and DeepOD's."""
    return [
        {
            "Work": row["work"],
            "Ours, s": f"{float(row['ours_s']):.2g}",
            "Theirs, s": f"{float(row['peer_s']):.2g}",
            "Theirs over ours": _readme.times(row["ratio"]),
            "Note": row["note"],
        }
        for row in read("networks_speed")
    ]


def grid():
    """Return theirs over ours by detector and size, seconds of a CPU, one row each."""
    works = {
        "fit": "Fit",
        "fit, same threshold": "Fit, same threshold",
        "score 1,000 rows": "1,000 rows",
        "score one row": "One row",
    }
    found = {}
    for row in read("tables_grid"):
        key = row["detector"], row["n"], row["d"]
        empty = {"Detector": f"``{key[0]}``", "Rows": key[1], "Features": key[2]}
        own = found.setdefault(key, empty | dict.fromkeys(works.values(), ""))
        own[works[row["work"]]] = _readme.times(row["ratio"]) if row["ratio"] else "-"
    return list(found.values())


def grid_ratios():
    """Return all ratios of `grid`."""
    return [float(row["ratio"]) for row in read("tables_grid") if row["ratio"]]


def balance(ratios):
    """Return how many comparisons of times are won and lost, in a sentence."""
    won = sum(ratio >= 1 for ratio in ratios)
    return (
        f"Of {len(ratios)} comparisons of time skad is as fast or faster in {won}, and "
        f"slower in {len(ratios) - won}."
    )
