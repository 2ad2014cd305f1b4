"""Pictures: a student that imitates a teacher."""

from tests.settings import Settings
from tests.settings.image import FINE, SCALES

ReverseDistillation = Settings(
    {**FINE, "n_blocks": 1, "max_epochs": 5, "lr": 0.02},
    [{**SCALES, "n_blocks": 2, "max_epochs": 5, "lr": 0.01}],
)
STFPM = Settings(
    {**FINE, "student_channels": (8,), "max_epochs": 3},
    [{**SCALES, "student_channels": (8, 16)}],
)
