"""Two vectors a layer and task, which tokens lie near, and a memory of tokens."""

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812

from skad._array import slices, to_numpy
from skad.image._trained import OwnScoreNetwork, split_maps
from skad.nn.losses import dice, focal_of
from skad.nn.residual import resized, stacked

# Deviation of the weights that the vectors start from.
_START = 0.02
# Elements of a block of products with the memory.
_PRODUCTS = 2**22


def logits_of(tokens, vectors, temperature):
    """Return how much nearer tokens (..., d) are to the second of two vectors (2, d).

    It is the difference of the cosines, divided by the temperature: the logit of the
    second one's share in their softmax.
    """
    cosines = F.normalize(tokens, dim=-1) @ F.normalize(vectors, dim=1).T
    return (cosines[..., 1] - cosines[..., 0]) / temperature


def map_loss(p, masks):
    """Return the focal loss of maps p (b, h, w) and the Dice losses of both sides."""
    return focal_of(p, masks) + dice(p, masks) + dice(1 - p, 1 - masks)


def away_from(tokens, bank):
    """Return one minus the largest cosine (q,) of tokens (q, d) to a bank (m, d).

    The bank has unit length. A token that is in it is at zero.
    """
    tokens, found = F.normalize(tokens, dim=1), []
    for rows in slices(len(tokens), max(1, _PRODUCTS // len(bank))):
        near = bank[(tokens[rows] @ bank.T).argmax(1)]
        # from the differences, as the rounding of cosines is that of one
        found.append((tokens[rows] - near).square().sum(1) / 2)
    return torch.cat(found)


class UniADetNetwork(OwnScoreNetwork):
    """Two vectors a layer for pictures, two for places, and a memory of places.

    A sample has the tokens of a picture: of each layer that of the whole picture and
    those of its places. In training those of `n_copies` pictures stand in a row, the
    first of them unaltered, and behind them their masks.

    Parameters
    ----------
    shapes : list of tuple
        (d,) and (d, gh, gw) of each layer, one behind the other.
    n_copies : int
        Pictures of a training sample; 0 where nothing is trained.
    mask_size : tuple of int
        (h, w) of masks.
    temperature, map_weight, memory_weight, n_shots, vectors
        As for `UniADet`.
    """

    def __init__(
        self,
        shapes,
        n_copies,
        mask_size,
        temperature,
        map_weight,
        memory_weight,
        n_shots,
        vectors,
    ):
        super().__init__()
        self.shapes, self.n_copies, self.mask_size = shapes, n_copies, mask_size
        self.temperature, self.map_weight = temperature, map_weight
        self.memory_weight, self.n_shots = memory_weight, n_shots
        self.widths = [shape[0] for shape in shapes[::2]]
        self.n_numbers = sum(int(np.prod(shape)) for shape in shapes)
        pairs = [nn.Linear(d, 2, bias=False) for d in (*self.widths, *self.widths)]
        with torch.no_grad():
            if vectors is None:
                for pair in pairs:
                    pair.weight.normal_(0, _START)
            else:
                for pair, value in zip(
                    pairs, as_given(vectors, self.widths), strict=True
                ):
                    pair.weight.copy_(value)
        self.of_pictures = nn.ModuleList(pairs[: len(self.widths)])
        self.of_places = nn.ModuleList(pairs[len(self.widths) :])
        for i, d in enumerate(self.widths):
            self.register_buffer(f"bank_{i}", torch.zeros(0, d), persistent=False)

    def tokens(self, x):
        """Return tokens of pictures (b, d) and of places (b, gh, gw, d), by layers."""
        parts = split_maps(x[:, : self.n_numbers], self.shapes)
        return parts[::2], [each.movedim(1, 3) for each in parts[1::2]]

    def copies(self, x, y):
        """Return the copies (b n, m) of training samples, their masks and labels.

        Labels (b n,) are true for anomalies; masks (b n, h, w) NaN where unknown.
        """
        at = self.n_copies * self.n_numbers
        copies = x[:, :at].unflatten(1, (self.n_copies, self.n_numbers))
        masks = x[:, at:].unflatten(1, (self.n_copies, *self.mask_size)).flatten(0, 1)
        labels = masks.amax((1, 2)) > 0
        if y is not None:
            unknown = masks[:, 0, 0].isnan()
            labels |= unknown & (y == -1).repeat_interleave(self.n_copies)
        return copies.flatten(0, 1), masks, labels

    def loss(self, x, y):
        """Return the mean over layers of the losses of pictures and of maps."""
        copies, masks, labels = self.copies(x, y)
        known = ~masks[:, 0, 0].isnan()
        losses = []
        layers = *self.tokens(copies), self.of_pictures, self.of_places
        for whole, places, of_pictures, of_places in zip(*layers, strict=True):
            logits = logits_of(whole, of_pictures.weight, self.temperature)
            loss = F.binary_cross_entropy_with_logits(logits, labels.to(logits))
            if known.any():
                p = logits_of(
                    places[known], of_places.weight, self.temperature
                ).sigmoid()
                p = resized(p, self.mask_size)
                loss = loss + map_loss(p, masks[known])
            losses.append(loss)
        return torch.stack(losses).mean()

    def finish(self, batches, held=None):
        """Keep the tokens of the first normal pictures."""
        if self.n_shots == 0:
            return
        found, n = [], 0
        for x, y in batches():
            normal = x if y is None else x[y != -1]
            found.append(self.tokens(normal)[1])
            n += len(normal)
            if self.n_shots != "all" and n >= self.n_shots:
                break
        most = None if self.n_shots == "all" else self.n_shots
        for i, parts in enumerate(zip(*found, strict=True)):
            bank = torch.cat(parts)[:most].flatten(0, 2)
            setattr(self, f"bank_{i}", F.normalize(bank, dim=1))

    def remembered(self, places):
        """Return the distances to the memory (b, gh, gw), by layers."""
        found = []
        for i, each in enumerate(places):
            bank = getattr(self, f"bank_{i}").to(each)
            away = away_from(each.flatten(0, 2), bank)
            found.append(away.unflatten(0, each.shape[:3]))
        return found

    def both(self, x):
        """Return the anomaly (b, gh, gw) of places and that (b,) of pictures."""
        wholes, places = self.tokens(x)
        tau, grid = self.temperature, self.shapes[1][1:]
        pairs = zip(wholes, self.of_pictures, strict=True)
        pictures = [logits_of(each, own.weight, tau).sigmoid() for each, own in pairs]
        pictures = torch.stack(pictures).mean(0)
        pairs = zip(places, self.of_places, strict=True)
        maps = [logits_of(each, own.weight, tau).sigmoid() for each, own in pairs]
        maps = stacked(maps, grid).mean(0)
        if self.n_shots:
            memory = stacked(self.remembered(places), grid).mean(0)
            maps = maps + self.memory_weight * (memory - maps)
        tops = maps.amax((1, 2))
        return maps, pictures + self.map_weight * (tops - pictures)


def as_given(vectors, widths):
    """Return given vectors as tensors (2, d), or raise where they do not fit."""
    names = [f"{kind}_{i}" for kind in ("picture", "place") for i in range(len(widths))]
    if set(vectors) != set(names):
        raise ValueError(
            f"vectors has {', '.join(sorted(map(str, vectors))) or 'nothing'}, and "
            f"{len(widths)} layers want {', '.join(names)}: they are vectors_ of a "
            "detector with the same layers."
        )
    found = []
    for name, width in zip(names, 2 * list(widths), strict=True):
        value = torch.tensor(np.array(to_numpy(vectors[name]), dtype=np.float32))
        if tuple(value.shape) != (2, width) or not value.isfinite().all():
            raise ValueError(
                f"vectors[{name!r}] has shape {tuple(value.shape)} or values that are "
                f"not finite; the layer's tokens want numbers of shape (2, {width})."
            )
        found.append(value)
    return found
