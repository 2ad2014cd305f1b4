from skad.stream._half_space_trees import HalfSpaceTrees as HalfSpaceTrees
from skad.stream._rs_hash import RSHash as RSHash
from skad.stream._xstream import XStream as XStream

__all__ = ["HalfSpaceTrees", "RSHash", "XStream"]
