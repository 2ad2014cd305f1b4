"""Pictures: a student that imitates a teacher."""

from tests.settings import Settings
from tests.settings.image import FINE, SCALES

ReverseDistillation = Settings(
    {**FINE, "n_blocks": 1, "max_epochs": 2, "lr": 0.05},
    [{**SCALES, "n_blocks": 2, "max_epochs": 5, "lr": 0.01}],
)
STFPM = Settings(
    {**FINE, "student_channels": (8,), "max_epochs": 2},
    [{**SCALES, "student_channels": (8, 16)}],
)
