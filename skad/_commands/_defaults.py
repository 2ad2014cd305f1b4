"""Which detector looks at data where none is named, and why.

The figures are those of benchmarks/results: tables_accuracy.tsv, tables_speed.tsv,
series_quality.tsv and images_all.tsv.
"""

# Neighbours are looked up row by row: beyond so many pairs it takes longer than a
# minute, and what grows with the rows alone is taken.
_PAIRS_OF_ROWS = 10**10
_PAIRS_OF_STEPS = 2 * 10**9

# Pictures of fewer pixels to a side have no patches to compare.
_SMALLEST_SIDE = 32


def default_detector(kind, n_train, n_test, n_columns, image_shape=None):
    """Return the name of a detector, and the reason in one line.

    Parameters
    ----------
    kind : {"tables", "series", "pictures"}
        What it looks at.
    n_train, n_test, n_columns : int
        How many rows are learned from and looked at, and of how many features.
    image_shape : tuple of int or None, default=None
        Height and width, where rows of a table are pictures.

    Returns
    -------
    name, reason : str
    """
    if image_shape is not None and min(image_shape) >= _SMALLEST_SIDE:
        kind = "pictures"
    if kind == "pictures":
        return "PatchCore", "the best on pictures of those that need no training"
    pairs = n_train * max(n_train, n_test)
    if kind == "series":
        if pairs * n_columns > _PAIRS_OF_STEPS:
            return "KMeansAD", "the best on series of those that are quick on long ones"
        return "SubsequenceKNN", "the best on series in our measurements"
    if pairs > _PAIRS_OF_ROWS:
        return "IsolationForest", "the best on tables of those quick on many rows"
    return "KNN", "among the best on tables in our measurements, and easy to read"
