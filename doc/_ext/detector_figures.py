"""What the table of the detectors says of measurements, read from benchmarks/results.

Where a detector has not been measured, its cell is empty.
"""

import re
from pathlib import Path
from statistics import mean

from benchmarks._picture_rows import BASELINES, SETS

RESULTS = Path(__file__).parents[2] / "benchmarks" / "results"
# Without pretrained weights a detector of pictures is of use while it loses no more.
LOSS = 0.1

# What stands below the heading of a kind of data: where its quality was measured.
NOTES = {
    "tables": (
        "*Quality*: mean ROC AUC over ten ODDS tables, trained on half of the normal "
        "rows; in brackets the norm of a standardized row. *Flagged*, *seconds*: 1,000 "
        "rows of ten features, in brackets 100 rows and, of those that train no "
        "network, the normal rows of ten tables."
    ),
    "pictures": (
        "*Quality*: ROC AUC over pictures of magnetic tiles, and of cookies, at 128 "
        "pixels, with a ResNet-18 where there is a backbone, the trained ones for some "
        "seconds (:ref:`all figures <pictures-measured>`); in brackets the better of "
        "two baselines on pixels, of tiles. *Flagged*, *seconds*: 31 cookies at 128 "
        "pixels."
    ),
    "series": (
        "*Quality*: mean VUS-PR over two series of NAB and two of UCR; in brackets the "
        "difference of two steps. *Flagged*, *seconds*: an electrocardiogram, UCR 135; "
        "in brackets what else was measured of SMD 1-7, telemanom P-1, NAB nyc_taxi "
        "and three beats of ECG 805, in this order."
    ),
    "edges": "*Quality*: ROC AUC on the DARPA stream, mean of three seeds.",
    "a classifier": (
        "*Quality*: ROC AUC of digits that a small network has not learned, mean of "
        "three seeds; in brackets ``MaxSoftmax``. *Flagged*, *seconds*: 1,000 rows of "
        "ten features, in brackets 100 rows."
    ),
    "any detector": (
        "*Flagged*, *seconds*: ``Mahalanobis`` on 1,000 rows of ten features, in "
        "brackets 100 rows."
    ),
}


def read(name):
    """Return the rows of a file of results, as dicts."""
    path = RESULTS / f"{name}.tsv"
    if not path.exists():
        return []
    lines = path.read_text(encoding="utf-8").splitlines()
    names, *rows = [line.split("\t") for line in lines if line[:1] != "#"]
    return [dict(zip(names, row, strict=False)) for row in rows]


def of_detector(rows, name, column="detector"):
    """Return the rows of a detector, in one setting: that with the fewest words."""
    ends = ("", "(", ",", " ")
    own = [
        row
        for row in rows
        if row[column].startswith(name)
        and row[column][len(name) : len(name) + 1] in ends
    ]
    fewest = min((len(row[column]) for row in own), default=0)
    return [row for row in own if len(row[column]) == fewest]


def where(rows, **values):
    """Return the rows that have these values."""
    return [
        row for row in rows if all(row.get(key) == text for key, text in values.items())
    ]


def first(rows, column):
    """Return the first row's figure, or None."""
    return float(rows[0][column]) if rows and rows[0][column] else None


def average(rows, column):
    """Return the mean of what is known in a column, or None."""
    known = [float(row[column]) for row in rows if row[column] not in ("", "nan")]
    return mean(known) if known else None


def tables(name):
    found = where(read("tables_accuracy"), dataset="mean", setting="semi")
    figure = first(of_detector(found, name), "auc")
    networks = where(read("networks_tables"), dataset="mean of 10", setting="semi")
    if figure is None:
        figure = first(of_detector(where(networks, settings="default"), name), "auc")
    return [figure], first(networks, "norm_auc")


def pictures(name):
    rows = read("images_all")
    figures = [
        average(where(rows, set=data, detector=name), "image_auc") for data in SETS
    ]
    baselines = [
        average(where(rows, set=SETS[0], detector=kind), "image_auc")
        for kind in BASELINES
    ]
    # without tiles, cookies would stand in their place
    return figures if figures[0] is not None else [], max(baselines)


def series(name):
    found = read("series_quality")
    figure = first(of_detector(where(found, series="mean of 4"), name), "vus_pr")
    plain = [
        float(row["vus_pr"])
        for row in where(found, detector="|difference|")
        if row["series"].split("_")[0] in ("nab", "ucr")
    ]
    return [figure], mean(plain) if plain else None


def edges(name):
    found = of_detector(read("series_edges"), name)
    return [mean(float(row["roc_auc"]) for row in found) if found else None], None


def classifiers(name):
    for found in (where(read("ood_digits"), network="mlp"), read("ood_trained")):
        baseline = first(of_detector(found, "MaxSoftmax", "method"), "mean")
        figure = first(of_detector(found, name, "method"), "mean")
        if figure is not None:
            break
    return [figure], baseline


MEASURED = {
    "tables": tables,
    "pictures": pictures,
    "series": series,
    "edges": edges,
    "a classifier": classifiers,
}


def quality(name, kind):
    """Return the figures on real data, beside that of a score without a model."""
    if kind not in MEASURED:
        return ""
    figures, baseline = MEASURED[kind](name)
    known = [f"{figure:.3f}" for figure in figures if figure is not None]
    if not known:
        return ""
    beside = "" if baseline is None else f" ({baseline:.3f})"
    return ", ".join(known) + beside


def weights(cls, kind):
    """Return whether weights from outside are needed to be of use."""
    if kind == "a classifier":
        return "the classifier's"
    if kind == "any detector":
        return "as its detector"
    if "backbone" not in cls._parameter_constraints:
        return "no"
    found = of_detector(where(read("images_quality"), set="cookie"), cls.__name__)
    plain, pretrained = (
        first(where(found, backbone=backbone), "image_auc")
        for backbone in ("gabor", "resnet18")
    )
    if plain is None or pretrained is None:
        return ""
    return "yes" if plain < pretrained - LOSS else "better with"


def threshold_rows(name):
    """Return the measured thresholds of a detector, that of most samples first."""
    found = [row for row in read("thresholds") if row["detector"] == name]
    # of series the one that all are measured on comes first, several sets last
    return sorted(
        found,
        key=lambda row: (
            row["data"] == "ten tables",
            row["data"][:3] != "UCR",
            -int(row["n_train"]),
        ),
    )


def flagged(name):
    """Return the share of fresh normal samples that are flagged by default."""
    shares = [
        f"{100 * float(row['flagged']):.1f}\N{NO-BREAK SPACE}%"
        for row in threshold_rows(name)
    ]
    return shares[0] + "".join(f" ({share})" for share in shares[1:]) if shares else ""


def seconds(name):
    """Return how long a fit takes, with the settings that differ from the defaults."""
    found = threshold_rows(name)
    if not found:
        return ""
    changed = f", {found[0]['settings']}" if found[0]["settings"] else ""
    changed = re.sub(r"max_epochs=(\d+)", r"\1 epochs", changed)
    spent = float(found[0]["fit_s"])
    return (f"{spent:.2g}" if spent < 100 else f"{spent:.0f}") + changed


def figures(cls, kind):
    """Return the cells of a detector that are measured, by column."""
    return {
        "Quality": quality(cls.__name__, kind),
        "Flagged": flagged(cls.__name__),
        "Honest scores": cls._honesty,
        "Seconds": seconds(cls.__name__),
        "Weights": weights(cls, kind),
    }
