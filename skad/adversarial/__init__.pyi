from skad.adversarial._aae import AAE as AAE
from skad.adversarial._adae import ADAE as ADAE
from skad.adversarial._alad import ALAD as ALAD
from skad.adversarial._alae import ALAE as ALAE
from skad.adversarial._alocc import ALOCC as ALOCC
from skad.adversarial._anogan import AnoGAN as AnoGAN
from skad.adversarial._egbad import EGBAD as EGBAD
from skad.adversarial._fanogan import FAnoGAN as FAnoGAN
from skad.adversarial._ganomaly import GANomaly as GANomaly
from skad.adversarial._gpnd import GPND as GPND
from skad.adversarial._hadgan import HADGAN as HADGAN
from skad.adversarial._mogaal import MOGAAL as MOGAAL
from skad.adversarial._ocgan import OCGAN as OCGAN
from skad.adversarial._ognet import OGNet as OGNet
from skad.adversarial._rgi import RGI as RGI
from skad.adversarial._skip_ganomaly import SkipGANomaly as SkipGANomaly
from skad.adversarial._sogaal import SOGAAL as SOGAAL

__all__ = ["AAE", "ADAE", "ALAD", "ALAE", "ALOCC", "AnoGAN", "EGBAD", "FAnoGAN", "GANomaly", "GPND", "HADGAN", "MOGAAL", "OCGAN", "OGNet", "RGI", "SOGAAL", "SkipGANomaly"]
