"""A vision transformer of a few numbers, in plain torch, with random weights."""

import torch
from torch import nn


class TinyViT(nn.Module):
    """Has a class token, registers, learned positions, blocks and a last norm.

    Parameters
    ----------
    n_registers : int, default=0
        Tokens behind that of the class, which are no patches.
    patch : int, default=4
        Side of a patch.
    side : int, default=16
        Side of the pictures that positions were learned for.
    width, depth : int, default=12 and 4
        Numbers of a token, and of blocks.
    class_token : bool, default=True
        Whether there is one.
    """

    def __init__(
        self, n_registers=0, patch=4, side=16, width=12, depth=4, class_token=True
    ):
        super().__init__()
        random = torch.Generator().manual_seed(0)
        n_extra = n_registers + class_token
        self.patches = nn.Conv2d(3, width, patch, stride=patch)
        self.extra = nn.Parameter(torch.zeros(1, n_extra, width))
        n_tokens = n_extra + (side // patch) ** 2
        self.pos_embed = nn.Parameter(torch.zeros(1, n_tokens, width))
        self.first_norm = nn.LayerNorm(width)
        self.blocks = nn.ModuleList(
            nn.TransformerEncoderLayer(
                width,
                2,
                2 * width,
                activation=nn.GELU(),
                batch_first=True,
                norm_first=True,
            )
            for _ in range(depth)
        )
        self.norm = nn.LayerNorm(width)
        for value in self.parameters():
            value.data = torch.randn(value.shape, generator=random) * 0.3

    def forward(self, x):
        """Return the tokens of `x` behind the last norm."""
        tokens = self.patches(x).flatten(2).mT
        tokens = torch.cat([self.extra.expand(x.shape[0], -1, -1), tokens], 1)
        tokens = self.first_norm(tokens + self.pos_embed)
        for block in self.blocks:
            tokens = block(tokens)
        return self.norm(tokens)
