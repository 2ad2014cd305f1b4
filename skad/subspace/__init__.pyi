from skad.subspace._cook_distance import CookDistance as CookDistance
from skad.subspace._kernel_pca import KernelPCAReconstruction as KernelPCAReconstruction
from skad.subspace._pca import PCAReconstruction as PCAReconstruction
from skad.subspace._rod import ROD as ROD
from skad.subspace._self_representation import SelfRepresentation as SelfRepresentation
from skad.subspace._sketch import MatrixSketch as MatrixSketch

__all__ = ["CookDistance", "KernelPCAReconstruction", "MatrixSketch", "PCAReconstruction", "ROD", "SelfRepresentation"]
