"""Adversarial training."""

from tests.settings import Settings

SMALL = {"max_epochs": 10, "hidden_sizes": (16,), "latent_size": 2}
NEVER_FAR = "its discriminator never sees anything far from normal rows"

AAE = Settings(SMALL, [{"measure": "likelihood"}])
ADAE = Settings(SMALL)
ALAD = Settings(
    {**SMALL, "max_epochs": 2, "spectral_norm": False},
    [{"spectral_norm": True}, {"measure": "l2"}],
)
ALOCC = Settings(
    SMALL, [{"measure": "refined"}], excused={("sign", "refined"): NEVER_FAR}
)
ALAE = Settings({**SMALL, "max_epochs": 4}, [{"measure": "code"}])
AnoGAN = Settings({**SMALL, "n_search_steps": 8})
EGBAD = Settings(SMALL, [{"discrimination": "cross_entropy"}])
FAnoGAN = Settings(
    {**SMALL, "max_epochs": 2, "n_critic": 2},
    [{"encoder": "izi"}, {"encoder": "ziz"}],
)
GANomaly = Settings({"max_epochs": 10, "hidden_sizes": (16,)})
SkipGANomaly = Settings({"max_epochs": 10, "hidden_sizes": (16, 1)})
GPND = Settings({**SMALL, "max_epochs": 4}, [{"measure": "reconstruction"}])
HADGAN = Settings({**SMALL, "max_epochs": 4})
OCGAN = Settings(
    {**SMALL, "max_epochs": 3, "mining_epochs": 2},
    [{"measure": "discriminator"}],
    excused={("sign", "discriminator"): NEVER_FAR},
)
OGNet = Settings(
    {**SMALL, "max_epochs": 4, "quality_epochs": 3},
    [{"measure": "refined"}],
    excused={("sign", "refined"): NEVER_FAR},
)
RGI = Settings({**SMALL, "n_search_steps": 8})

GAME = {"max_epochs": 5, "play_epochs": 5, "hidden_sizes": (16,)}
UNSEEN = {"sign": "its discriminator is hardly shown anything far from normal rows"}
MOGAAL = Settings({**GAME, "n_generators": 3}, excused=UNSEEN)
SOGAAL = Settings(GAME, excused=UNSEEN)
