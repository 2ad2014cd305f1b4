"""Logits of a classifier, one per class, and the probabilities that they make."""

from skad._array import namespace


def log_softmax(logits, temperature=1.0):
    """Return the logarithm of softmax(z / T) of each row (b, c)."""
    xp = namespace(logits)
    scaled = logits / temperature
    scaled = scaled - xp.max(scaled, axis=1, keepdims=True)
    return scaled - xp.log(xp.sum(xp.exp(scaled), axis=1, keepdims=True))


def softmax(logits, temperature=1.0):
    """Return softmax(z / T) of each row (b, c)."""
    return namespace(logits).exp(log_softmax(logits, temperature))


def one_per_class(values, n_classes=2):
    """Return one column per class: a binary margin `z` is the logits -z/2 and z/2.

    Only differences of logits are learned; halving the margin is what the penalty of a
    two-column logistic regression leads to, and treats both classes alike.
    """
    if values.ndim == 2 and values.shape[1] != 1:
        return values
    margin = values.reshape(-1, 1)
    if n_classes == 1:
        return margin
    return namespace(margin).concat([-margin / 2, margin / 2], axis=1)
