from skad.reconstruction._autoencoder import AutoEncoder as AutoEncoder
from skad.reconstruction._dp_novelty_sgd import DPNoveltySGD as DPNoveltySGD
from skad.reconstruction._likelihood_regret import LikelihoodRegret as LikelihoodRegret
from skad.reconstruction._memae import MemAE as MemAE
from skad.reconstruction._rapp import RaPP as RaPP
from skad.reconstruction._rca import RCA as RCA
from skad.reconstruction._rsrae import RSRAE as RSRAE
from skad.reconstruction._sparse_coding import SparseCoding as SparseCoding
from skad.reconstruction._vae import VAE as VAE

__all__ = ["AutoEncoder", "DPNoveltySGD", "LikelihoodRegret", "MemAE", "RCA", "RSRAE", "RaPP", "SparseCoding", "VAE"]
