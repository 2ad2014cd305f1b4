"""What `skad list` says: the detectors by what they look at, a line each."""

from skad._commands._build import summaries
from skad._commands._outcome import Outcome
from skad._names import did_you_mean

# What kinds are called on the command line.
KINDS = {
    "tables": "tables",
    "pictures": "pictures",
    "series": "series",
    "classifiers": "a classifier",
}


def listed(kinds=()):
    """Return the detectors that look at some kinds of data, as an `Outcome`.

    Parameters
    ----------
    kinds : sequence of str, default=()
        Of "tables", "pictures", "series" and "classifiers"; none is all.

    Returns
    -------
    outcome : Outcome
    """
    for kind in kinds:
        if kind not in KINDS:
            raise ValueError(
                f"no kind of data is called {kind!r}, but {', '.join(KINDS)}"
                f"{did_you_mean(kind, KINDS)}"
            )
    found = summaries()
    shown = {kind: found[KINDS[kind]] for kind in KINDS if not kinds or kind in kinds}
    width = max(len(name) for lines in shown.values() for name, _ in lines)
    lines = []
    for kind, own in shown.items():
        lines += ["", f"Detectors on {KINDS[kind]}:"]
        lines += [f"  {name:<{width}}  {summary}" for name, summary in own]
    detectors = [
        {"name": name, "kind": kind, "summary": summary}
        for kind, own in shown.items()
        for name, summary in own
    ]
    data = {"command": "list", "n_detectors": len(detectors), "detectors": detectors}
    return Outcome(lines=lines[1:], data=data)
