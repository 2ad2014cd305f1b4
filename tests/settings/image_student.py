"""Pictures: a student that imitates a teacher."""

from tests.settings import Settings
from tests.settings.image import FINE, SCALES

ReverseDistillation = Settings(
    {**FINE, "batch_size": 128, "n_blocks": 1, "max_epochs": 2, "lr": 0.05},
    [{**SCALES, "batch_size": 128, "n_blocks": 2, "max_epochs": 4, "lr": 0.02}],
)
STFPM = Settings(
    {**FINE, "student_channels": (8,), "max_epochs": 2},
    [{**SCALES, "student_channels": (8, 16)}],
)
