"""The decision chart: which detector to begin with, as a drawing with links.

Two drawings of the same tree, of which the page shows the one that fits its width: the
kinds of data beside each other, or below each other.
"""

from html import escape
from textwrap import wrap

# What the data are; and of each kind what is known or wanted, and where to begin then.
TREE = {
    "Rows of a table": [
        ("some anomalies are labelled", ["SVDD", "DeepSAD"]),
        ("a first answer in milliseconds, feature by feature", ["ECOD", "HBOS"]),
        ("one cloud, features that go together", ["Mahalanobis"]),
        ("any shape, up to some 100,000 rows", ["KNN", "KDE"]),
        ("any shape, here dense and there thin", ["LOF", "GMM"]),
        ("millions of rows, or features without a common unit", ["IsolationForest"]),
        (
            "many features that say the same in few ways",
            ["PCAReconstruction", "MatrixSketch"],
        ),
        (
            "hundreds of features, 10,000 rows and minutes to train",
            ["AutoEncoder", "RaPP"],
        ),
        ("anomalies among the training rows", ["IsolationForest", "OneClassSVM"]),
    ],
    "Pictures": [
        ("the same part in the same place", ["PaDiM"]),
        ("textures or parts that lie anyhow, tens of pictures", ["PatchCore"]),
        ("defects much smaller than large pictures", ["TiledDetector"]),
        ("hundreds of pictures, a GPU and many to score", ["STFPM", "FastFlow"]),
        ("what is wrong is large, not a spot", ["ReverseDistillation", "DFR"]),
        ("small pictures, rows of pixels", ["AutoEncoder", "KNN"]),
        ("a detector of tables on their patches", ["PatchDetector"]),
    ],
    "Time series": [
        ("an odd shape in what repeats, nothing to train on", ["MatrixProfile"]),
        ("the same while steps come in", ["LeftMatrixProfile"]),
        ("an odd shape, after a normal stretch", ["SubsequenceKNN", "KMeansAD"]),
        ("single spikes and jumps", ["SpectralResidual"]),
        ("a process that changes slowly", ["PASAD"]),
        ("channels that foretell each other, and minutes to train", ["LSTMForecaster"]),
        ("each step by itself, or any detector of tables", ["WindowDetector"]),
        ("edges of a graph, as they come", ["MIDAS", "MIDASR"]),
    ],
    "What a classifier sees": [
        ("its outputs alone", ["Energy", "MaxSoftmax"]),
        ("its features and its training data", ["KNNOOD", "ViM"]),
        ("classes that are clouds, near outliers", ["RelativeMahalanobis"]),
        ("outliers to train with", ["OutlierExposure"]),
    ],
    "Any, when alarms have to": [
        ("keep a rate that is guaranteed", ["ConformalDetector"]),
        ("be rarer than training samples can show", ["EVTThreshold"]),
        ("follow labels, or a precision", ["ThresholdTuner"]),
        ("come as probabilities", ["ProbabilityCalibrator"]),
    ],
}
# Which kinds stand below each other where there is room for columns.
COLUMNS = [
    ["Rows of a table"],
    ["Pictures"],
    ["Time series"],
    ["What a classifier sees", "Any, when alarms have to"],
]
TITLE = "Which detector to begin with"

WIDTH, GAP = 272, 24  # of a column, between columns
LINE, PILL, HEAD = 17, 26, 34  # heights: of text, of a link, of a heading
INDENT = 20
CHARACTERS = 36  # of a line of text in a column
LETTER = 7.9  # width of a letter in a link


def box(kind, x, y, width, height, text):
    """Return a box with its text in the middle."""
    return (
        f'<rect class="{kind}" x="{x:g}" y="{y:g}" width="{width:g}" '
        f'height="{height:g}" rx="{height / 2 if kind == "leaf" else 4:g}"/>'
        f'<text class="{kind}" x="{x + width / 2:g}" y="{y + height / 2 + 4.5:g}" '
        f'text-anchor="middle">{escape(text)}</text>'
    )


def column(kind, x, y, link):
    """Return the drawing of a kind of data at (x, y), and where it ends."""
    parts = [box("head", x, y, WIDTH, HEAD, kind)]
    top, y = y + HEAD, y + HEAD + 10
    for words, names in TREE[kind]:
        middle = y + LINE / 2
        parts.append(f'<path class="line" d="M{x + 8:g} {middle:g}h{INDENT - 12}"/>')
        for line in wrap(words, CHARACTERS):
            parts.append(
                f'<text x="{x + INDENT:g}" y="{y + 13:g}">{escape(line)}</text>'
            )
            y += LINE
        y, left = y + 4, x + INDENT
        for name in names:
            width = LETTER * len(name) + 20
            if left + width > x + WIDTH:
                y, left = y + PILL + 4, x + INDENT
            drawn = box("leaf", left, y, width, PILL, name)
            parts.append(f'<a href="{link(name)}">{drawn}</a>')
            left += width + 6
        y += PILL + 12
    parts.insert(0, f'<path class="line" d="M{x + 8:g} {top:g}V{middle:g}"/>')
    return parts, y


def chart(columns, name, link):
    """Return the tree as SVG, with the kinds of data in columns.

    Parameters
    ----------
    columns : list of list of str
        The kinds, from left to right, and in each column from the top.
    name : str
        Class of the drawing, and what its title's id begins with.
    link : callable
        Returns where the name of a detector leads.
    """
    total = len(columns) * (WIDTH + GAP) - GAP
    root = min(total, 300)
    parts = [box("root", (total - root) / 2, 1, root, HEAD, "What are the data?")]
    rail, begin, bottom = HEAD + 15, HEAD + 29, 0
    centres = [i * (WIDTH + GAP) + WIDTH / 2 for i in range(len(columns))]
    rails = f"M{total / 2:g} {HEAD + 1}V{rail}M{centres[0]:g} {rail}H{centres[-1]:g}"
    rails += "".join(f"M{centre:g} {rail}V{begin}" for centre in centres)
    parts.append(f'<path class="line" d="{rails}"/>')
    for i, kinds in enumerate(columns):
        y = begin
        for kind in kinds:
            drawn, y = column(kind, i * (WIDTH + GAP), y, link)
            parts += drawn
            y += 8
        bottom = max(bottom, y)
    return (
        f'<svg class="decision-chart {name}" viewBox="-1 0 {total + 2} {bottom:g}" '
        f'width="{total + 2}" height="{bottom:g}" role="group" '
        f'aria-labelledby="{name}-title"><title id="{name}-title">{TITLE}</title>'
        + "".join(parts)
        + "</svg>"
    )


def both(link):
    """Return the wide and the narrow drawing."""
    stacked = [[kind for kinds in COLUMNS for kind in kinds]]
    return chart(COLUMNS, "wide", link) + chart(stacked, "narrow", link)
