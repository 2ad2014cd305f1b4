"""Adversarial training."""

from tests.settings import Settings

SMALL = {"max_epochs": 10, "hidden_sizes": (16,), "latent_size": 2}

AAE = Settings(SMALL, [{"measure": "likelihood"}])
ADAE = Settings(SMALL)
ALAD = Settings(
    {**SMALL, "max_epochs": 2, "spectral_norm": False},
    [{"spectral_norm": True}, {"measure": "l2"}],
)
ALOCC = Settings(
    SMALL,
    [{"measure": "refined"}],
    excused={
        (
            "sign",
            "refined",
        ): "its discriminator never sees anything far from normal rows"
    },
)
AnoGAN = Settings({**SMALL, "n_search_steps": 8})
EGBAD = Settings(SMALL, [{"discrimination": "cross_entropy"}])
FAnoGAN = Settings({**SMALL, "max_epochs": 2, "n_critic": 2})
GANomaly = Settings({"max_epochs": 10, "hidden_sizes": (16,)})
SkipGANomaly = Settings({"max_epochs": 10, "hidden_sizes": (16, 1)})

GAME = {"max_epochs": 5, "play_epochs": 5, "hidden_sizes": (16,)}
UNSEEN = {"sign": "its discriminator is hardly shown anything far from normal rows"}
MOGAAL = Settings({**GAME, "n_generators": 3}, excused=UNSEEN)
SOGAAL = Settings(GAME, excused=UNSEEN)
