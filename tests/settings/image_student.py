"""Pictures: a student that imitates a teacher."""

from tests.settings import Settings

SMALL = {"smoothing": 0, "max_epochs": 2, "batch_size": 64}

ReverseDistillation = Settings({**SMALL, "layers": ("scale1", "scale3")})
STFPM = Settings({**SMALL, "student_channels": (8, 16), "layers": ("scale1", "scale2")})
