"""Pictures with made anomalies: pieces of textures, or of themselves arranged anew."""

import torch

from skad.nn.corruption import blend, foreign_textures, jitter, shuffled_cells
from skad.nn.perlin import perlin_masks

# Share of anomalies that are made of the picture itself.
_OWN = 7 / 12
# What Perlin noise exceeds, and the most cells of a side as a power of two, where they
# are made of the picture itself, and of other textures.
_OWN_OUTLINE, _OTHER_OUTLINE = (0.4, 2), (0.5, 3)
# How much brightness and saturation of copies change, and of how many.
_COPY_LIGHT, _CHANGED = 0.4, 0.2
# Rows and columns of cells that change places.
_CELLS = 4, 8
SOURCES = ("shuffled", "flipped", "other")


def relit(x, strength):
    """Return pictures of other brightness and saturation, each by its own factors."""
    for kind in (0, 2):
        factors = 1 + strength * (2 * torch.rand(len(x)) - 1)
        kinds = torch.full((len(x),), kind, device=x.device)
        x = jitter(x, kinds, factors.to(x))
    return x


def own_copies(x, sources):
    """Return copies (b, c, h, w) of pictures that are arranged otherwise.

    Half of them are turned upside down, and a fifth has other light; then one of the
    `sources` is drawn: their cells change places, they are mirrored, or it is another
    picture of the batch.
    """

    def drawn(share):
        return (torch.rand(len(x)) < share).to(x.device).view(-1, 1, 1, 1)

    found = torch.where(drawn(0.5), x.flip(2, 3), x)
    found = torch.where(drawn(_CHANGED), relit(found, _COPY_LIGHT), found)
    kinds = torch.randint(len(sources), (len(x),)).to(x.device).view(-1, 1, 1, 1)
    made = {
        "shuffled": shuffled_cells(found, *_CELLS),
        "flipped": torch.where(drawn(0.5), found.flip(2), found.flip(3)),
        "other": x.roll(1, 0),
    }
    for i, name in enumerate(sources):
        found = torch.where(kinds == i, made[name], found)
    return found


def with_anomalies(x, sources):
    """Return pictures (b, c, h, w) with made anomalies, and where, (b, h, w) of bool.

    A place of an anomaly is a blend of the picture with another one.
    """
    n, size = len(x), tuple(x.shape[2:])
    own = torch.rand(n) < _OWN
    outlines = [perlin_masks(n, size, *each) for each in (_OWN_OUTLINE, _OTHER_OUTLINE)]
    mask = torch.where(own.view(-1, 1, 1), *outlines).to(x.device)
    kept = torch.where(torch.rand(n) > 0.75, 0.75, 0.9 * torch.rand(n))
    kept = torch.where(own, 0.25 * torch.rand(n), kept)
    own = own.to(x.device).view(-1, 1, 1, 1)
    source = torch.where(own, own_copies(x, sources), foreign_textures(x))
    return blend(x, source, mask, kept), mask
