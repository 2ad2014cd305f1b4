"""What a command has to say, as lines of text and as one JSON object."""

import math
from dataclasses import dataclass, field

import numpy as np

import skad
from skad.datasets._words import shown

_TOP = 10  # of the most anomalous samples, and of events


@dataclass(kw_only=True)
class Outcome:
    """What a command has to say.

    Parameters
    ----------
    lines : list of str
        For standard output.
    data : dict
        The same as JSON, without the version of skad and the warnings.
    skipped : list of (str, str), default=[]
        Files that were left out, with the reason.
    skipped_file : Path or None, default=None
        Where they are listed.
    """

    lines: list
    data: dict
    skipped: list = field(default_factory=list)
    skipped_file: object = None

    def json(self, warned):
        """Return everything as one JSON object, floats that are no numbers as null."""
        return plain({"skad": skad.__version__, **self.data, "warnings": list(warned)})


def plain(value):
    """Return a value as what JSON holds."""
    if isinstance(value, dict):
        return {str(key): plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [plain(each) for each in value]
    if isinstance(value, np.ndarray):
        return plain(value.tolist())
    if isinstance(value, np.generic):
        return plain(value.item())
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, bool | int):
        return value
    return shown(value)  # names of files, too, that the terminal's encoding broke


def headline(findings):
    """Return what was flagged, in one line."""
    flagged, n = int(findings.flagged.sum()), len(findings.score)
    return (
        f"{findings.name}: flagged {flagged} of {n} {findings.unit}s "
        f"({flagged / n:.1%}), threshold {findings.threshold:.6g}: {findings.meaning}"
    )


def told(findings, files):
    """Return what one detector found, for JSON.

    Parameters
    ----------
    findings : Findings
        What was found.
    files : dict of str to Path
        What was written.
    """
    found = {
        "detector": findings.name,
        "setting": findings.setting,
        "data": findings.title,
        "unit": findings.unit,
        "learned_from": findings.n_train,
        "looked_at": len(findings.score),
        "flagged": int(findings.flagged.sum()),
        "flagged_share": float(findings.flagged.mean()),
        "threshold": findings.threshold,
        "threshold_meaning": findings.meaning,
        "metrics": findings.metrics,
        "fit_seconds": findings.fit_seconds,
        "score_seconds": findings.score_seconds,
        "top_anomalies": _top(findings),
    }
    if hasattr(findings, "events"):
        found["n_events"] = len(findings.events)
        found["top_events"] = [
            _event(event, findings) for event in findings.events[:_TOP]
        ]
    return found | {"files": files}


def _top(findings):
    order = np.argsort(findings.score, kind="stable")[:_TOP]
    identity, places = findings.identity(), findings.places()
    top = []
    for row in order:
        line = {"row": int(row)}
        line |= {name: values[row] for name, values in identity.items()}
        line |= {"score": findings.score[row], "decision": findings.decision[row]}
        line["label"] = -1 if findings.flagged[row] else 1
        if findings.y is not None:
            line["true_label"] = int(findings.y[row])
        line |= {name: values[row] for name, values in places.items()}
        top.append(line)
    return top


def _event(event, findings):
    line = {"start": event.start, "end": event.end, "peak": event.peak}
    if findings.time is not None:
        names = ("start_time", "end_time", "peak_time")
        line |= {name: getattr(event, name) for name in names}
    if findings.groups is not None:
        line["group"] = findings.groups[event.start]
    line |= {"steps": event.n_steps, "score": event.score}
    return line | {"channels": list(event.channels)}
