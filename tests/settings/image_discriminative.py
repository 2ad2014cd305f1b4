"""Pictures: made anomalies and what tells them apart."""

from tests.settings import Settings

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
