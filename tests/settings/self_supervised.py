"""Tasks whose answers the rows themselves give."""

from tests.settings import Settings

# Pictures of one line, and a network of one block.
MOVED = {"hidden_sizes": (4,), "max_epochs": 4, "lr": 0.03, "batch_size": 64}
FAR = {
    "sign": "far from all it has seen, the network may be as sure as ever",
    "one column": "one pixel looks the same however it is moved",
}

E3Outlier = Settings(
    MOVED,
    [{"kinds": ("regular", "irregular", "permutation"), "measure": "max"}],
    excused={**FAR, "feature": "far from all it has seen, it is as sure as ever"},
    pictures={"kinds": ("irregular",), "hidden_sizes": (4,), "max_epochs": 1},
)
GEOM = Settings(
    MOVED,
    [{"measure": "probability"}],
    excused=FAR,
    pictures={"hidden_sizes": (4,), "max_epochs": 1},
)
RotNet = Settings(
    MOVED,
    [{"shift": 0.4}],
    excused=FAR,
    pictures={"hidden_sizes": (4,), "max_epochs": 1},
)
GOAD = Settings(
    {
        "max_epochs": 30,
        "lr": 0.01,
        "n_transformations": 8,
        "transform_size": 16,
        "code_size": 8,
    },
    [{"measure": "probability"}],
)
ICL = Settings(
    {"max_epochs": 20, "code_size": 16, "hidden_sizes": (16,), "lr": 0.01},
    [{"window_size": 1}],
    excused={
        "feature": "what is far out is in the rest of all windows but its own",
        "one column": "a window needs others to go with",
    },
)
VIEWS = {
    "max_epochs": 10,
    "n_transformations": 4,
    "transform_size": 8,
    "code_size": 8,
    "lr": 0.01,
}
LENGTH = {"sign": "a row that is made longer keeps its anomaly"}

LOE = Settings(
    {**VIEWS, "max_epochs": 25}, [{"contamination_training": "hard"}], excused=LENGTH
)
NeuTraL = Settings(
    VIEWS,
    [{"transform_type": "multiply"}],
    excused={**LENGTH, ("feature", "multiply"): "a mask weighs all features anew"},
)
SLAD = Settings(
    {
        "n_groups": 4,
        "group_size": 5,
        "vector_size": 16,
        "hidden_sizes": (16,),
        "max_epochs": 20,
        "lr": 0.01,
    },
    excused={
        "sign": "what is longer has parts that are told apart more clearly",
        "feature": "what is longer has parts that are told apart more clearly",
        "one column": "parts of one feature have one size",
    },
)
SLA2P = Settings(
    {
        "n_transformations": 6,
        "transform_size": 8,
        "max_epochs": 5,
        "batch_size": 64,
        "lr": 0.01,
    },
    excused={
        "sign": "a row that is made longer keeps its anomaly",
        "feature": "far out, a projection is told as well as ever",
        "one column": "a row of one feature has length one whatever it is",
    },
)
CutPaste = Settings(
    {
        "architecture": "conv",
        "hidden_sizes": (4, 8),
        "code_size": 8,
        "max_epochs": 4,
        "batch_size": 64,
    },
    [{"variant": "scar"}],
    pictures={
        "architecture": "conv",
        "hidden_sizes": (4, 8),
        "code_size": 8,
        "max_epochs": 1,
    },
)
VIEWED = {
    "hidden_sizes": (4,),
    "code_size": 8,
    "projection_size": 8,
    "max_epochs": 2,
    "batch_size": 64,
}
CSI = Settings(
    {**VIEWED, "crops": False},
    [{"shift": "halves"}],
    excused={
        "sign": "what is larger has longer codes, and those are normal",
        "feature": "what is larger has longer codes, and those are normal",
        "one column": "one pixel looks the same however it is moved",
    },
    pictures={**VIEWED, "max_epochs": 1, "crops": False},
)
SSD = Settings(
    {**VIEWED, "max_epochs": 4},
    [{"n_clusters": 2}],
    excused={"feature": "a code at length one does not tell how far out a pixel is"},
    pictures={**VIEWED, "max_epochs": 1},
)
ELSA = Settings(
    {**VIEWED, "pretrain_epochs": 2, "n_prototypes": 8},
    excused={
        "sign": "a code at length one does not tell how far out a pixel is",
        "feature": "a code at length one does not tell how far out a pixel is",
    },
    pictures={**VIEWED, "max_epochs": 1, "pretrain_epochs": 1, "n_prototypes": 8},
)
DROC = Settings(
    {**VIEWED, "n_projection_layers": 1},
    [{"representation": "rotation", "head": "svm"}, {"head": "gaussian"}],
    excused={
        "sign": "a code at length one does not tell how far out a pixel is",
        "feature": "a code at length one does not tell how far out a pixel is",
        "one column": "one pixel looks the same however it is moved",
    },
    pictures={**VIEWED, "max_epochs": 1, "n_projection_layers": 1},
)
