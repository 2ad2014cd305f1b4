"""What the table of the detectors says, read from classes and their docstrings.

A row says of a detector what its class and its docstring say. Nothing is written by
hand a second time: a new detector is in the table as soon as it is in `__all__`.
"""

import inspect
import re
import sys

from skad._commands._build import kind_of_data

KINDS = {
    "tables": "Rows of a table",
    "pictures": "Pictures",
    "series": "Time series",
    "edges": "Edges of a graph",
    "a classifier": "Around a classifier",
    "any detector": "Around any detector",
}
INPUTS = {
    "tables": "rows",
    "edges": "edges in the order of time",
    "a classifier": "what its classifier takes",
    "any detector": "what its detector takes",
}
ELEMENTS = {
    "tables": "features",
    "pictures": "pixels",
    "series": "steps and channels",
    "edges": "columns of an edge",
    "a classifier": "elements of the input",
    "any detector": "as its detector",
}
# What a class says of its map, in few words: the first that its text has.
RELATIONS = {
    "depends on the kernel": "relevance, which depends on the kernel",
    "attributes": "attributes the score by ``attribution``",
    "integrated gradient": "integrated gradients of the score",
    "the step's own": "of the windows' maps the part of the step itself",
    "of the step itself": "of the windows' maps the part of the step itself",
    "members' maps": "combined from its members' maps",
    "tiles' maps": "put together from the tiles' maps",
    "the score is its maximum": "the anomaly of each place; the score is the maximum",
    "interpolated": "the anomaly of each place",
    "squared error": "the squared error of the reconstruction",
    "residual": "the residual of the reconstruction",
    r"|x - \hat x|": "the residual of the reconstruction",
    "(x - R(x))^2": "the squared error of the reconstruction",
    "path": "what each split does to the length of the path",
    "its largest is the anomaly": "the score is the largest",
    "responsibilities": "relevance under the clouds that a row belongs to",
    "the relevance": "relevance",
}
COST = re.compile(r"O\(|\b[Cc]osts?\b|\blinear in\b")
SENTENCE = re.compile(r"(?<=[.])\s+(?=[A-Z`:])")


def sections(cls):
    """Return {title: lines} of a numpydoc docstring, all before the first under ""."""
    found, title = {"": []}, ""
    lines = inspect.getdoc(cls).splitlines()
    for line, following in zip(lines, [*lines[1:], ""], strict=True):
        if line and following and set(following) == {"-"}:
            title = line
            found[title] = []
        elif set(line) != {"-"}:
            found[title].append(line)
    return found


def plain(lines):
    """Return paragraphs as one line of reST without citations."""
    return re.sub(r"\s*\[\d+\]_", "", " ".join(" ".join(lines).split()))


def first_reference(doc):
    """Return authors, title and year of the paper that a docstring names first."""
    text = " ".join(" ".join(doc["References"]).split())
    entry = re.split(r"\.\. \[\d+\] ", text)[1]
    authors, title = re.match(r'(.+?), "(.+?),?"', entry).groups()
    entry = re.sub(r"arXiv[:.]? ?\d+\.\d+", "", entry)
    return authors, title, re.findall(r"\b(?:1[89]|20)\d\d\b", entry)[-1]


def short(authors):
    """Return the surnames of one or two authors, of more the first one's."""
    names = re.split(r",? and |, ", authors.replace(" et al.", ", et al."))
    surname = re.compile(r"^(?:[\w.-]+\. )*")
    first = surname.sub("", names[0])
    if len(names) == 1:
        return first
    second = surname.sub("", names[1])
    return (
        f"{first} et al."
        if len(names) > 2 or second == "et al."
        else (f"{first} and {second}")
    )


def paper(doc):
    authors, title, year = first_reference(doc)
    return f"{short(authors)} ({year}), *{title}*"


def kind(cls):
    """Return what a detector looks at, a key of `KINDS`."""
    own = {"detector": "any detector", "edges": "edges"}
    return own.get(cls._data) or kind_of_data(cls)


def data(cls):
    """Return what a detector takes."""
    found = INPUTS.get(kind(cls), kind(cls))
    if kind(cls) == "tables" and "image_shape" in cls._parameter_constraints:
        found += ", pictures"
    allowed = cls().__sklearn_tags__().input_tags.allow_nan
    allowed = allowed or "missing" in cls._parameter_constraints
    return found + (", also with NaN" if allowed else "")


def labels(cls):
    """Return the labels that `fit` uses, which is what its module looks at."""
    required = cls().__sklearn_tags__().target_tags.required
    optional = "" if required else ", optional"
    if kind(cls) == "a classifier":
        return f"classes{optional}"
    checks = {"check_labels", "known_labels"} & set(vars(sys.modules[cls.__module__]))
    if checks or getattr(cls(), "_uses_labels", False):
        # of those around a detector some need them in one of their settings
        return "known anomalies" + optional * (kind(cls) != "any detector")
    holds = "detector" in cls._parameter_constraints
    passes = hasattr(cls, "_uses_labels") or kind(cls) == "any detector"
    return "what its detector uses" if holds and passes else "none"


def localization(cls, doc):
    """Return what the map is over, and how the class says it relates to the score."""
    elements = ELEMENTS[kind(cls)]
    if kind(cls) == "any detector":
        return elements
    if cls()._map_sums_to_score:
        return f"{elements}; sums to the score"
    text = plain(doc[""][1:])
    said = re.split(r"(?:The map|and the map|; the map)\b", text, maxsplit=1)[-1]
    words = next((words for key, words in RELATIONS.items() if key in said), None)
    if words is None:
        words = re.split(r"[,.:;](?=\s|$)", said, maxsplit=1)[0].strip()
        words = re.sub("^is ", "", words)
    return f"{elements}; {words}"


def cost(cls, doc):
    """Return what the Notes say of the cost, and the epochs of a network."""
    notes = SENTENCE.split(plain(doc["Notes"]))
    parts = [part for note in notes for part in re.split(r"(?<=[^ ])[;:] ", note)]
    found = [part for part in parts if "O(" in part]
    found = found or [sentence for sentence in notes if COST.search(sentence)][:1]
    if "max_epochs" in cls._parameter_constraints:
        epochs = cls().max_epochs
        epochs = "at most 50" if epochs == "auto" else epochs
        found.insert(0, f"Trains {epochs} epochs of a network")
    if not found and "detector" in cls._parameter_constraints:
        found = ["What its detector costs"]
    found = [part.rstrip(".") for part in found[:3]]
    lower = [re.sub("^[A-Z](?=[a-z])", lambda m: m[0].lower(), part) for part in found]
    return "; ".join([*found[:1], *lower[1:]])


def row(cls):
    """Return the cells of a detector, by column."""
    doc = sections(cls)
    return {
        "Detector": f"``{cls.__name__}``",
        "Finds": cls.__doc__.split("\n")[0].removesuffix("."),
        "Paper": paper(doc),
        "Input": data(cls),
        "Labels": labels(cls),
        "Localization": localization(cls, doc),
        "Cost": cost(cls, doc),
    }
