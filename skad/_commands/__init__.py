"""What the command line does: detect, fit, score, demonstrate, list the detectors."""

from skad._commands._build import build_detector, summaries, trains_network
from skad._commands._demo import demo, demonstrated
from skad._commands._detect import detect
from skad._commands._fit import fit, score
from skad._commands._list import listed

__all__ = [
    "build_detector",
    "demo",
    "demonstrated",
    "detect",
    "fit",
    "listed",
    "score",
    "summaries",
    "trains_network",
]
