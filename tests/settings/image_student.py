"""Pictures: a student that imitates a teacher."""

from skad.embedding import PatchEmbedding
from tests._pixels import Lines
from tests.settings import Settings
from tests.settings.image import FINE, SCALES

ADShift = Settings(
    {
        **FINE,
        "batch_size": 128,
        "n_blocks": 1,
        "max_epochs": 2,
        "lr": 0.05,
        "code_weight": 0.0,  # views are dear, and drawn
        "map_weight": 0.0,
    },
    excused={"feature": "a value that is far out is matched to one that is not"},
    pictures={"max_epochs": 1, "layers": ("scale2", "scale3")},
)
AST = Settings(
    {
        **FINE,
        "n_steps": 1,
        "hidden_size": 4,
        "condition_size": 4,
        "student_channels": 8,
        "n_blocks": 1,
        "teacher_epochs": 1,
        "max_epochs": 4,
        "lr": 0.02,
    },
    pictures={
        "n_steps": 1,
        "hidden_size": 4,
        "condition_size": 4,
        "student_channels": 8,
        "n_blocks": 1,
        "teacher_epochs": 1,
        "max_epochs": 1,
    },
)
Dinomaly = Settings(
    {**FINE, "max_epochs": 3},
    [{**FINE, "n_blocks": 3, "max_epochs": 2, "easy_share": 0}],
    pictures={"max_epochs": 1, "layers": ("scale2", "scale3")},
)
DeSTSeg = Settings(
    {
        **FINE,
        "batch_size": 128,
        "student_channels": (4,),
        "segmenter_channels": 4,
        "n_blocks": 1,
        "student_epochs": 1,
        "max_epochs": 1,
        "lr": 0.01,
    },
    pictures={
        "layers": ("scale2",),
        "student_channels": (8, 16),
        "segmenter_channels": 8,
        "student_epochs": 1,
        "max_epochs": 1,
    },
)
DAF = Settings(
    {
        **FINE,
        "batch_size": 128,
        "student_channels": (4,),
        "segmenter_channels": 4,
        "max_epochs": 1,
        "lr": 0.01,
    },
    excused={"feature": "the windows of its similarity see all the features of a row"},
    pictures={
        "layers": ("scale2",),
        "student_channels": (8, 16),
        "segmenter_channels": 8,
        "max_epochs": 1,
    },
)
CDO = Settings(
    {
        **FINE,
        "batch_size": 128,
        "student_channels": (8,),
        "max_epochs": 2,
        "lr": 0.04,
    },
    pictures={"max_epochs": 1},
)
DMAD = Settings(
    {
        **FINE,
        "batch_size": 128,
        "n_blocks": 1,
        "field_channels": 2,
        "n_codes": 4,
        "max_epochs": 4,
        "lr": 0.05,
    },
    pictures={
        "max_epochs": 1,
        "layers": ("scale2", "scale3"),
        "field_channels": 4,
        "n_codes": 8,
    },
)
EfficientAD = Settings(
    {
        **FINE,
        "batch_size": 512,
        "channels": 4,
        "width": 2,
        "latent_size": 2,
        "teacher_epochs": 0,
        "max_epochs": 1,
        "lr": 0.02,
    },
    excused={"feature": "its patches of 33 pixels see all the features of a row"},
    pictures={
        "channels": 8,
        "width": 4,
        "latent_size": 4,
        "teacher_epochs": 1,
        "max_epochs": 1,
        "batch_size": 2,
    },
)
GCAD = Settings(
    {
        **FINE,
        "batch_size": 512,
        "patch_sizes": (17,),
        "channels": 2,
        "width": 1,
        "stride": 1,
        "code_size": 1,
        "global_channels": 1,
        "global_width": 1,
        "student_width": 1,
        "student_sizes": 1,
        "teacher_epochs": 0,
        "max_epochs": 1,
        "lr": 0.02,
    },
    excused={"feature": "its patches of 17 pixels see all the features of a row"},
    pictures={
        "channels": 4,
        "width": 2,
        "code_size": 2,
        "global_width": 2,
        "student_width": 2,
        "teacher_epochs": 1,
        "max_epochs": 2,
        "batch_size": 2,
    },
)
GLCF = Settings(
    {
        **FINE,
        "batch_size": 512,
        "token_size": 4,
        "n_heads": 1,
        "depth": 1,
        "n_blocks": 1,
        "max_epochs": 1,
        "lr": 0.02,
    },
    [{**SCALES, "batch_size": 128, "token_size": 12, "depth": 1, "max_epochs": 3}],
    pictures={
        "token_size": 8,
        "n_heads": 2,
        "depth": 1,
        "n_blocks": 1,
        "max_epochs": 1,
        "layers": ("scale2", "scale3"),
    },
)
IKD = Settings(
    {
        **FINE,
        "batch_size": 128,
        "student_channels": (8,),
        "max_epochs": 2,
        "lr": 0.04,
    },
    [
        {
            **SCALES,
            "batch_size": 128,
            "student_channels": (8, 16),
            "margin": -1.0,
            "max_epochs": 6,
        }
    ],
    pictures={"max_epochs": 1},
)
MKD = Settings(
    {
        **FINE,
        "batch_size": 128,
        "student_channels": (8,),
        "max_epochs": 4,
        "lr": 0.02,
    },
    pictures={"max_epochs": 2},
)
MemKD = Settings(
    {
        **FINE,
        "batch_size": 128,
        "n_blocks": 1,
        "n_items": 3,
        "n_exemplars": 2,
        "max_epochs": 4,
        "lr": 0.05,
    },
    pictures={"max_epochs": 1, "layers": ("scale2", "scale3")},
)
RDPlusPlus = Settings(
    {
        **FINE,
        "batch_size": 128,
        "n_blocks": 1,
        "max_epochs": 1,
        "lr": 0.05,
        "projection_weight": 0.0,  # what it adds is dear, and drawn
    },
    pictures={"max_epochs": 1, "layers": ("scale2", "scale3")},
)
ReContrast = Settings(
    {**FINE, "batch_size": 128, "n_blocks": 1, "max_epochs": 1, "lr": 0.05},
    pictures={"max_epochs": 1, "layers": ("scale2", "scale3")},
)
INPFormer = Settings(
    {**FINE, "max_epochs": 3},
    [{"n_blocks": 3, "max_epochs": 2, "mining_power": 0, "n_prototypes": 2}],
    pictures={"max_epochs": 1, "layers": ("scale2", "scale3")},
)
ReverseDistillation = Settings(
    {**FINE, "batch_size": 128, "n_blocks": 1, "max_epochs": 3, "lr": 0.07},
    [{**SCALES, "batch_size": 128, "n_blocks": 1, "max_epochs": 3, "lr": 0.07}],
    pictures={"max_epochs": 1},
)
UninformedStudents = Settings(
    {
        **FINE,
        "batch_size": 128,
        "patch_sizes": (17,),
        "n_students": 2,
        "channels": 4,
        "width": 2,
        "stride": 1,
        "teacher_epochs": 0,
        "max_epochs": 1,
        "lr": 0.02,
    },
    excused={"feature": "its patches of 17 pixels see all the features of a row"},
    pictures={
        "channels": 4,
        "width": 2,
        "teacher_epochs": 1,
        "max_epochs": 1,
        "batch_size": 2,
    },
)
RSTPM = Settings(
    {
        **FINE,
        "batch_size": 128,
        "other": PatchEmbedding(Lines, ("fine",)),
        "student_channels": (4,),
        "n_blocks": 1,
        "max_epochs": 2,
    },
    pictures={
        "layers": ("scale2", "scale3"),
        "student_channels": (8, 16),
        "n_blocks": 1,
        "max_epochs": 1,
    },
)
RSTDN = Settings(
    {
        **FINE,
        "batch_size": 128,
        "other": PatchEmbedding(Lines, ("fine",)),
        "student_channels": (4,),
        "n_blocks": 1,
        "discriminator_width": 2,
        "discriminator_lr": 0.02,
        "student_epochs": 1,
        "max_epochs": 1,
    },
    pictures={
        "layers": ("scale2", "scale3"),
        "student_channels": (8, 16),
        "n_blocks": 1,
        "discriminator_width": 2,
        "student_epochs": 1,
        "max_epochs": 1,
    },
)
STFPM = Settings(
    {**FINE, "student_channels": (8,), "max_epochs": 2},
    [{**SCALES, "student_channels": (8, 16)}],
    pictures={"max_epochs": 1},
)
PFM = Settings(
    {
        **FINE,
        "batch_size": 128,
        "other": PatchEmbedding(Lines, ("fine",)),
        "latent_sizes": (4,),
        "max_epochs": 4,
        "lr": 0.005,
    },
    [
        {
            "layers": ("fine", "coarse"),
            "other": PatchEmbedding(Lines, ("fine", "coarse")),
            "position": True,
            "latent_sizes": (2, 3),
        }
    ],
    pictures={"latent_sizes": (4,), "max_epochs": 1},
)
