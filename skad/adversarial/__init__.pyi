from skad.adversarial._aae import AAE as AAE
from skad.adversarial._adae import ADAE as ADAE
from skad.adversarial._alad import ALAD as ALAD
from skad.adversarial._alocc import ALOCC as ALOCC
from skad.adversarial._anogan import AnoGAN as AnoGAN
from skad.adversarial._egbad import EGBAD as EGBAD
from skad.adversarial._fanogan import FAnoGAN as FAnoGAN
from skad.adversarial._ganomaly import GANomaly as GANomaly
from skad.adversarial._mogaal import MOGAAL as MOGAAL
from skad.adversarial._skip_ganomaly import SkipGANomaly as SkipGANomaly
from skad.adversarial._sogaal import SOGAAL as SOGAAL

__all__ = ["AAE", "ADAE", "ALAD", "ALOCC", "AnoGAN", "EGBAD", "FAnoGAN", "GANomaly", "MOGAAL", "SOGAAL", "SkipGANomaly"]
