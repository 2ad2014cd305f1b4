"""Rows of the table of all detectors of pictures: what has none, what is weak, and why.

A new detector of pictures is measured by ``bench_images_all.py``, or stands in
`LEFT_OUT`; where it ends below the better of the two baselines on pixels, it has its
reason in `REASONS`.
"""

SETS = ("magnetic_tile", "cookie")
BASELINES = ("mean_picture", "nearest_picture")
COLUMNS = (
    "set detector backbone seed settings epochs default_epochs steps image_auc"
    " pixel_auc aupro flagged fit_cpu_s score_cpu_ms peak_mb note reason"
).split()
KEY = COLUMNS[:4]
# Without a row, and why. What is not measured yet is measured by the next run.
NOT_YET = "not measured yet"
LEFT_OUT = {
    "DOC": "needs pictures of other things, with their classes",
    "DRA": "needs known anomalies",
    "MixedSupervision": "needs known anomalies, some with masks",
    "PatchDetector": "has no method of its own: PaDiM and PatchCore are such ones",
    "VideoGAN": "needs pairs of a frame and its motion, which single pictures are not",
    "TiledDetector": "cuts large pictures for another detector",
}
# Those that take pairs of pictures.
PAIRS = {"VideoGAN"}
_FEW = "so few steps leave a network that begins at random far from what it can learn"
_CLOSE = "no further below than 46 aligned pictures can tell apart"
_TEXTURE = "made for one even texture, which neither set is"
# Why a detector is below the better of the baselines: a text, or one for each set.
REASONS = {
    "ADShift": {"cookie": _FEW},
    "AVID": _FEW,
    "AST": f"{_FEW}, and a rate for thousands of steps",
    "AnoSeg": _FEW,
    "CDO": _FEW,
    "CFA": {"cookie": _CLOSE},
    "CNNSelfSimilarity": {
        "cookie": "regions are compared in whatever place, and cookies are aligned"
    },
    "CPC": {"cookie": _CLOSE},
    "CSFlow": f"{_FEW}, and a rate for thousands of steps",
    "CompressedSensingTexture": _TEXTURE,
    "CutPaste": {"cookie": _FEW},
    "DAF": {"cookie": _FEW},
    "DFR": {"cookie": _CLOSE},
    "DMAD": {"cookie": _FEW},
    "DeSTSeg": {"cookie": _FEW},
    "ELSA": {"cookie": _FEW},
    "EfficientAD": _FEW,
    "FOD": {"cookie": _FEW},
    "FastFlow": {"cookie": _FEW},
    "GCPF": {"cookie": _CLOSE},
    "GLASS": {"cookie": _FEW},
    "GLCF": _FEW,
    "GaussianAD": {"cookie": "one Gaussian of whole pictures, learned from 31"},
    "IKD": {"cookie": _FEW},
    "MuSc": {"cookie": "patches are compared in whatever place, at its third layer"},
    "MKD": _FEW,
    "MultiscaleSparseCoding": _TEXTURE,
    "OCRGAN": _FEW,
    "PositiveSamples": _FEW,
    "SPADE": {"cookie": _CLOSE},
    "SetFeatures": {"cookie": _CLOSE},
    "SSD": _FEW,
    "SoftPatch": {"cookie": _CLOSE},
    "SuperSimpleNet": _FEW,
    "Texems": _TEXTURE,
    "MeanShifted": {"cookie": _CLOSE},
    "MemKD": {"cookie": _CLOSE},
    "PANDA": {"cookie": _CLOSE},
    "PFM": {"cookie": _FEW},
    "PyramidFlow": {"cookie": _FEW},
    "RDPlusPlus": {"cookie": _FEW},
    "RSTDN": {"cookie": _FEW},
    "RSTPM": {"cookie": _FEW},
    "ReContrast": {"cookie": _FEW},
    "SemiREST": {"cookie": _FEW},
}


def rows_of(path):
    """Return the rows of a file as dicts."""
    lines = path.read_text().splitlines() if path.exists() else []
    lines = [line.split("\t") for line in lines if line[:1] != "#"]
    return [dict(zip(lines[0], row, strict=True)) for row in lines[1:]]


def below(rows):
    """Return rows (dicts) below the better of their set's baselines.

    Those without figures are none: their note says why they have none.
    """
    best = {}
    for row in rows:
        if row["detector"] in BASELINES:
            best[row["set"]] = max(best.get(row["set"], 0), float(row["image_auc"]))
    return [
        row
        for row in rows
        if row["detector"] not in BASELINES
        and float(row["image_auc"]) < best[row["set"]]
    ]


def reason(row):
    """Return why a row (a dict) is below the baseline, empty where nobody knows."""
    words = REASONS.get(row["detector"], "")
    return words.get(row["set"], "") if isinstance(words, dict) else words
