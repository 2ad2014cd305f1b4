"""Made defects: shapes with smooth outlines, filled with noise or with other pictures.

What is drawn is drawn on the host from torch's own generator, which the training loop
seeds.
"""

import math

import torch
from torch.nn import functional as F  # noqa: N812

from skad.nn.corruption import ColourJitter

SHAPES = ("spot", "scar", "clump")
FILLS = ("noise", "piece")
# Pixels of a side for which the sizes of scars are meant.
_SIDE = 256
# Rows and columns of a picture that has room for a shape.
_LEAST = 3
# How often a shape is drawn that has no pixel.
_ATTEMPTS = 4
# Points between two corners of an outline.
_POINTS = 11


def outline(corners, smoothness, straight):
    """Return the points (m, 2) of a closed curve through corners, of Bezier pieces.

    The handles of a corner lie along the line between the middles of its two edges,
    which is moved so that it goes through the corner.

    Parameters
    ----------
    corners : tensor of shape (n, 2)
        In their order.
    smoothness : float
        Share that handles are drawn back from these middles towards the corner.
    straight : tensor of bool, of shape (n,)
        Edges that stay as they are: the one behind each corner.
    """
    following = corners.roll(-1, 0)
    middles = (corners + following) / 2  # of the edge behind each corner
    lengths = (following - corners).norm(dim=1).clamp(min=1e-9)
    before, after = middles.roll(1, 0), middles
    share = lengths.roll(1, 0) / (lengths.roll(1, 0) + lengths)
    shift = corners - (before + (after - before) * share[:, None])
    back = before + shift + (corners - before - shift) * smoothness
    forth = after + shift + (corners - after - shift) * smoothness
    t = torch.arange(_POINTS, dtype=corners.dtype)[:, None, None] / _POINTS
    ends = corners, forth, back.roll(-1, 0), following
    weights = (1 - t) ** 3, 3 * t * (1 - t) ** 2, 3 * t**2 * (1 - t), t**3
    curve = sum(w * each for w, each in zip(weights, ends, strict=True))  # (m, n, 2)
    kept = torch.ones(_POINTS, len(corners), dtype=torch.bool)
    kept[1:] &= ~straight
    return curve.transpose(0, 1)[kept.T]


def filled(points, height, width):
    """Return the pixels (h, w) inside of a polygon (m, 2) of rows and columns.

    Inside is what lies behind an odd number of edges.
    """
    start, stop = points, points.roll(-1, 0)
    y = torch.arange(height, dtype=points.dtype)[:, None]
    crosses = (start[:, 0] > y) != (stop[:, 0] > y)  # (h, m)
    rise = stop[:, 0] - start[:, 0]
    share = (y - start[:, 0]) / torch.where(rise == 0, 1.0, rise)
    at = start[:, 1] + share * (stop[:, 1] - start[:, 1])
    x = torch.arange(width, dtype=points.dtype)[:, None]
    behind = (at[:, None] > x) & crosses[:, None]  # (h, w, m)
    return behind.sum(2) % 2 == 1


def _drawn(low, high):
    """Draw a number between two."""
    return low + (high - low) * float(torch.rand(()))


def _one_of(values):
    """Draw one of several values."""
    return values[int(torch.randint(len(values), ()))]


def drawn_outline(height, width, most_corners=6):
    """Draw the outline (m, 2) of a shape that fills a box from corner to corner."""
    n = _one_of(range(5, most_corners + 1))
    corners = torch.rand(n, 2)
    away = corners - corners.mean(0)
    corners = corners[torch.atan2(away[:, 0], away[:, 1]).argsort()]
    points = outline(corners, _one_of((0.2, 0.3, 0.4)), torch.rand(n) < 0.5)
    least = points.amin(0)
    spread = (points.amax(0) - least).clamp(min=1e-6)
    return (points - least) / spread * torch.tensor([height - 1.0, width - 1.0])


def spot(size):
    """Draw a shape (h, w) that takes .02 to .15 of the box around it of a picture."""
    box = _box(size, 3.3)
    return filled(drawn_outline(*box), *box)


def _box(size, longest):
    """Draw the height and width of a box, up to `longest` times as long as wide."""
    area = _drawn(0.02, 0.15) * size[0] * size[1]
    longer = math.exp(_drawn(-math.log(longest), math.log(longest)))
    sides = math.sqrt(area * longer), math.sqrt(area / longer)
    return [max(2, min(n, round(side))) for n, side in zip(size, sides, strict=True)]


def scar(size):
    """Draw a shape of 7 to 21 by 15 to 30 pixels where a side has 256, and turn it."""
    scale = max(size) / _SIDE
    sides = scale * _drawn(15, 30), scale * _drawn(7, 21)
    height, width = (max(2.0, side) for side in sides)
    points = drawn_outline(height, width)
    angle = torch.tensor(_drawn(-math.pi / 4, math.pi / 4))
    turn = torch.stack([angle.cos(), angle.sin(), -angle.sin(), angle.cos()])
    points = points @ turn.view(2, 2)
    points = points - points.amin(0)
    high, wide = (int(n) for n in points.amax(0).ceil() + 1)
    return filled(points, high, wide)[: size[0], : size[1]]


def noise(channels, height, width, mean, change, scale, longer):
    """Draw even noise about a mean (c, h, w), in pieces of some size."""
    cells = [
        max(1, int(width / scale / longer)),
        max(1, int(width / scale * longer)),
    ]
    found = mean + change * (2 * torch.rand(1, channels, *cells) - 1)
    return F.interpolate(
        found, (height, width), mode="bicubic", align_corners=False
    ).clamp(0, 1)[0]


def clump(size):
    """Draw scattered pieces (h, w) inside of a smooth outline."""
    box = _box(size, 3)
    longer = math.exp(_drawn(-math.log(2), math.log(2)))
    pieces = noise(1, *box, 127 / 255, 50 / 255, _drawn(5, 7), longer)[0]
    return (pieces > 138 / 255) & filled(drawn_outline(*box, 9), *box)


_DRAW = {"spot": spot, "scar": scar, "clump": clump}


def softened(mask, size):
    """Return a mask (h, w) whose border is drawn in and blurred over `size` pixels."""
    r = size // 2
    steps = torch.arange(-r, r + 1, dtype=torch.float32)
    disk = (steps[:, None].square() + steps.square() <= r**2).float()
    inside = F.conv2d(mask.float()[None, None], disk[None, None], padding=r)
    inside = (inside > disk.sum() - 0.5).float()
    kernel = (-steps.square() / (2 * size**2)).exp()
    kernel = (kernel[:, None] * kernel)[None, None] / kernel.sum() ** 2
    return F.conv2d(inside, kernel, padding=r)[0, 0]


def _corner(size, box):
    """Draw where a box lies: its middle anywhere, and all of it inside."""
    found = []
    for n, m in zip(size, box, strict=True):
        first = int(torch.randint(n, ())) - m // 2
        found.append(max(0, min(n - m, first)))
    return found


def with_defect(picture, other, shape, fill):
    """Return a picture (c, h, w) with a defect, and how much of it is there (h, w).

    Parameters
    ----------
    picture, other : tensor of shape (c, h, w)
        The picture, on the host, and what pieces are cut out of.
    shape : {"spot", "scar", "clump"}
        What outline it has.
    fill : {"noise", "piece"}
        Noise of a drawn mean, or what another picture has somewhere.
    """
    channels, *size = picture.shape
    for _ in range(_ATTEMPTS):
        mask = _DRAW[shape](size)
        if mask.any():
            break
    box = mask.shape
    (top, left), (high, wide) = _corner(size, box), box
    if fill == "noise":
        mean, change = _one_of(range(50, 200, 10)), _one_of(range(0, 50, 5))
        longer = 2.0 ** _one_of(range(-2, 3))
        given = mean / 255, change / 255, _one_of((1, 2, 4)), longer
        inside = noise(channels, *box, *given)
    else:
        y, x = _corner(size, box)
        inside = other[:, y : y + high, x : x + wide]
    inside = ColourJitter(0.1)(inside[None])[0].clamp(0, 1)
    weight = mask.float()
    if torch.rand(()) < 0.5:
        soft = softened(mask, 5 if shape == "spot" else 3)
        weight = soft if soft.any() else weight  # a thin one has no middle
    if shape == "clump":
        weight = weight * _drawn(0.5, 1)
    found, whole = picture.clone(), picture.new_zeros(size)
    part = found[:, top : top + high, left : left + wide]
    part.lerp_(inside.to(part), weight.to(part))
    whole[top : top + high, left : left + wide] = weight
    return found, whole


def of_all_kinds(x):
    """Return pictures (7 b, c, h, w) without and with defects, and their kinds (7 b,).

    Kind 0 are the pictures (b, c, h, w); 1 to 6 are the shapes with noise and then with
    pieces of another of the pictures. Those of fewer than 3 rows or columns have no
    room for a shape, and stay as they are.
    """
    if min(x.shape[2:]) < _LEAST:
        found = x.repeat(1 + len(SHAPES) * len(FILLS), 1, 1, 1)
        return found, torch.arange(len(found), device=x.device) // len(x)
    pictures, found = x.cpu(), [x]
    kinds = [(shape, fill) for fill in FILLS for shape in SHAPES]
    for kind in kinds:
        others = (torch.randint(len(x), (len(x),))).tolist()
        made = [
            with_defect(each, pictures[other], *kind)[0]
            for each, other in zip(pictures, others, strict=True)
        ]
        found.append(torch.stack(made).to(x))
    labels = torch.arange(len(found), device=x.device).repeat_interleave(len(x))
    return torch.cat(found), labels
