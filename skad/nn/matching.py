"""Features with the values of others: what light, contrast and noise did is undone."""

import torch


def match(features, reference, strength=1.0):
    r"""Return features that have the values of a reference, in their own order.

    Exact feature distribution matching: in each channel the k-th smallest of the
    features becomes the k-th smallest :math:`r_{(k)}` of the reference,

    .. math:: \hat f_i = (1 - s) \, f_i + s \, r_{(\mathrm{rank}(f_i))},

    so that mean, deviation and all that is not the place of values is the reference's.
    Equal values are ranked in the order of their places.

    Parameters
    ----------
    features : tensor of shape (b, c, h, w)
        The maps of pictures.
    reference : tensor of shape (c, h, w) or (c, h * w)
        One map with as many values in a channel.
    strength : float, default=1.0
        How far features are moved, in 0..1; 0 leaves them.

    References
    ----------
    Y. Zhang, M. Li, R. Li, K. Jia and L. Zhang, "Exact feature distribution matching
    for arbitrary style transfer and domain generalization", CVPR, 2022.
    """
    flat = features.flatten(2)  # (b, c, m)
    # an exported graph has one way to sort, which ranks equal values so too
    options = {} if torch.compiler.is_compiling() else {"stable": True}
    # the order of the places, and then which place each has in it
    ranks = flat.sort(dim=2, **options).indices.sort(dim=2).indices
    values = reference.flatten(1).sort(dim=1).values
    found = values.expand_as(flat).gather(2, ranks)
    return ((1 - strength) * flat + strength * found).view_as(features)
