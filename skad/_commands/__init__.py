"""What `python -m skad` does: detect in files, demonstrate, list the detectors."""

from skad._commands._build import build_detector, summaries, trains_network
from skad._commands._demo import demo, demonstrated
from skad._commands._detect import detect

__all__ = [
    "build_detector",
    "demo",
    "demonstrated",
    "detect",
    "summaries",
    "trains_network",
]
