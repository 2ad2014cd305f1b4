"""Pictures: made anomalies and what tells them apart."""

from tests._pixels import Learned
from tests.settings import Settings
from tests.settings.image import FINE, PIXELS, SCALES
from tests.settings.supervised import SIGN, WHY, known_anomalies

DRA = Settings(
    {**FINE, "backbone": Learned, "layers": ("learned",), "max_epochs": 2},
    own_labels=WHY,
    labels=known_anomalies,
    excused={"sign": SIGN, "feature": SIGN},
)
GLASS = Settings(
    {
        **FINE,
        "max_epochs": 1,
        "batch_size": 256,
        "hidden_size": 4,
        "n_ascent_steps": 1,
    },
    [{"distribution": "hypersphere", "n_ascent_steps": 5}],
    excused={
        "sign": "its discriminator sees nothing far from normal patches",
        "feature": "its discriminator sees nothing far from normal patches",
    },
    pictures={
        "max_epochs": 1,
        "layers": ("scale2",),
        "hidden_size": 16,
        "n_ascent_steps": 5,
    },
)
HTDG = Settings(
    {
        "image_size": (11, 12),  # no quarter turns
        "transformations": "turns",
        "n_scales": 1,
        "channels": 1,
        "n_steps": 1,
        "max_epochs": 1,
        "batch_size": 512,
        "lr": 0.01,
    },
    excused={
        "sign": "how rows were moved does not say how large their values are",
        "feature": "how rows were moved does not say how large their values are",
    },
    pictures={
        "image_size": None,
        "transformations": "turns",
        "n_scales": 2,
        "min_size": 12,
        "channels": 4,
        "n_steps": 1,
        "max_epochs": 2,
    },
)
SLSG = Settings(
    {
        **FINE,
        "layers": ("coarse",),
        "max_epochs": 1,
        "batch_size": 512,
        "n_neighbors": 2,
    },
    [{"sources": ("other", "flipped"), "layers": ("fine", "coarse")}],
    excused={
        "sign": "its decoder sees nothing far from pictures with made anomalies",
        "feature": "its decoder sees nothing far from pictures with made anomalies",
    },
    pictures={"max_epochs": 1, "layers": ("scale2", "scale3")},
)
SimpleNet = Settings(
    {
        "smoothing": 0,
        "max_epochs": 3,
        "batch_size": 64,
        "hidden_size": 16,
        "layers": ("scale1",),
    },
    excused={"sign": "its discriminator sees nothing far from normal patches"},
    pictures={"max_epochs": 2},
)
UniADet = Settings(
    {**FINE, "batch_size": 128, "n_views": 0, "max_epochs": 3},
    [{**SCALES, "n_views": 1, "n_shots": 3, "max_epochs": 6, "lr": 0.01}],
    excused={"feature": "what is pasted changes many features of a row at once"},
    pictures={"max_epochs": 2},
)
SuperSimpleNet = Settings(
    {**PIXELS, "max_epochs": 1, "hidden_size": 4},
    excused={
        "sign": "its heads see nothing far from normal features",
        "feature": "its heads see nothing far from normal features",
    },
    pictures={"max_epochs": 1, "layers": ("scale3",), "hidden_size": 16},
)
