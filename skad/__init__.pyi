from skad import adversarial as adversarial
from skad import calibration as calibration
from skad import datasets as datasets
from skad import density as density
from skad import embedding as embedding
from skad import ensemble as ensemble
from skad import export as export
from skad import image as image
from skad import inspection as inspection
from skad import marginal as marginal
from skad import metrics as metrics
from skad import model_selection as model_selection
from skad import neighbors as neighbors
from skad import one_class as one_class
from skad import ood as ood
from skad import persistence as persistence
from skad import reconstruction as reconstruction
from skad import series as series
from skad import stream as stream
from skad import subspace as subspace
from skad import supervised as supervised
from skad.adversarial import *
from skad.density import *
from skad.ensemble import *
from skad.image import *
from skad.marginal import *
from skad.neighbors import *
from skad.one_class import *
from skad.ood import *
from skad.reconstruction import *
from skad.series import *
from skad.stream import *
from skad.subspace import *
from skad.supervised import *
from skad.calibration import *
from skad.persistence import CorruptFileError as CorruptFileError
from skad.persistence import load as load
from skad.persistence import save as save

__version__: str

def all_detectors() -> list[tuple[str, type]]: ...
