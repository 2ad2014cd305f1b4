"""The table of all detectors of pictures, from benchmarks/results/images_all.tsv."""

from detector_figures import average, read, where

from benchmarks._picture_rows import LEFT_OUT, SETS

NAMES = {
    "mean_picture": "distance to the mean picture",
    "nearest_picture": "nearest picture, pixel by pixel",
}
NOTE = (
    "80 magnetic tiles to train on and 160 to score, half of them broken, and 31 "
    "cookies and 46, of which 32 are cracked, at 128 x 128 pixels on one core; no peer "
    "was run. Backbones are a ResNet-18 up to its third layer, whatever the method has "
    "of its own, and all else are the defaults, but that trainings end after few "
    "seconds: how many of the default's epochs these are stands beside. None of these "
    "figures says what a method reaches that is trained for hours. *Pictures* and "
    "*pixels* are ROC AUC, AUPRO is the area under the per-region overlap, *flagged* "
    "is the share of good test pictures that ``predict`` calls anomalies; where there "
    "are two figures, they are of tiles and of cookies, and where there is one, the "
    "cookies are not measured yet. Seconds are of a processor, MB those of the whole "
    "process. What is below the better of the two baselines on pixels has its reason "
    "beside it. Without a row are {left_out}."
)


def digits(value, form=".3f"):
    """Return a figure, empty where there is none, without an exponent."""
    if value is None:
        return ""
    return format(value, ".0f" if form == ".2g" and value >= 100 else form)


def pair(rows, column, form=".3f"):
    """Return a figure of tiles and, where it is known, of cookies."""
    tiles, cookies = (
        digits(average(where(rows, set=name), column), form) for name in SETS
    )
    return f"{tiles or '-'}, {cookies}" if cookies else tiles


def epochs(rows):
    """Return how many epochs of the default's there were, on each set."""
    found = []
    for name in SETS:
        own = where(rows, set=name)
        done, whole = (average(own, key) for key in ("epochs", "default_epochs"))
        if done is not None:
            found.append("all" if done >= whole else f"{done:.0f} of {whole:.0f}")
    return found[0] if len(set(found)) == 1 else ", ".join(found)


def remarks(rows):
    """Return reasons and notes, each once."""
    short = {"magnetic_tile": "tiles", "cookie": "cookies"}
    found = {}
    for row in rows:
        words = "; ".join(filter(None, (row["note"], row["reason"])))
        if words:
            found.setdefault(words, {})[short[row["set"]]] = None
    return "; ".join(
        words if len(sets) == len(SETS) else f"{' and '.join(sets)}: {words}"
        for words, sets in found.items()
    )


def pictures():
    """Return (note, rows) of all that was measured, the best on tiles first."""
    found = {}
    for row in read("images_all"):
        found.setdefault(row["detector"], []).append(row)
    first = {
        name: [average(where(rows, set=data), "image_auc") or 0.0 for data in SETS]
        for name, rows in found.items()
    }
    table = []
    for name in sorted(found, key=first.get, reverse=True):
        rows = found[name]
        settings = "".join(
            f", ``{one}``" for one in {row["settings"]: 0 for row in rows} if one
        )
        cells = {"Detector": NAMES.get(name, f"``{name}``{settings}")}
        for data, title in zip(SETS, ("Tiles", "Cookies"), strict=True):
            own = average(where(rows, set=data), "image_auc")
            cells[f"{title}: pictures"] = digits(own)
        cells |= {
            "Pixels": pair(rows, "pixel_auc"),
            "AUPRO": pair(rows, "aupro"),
            "Flagged": pair(rows, "flagged", ".0%"),
            "Epochs": epochs(rows),
            "Fit, s": pair(rows, "fit_cpu_s", ".2g"),
            "A picture, ms": pair(rows, "score_cpu_ms", ".2g"),
            "MB": pair(rows, "peak_mb", ".0f"),
            "Why it is below a baseline": remarks(rows),
        }
        table.append(cells)
    left_out = ", ".join(f"``{name}`` ({why})" for name, why in LEFT_OUT.items())
    return NOTE.format(left_out=left_out), table
