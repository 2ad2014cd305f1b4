"""Detectors that rebuild a sample and look at what is lost."""

from skad._lazy import attach

__getattr__, __dir__, __all__ = attach(
    __name__,
    {
        "_autoencoder": ["AutoEncoder"],
        "_memae": ["MemAE"],
        "_rapp": ["RaPP"],
        "_vae": ["VAE"],
    },
)
