"""From the map of a picture to its score."""


def pool(maps, pooling, quantile):
    """Return one value (b,) for each map (b, h, w).

    Parameters
    ----------
    maps : tensor of shape (b, h, w)
        How anomalous places are.
    pooling : {"max", "mean", "top", "quantile"}
        "top" is the mean of the share ``1 - quantile`` of largest values.
    quantile : float
        Of "quantile" and "top".
    """
    values = maps.flatten(1)
    if pooling == "max":
        return values.amax(1)
    if pooling == "mean":
        return values.mean(1)
    k = max(1, round((1 - quantile) * values.shape[1]))
    largest = values.topk(k, dim=1).values
    return largest.mean(1) if pooling == "top" else largest[:, -1]
