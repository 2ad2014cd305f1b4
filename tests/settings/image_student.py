"""Pictures: a student that imitates a teacher."""

from tests.settings import Settings
from tests.settings.image import SCALES

ReverseDistillation = Settings({**SCALES, "max_epochs": 5, "lr": 0.01})
STFPM = Settings({**SCALES, "student_channels": (8, 16), "max_epochs": 3})
