from skad.stream._half_space_trees import HalfSpaceTrees as HalfSpaceTrees
from skad.stream._prequential import stream_scores as stream_scores
from skad.stream._rrcf import RRCF as RRCF
from skad.stream._rs_hash import RSHash as RSHash
from skad.stream._storm import STORM as STORM
from skad.stream._xstream import XStream as XStream

__all__ = ["HalfSpaceTrees", "RRCF", "RSHash", "STORM", "XStream", "stream_scores"]
