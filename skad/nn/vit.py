"""Blocks of vision transformers that are trained: on tokens of shape (b, t, d)."""

from torch import nn
from torch.nn import functional as F  # noqa: N812


def n_heads_for(width):
    """Return how many heads attention has: the most of 64 numbers each that divide."""
    most = max(1, width // 64)
    return next(n for n in range(most, 0, -1) if width % n == 0)


def linear_attention(q, k, v):
    r"""Return attention with the kernel :math:`\phi(q)^T \phi(k)`, of a linear cost.

    With :math:`\phi = \mathrm{elu} + 1`, which is positive, a token gets the mean of
    the values weighted by the kernel, and there is no matrix of tokens by tokens.

    Parameters
    ----------
    q, k, v : tensor of shape (b, heads, t, d)
        Queries, keys and values.
    """
    q, k = F.elu(q) + 1, F.elu(k) + 1
    total = (q * k.sum(2, keepdim=True)).sum(3, keepdim=True)
    return q @ (k.mT @ v) / total


class SelfAttention(nn.Module):
    """Self-attention with several heads, each with a softmax over the tokens.

    Parameters
    ----------
    width : int
        Numbers of a token.
    n_heads : int
        Heads, which divide the width.
    """

    def __init__(self, width, n_heads):
        super().__init__()
        self.n_heads = n_heads
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)

    def forward(self, x):
        """Return the attended tokens."""
        parts = self.qkv(x).unflatten(2, (3, self.n_heads, -1))  # (b, t, 3, heads, d)
        q, k, v = parts.permute(2, 0, 3, 1, 4)
        return self.out(self.attended(q, k, v).transpose(1, 2).flatten(2))

    def attended(self, q, k, v):
        """Return what tokens take of the values, all (b, heads, t, d)."""
        return F.scaled_dot_product_attention(q, k, v)


class LinearAttention(SelfAttention):
    """Self-attention with several heads whose cost is linear in the tokens."""

    def attended(self, q, k, v):
        """Return what tokens take of the values, all (b, heads, t, d)."""
        return linear_attention(q, k, v)


class Block(nn.Module):
    """A block: attention and a perceptron, behind norms and beside what they get.

    Parameters
    ----------
    width : int
        Numbers of a token.
    n_heads : int
        Heads of the attention.
    attention : class, default=LinearAttention
        Or `SelfAttention`.
    """

    def __init__(self, width, n_heads, attention=LinearAttention):
        super().__init__()
        self.norms = nn.ModuleList(nn.LayerNorm(width, eps=1e-8) for _ in range(2))
        self.attention = attention(width, n_heads)
        self.mlp = perceptron(width)

    def forward(self, x):
        """Return the tokens."""
        x = x + self.attention(self.norms[0](x))
        return x + self.mlp(self.norms[1](x))


def perceptron(width, dropout=0.0):
    """Return two linear layers, four times as wide between, with dropout throughout."""
    return nn.Sequential(
        nn.Dropout(dropout),
        nn.Linear(width, 4 * width),
        nn.GELU(),
        nn.Dropout(dropout),
        nn.Linear(4 * width, width),
        nn.Dropout(dropout),
    )


def start_small(module):
    """Draw weights of linear layers from a normal of 0.01, cut at twice that."""
    for part in module.modules():
        if isinstance(part, nn.Linear):
            nn.init.trunc_normal_(part.weight, std=0.01, a=-0.02, b=0.02)
            nn.init.zeros_(part.bias)


def with_gradient(x, share):
    """Return `x` whose gradient is multiplied by `share`."""
    return x.detach() + share * (x - x.detach())
