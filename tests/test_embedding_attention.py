"""What a transformer's patches are attended to, seen in blocks of several kinds."""

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from torch import nn
from torch.nn import functional as F  # noqa: N812

from skad.embedding import ViTEmbedding
from tests._transformer import TinyViT


class Written(nn.Module):
    """A block that writes its attention itself, as DINO's and timm's do."""

    def __init__(self, width, kind):
        super().__init__()
        self.qkv, self.kind = nn.Linear(width, 3 * width), kind

    def forward(self, x):
        q, k, v = self.qkv(x).unflatten(2, (3, 2, -1)).permute(2, 0, 3, 1, 4)
        if self.kind == "torch":
            found = F.scaled_dot_product_attention(q, k, v)
        else:
            scores = q @ k.mT * q.shape[-1] ** -0.5
            soft = {"method": scores.softmax, "function": self.soft(scores)}
            found = soft[self.kind](dim=-1) @ v
        return x + found.transpose(1, 2).flatten(2)

    def soft(self, scores):
        return lambda dim: F.softmax(scores, dim=dim, dtype=torch.float32)

    def attention(self, x):
        """Return the attention (b, 2, t, t) that both heads have."""
        q, k, _ = self.qkv(x).unflatten(2, (3, 2, -1)).permute(2, 0, 3, 1, 4)
        scores = torch.einsum("bhqd,bhkd->bhqk", q, k) / q.shape[-1] ** 0.5
        return scores.exp() / scores.exp().sum(3, keepdim=True)


def built(kind, n_registers=0, class_token=True):
    """Return a transformer with blocks of a kind, whose weights are always the same."""
    model = TinyViT(n_registers=n_registers, class_token=class_token)
    if kind != "encoder":
        model.blocks = nn.ModuleList(Written(12, kind) for _ in range(4))
        random = torch.Generator().manual_seed(1)
        for value in model.blocks.parameters():
            value.data = torch.randn(value.shape, generator=random) * 0.3
    return model.eval()


def attended(model, x, layers, n_patches):
    """Return the attention (b, p) that patches get, the mean over heads and blocks."""
    tokens = model.patches(x).flatten(2).mT
    tokens = torch.cat([model.extra.expand(len(x), -1, -1), tokens], 1)
    tokens, found = model.first_norm(tokens + model.pos_embed), []
    for i, block in enumerate(model.blocks):
        if isinstance(block, Written):
            weights = block.attention(tokens)
        else:
            seen = block.norm1(tokens)
            options = {"need_weights": True, "average_attn_weights": False}
            weights = block.self_attn(seen, seen, seen, **options)[1]
        if i in layers:
            found.append(weights)
        tokens = block(tokens)
    whole = torch.stack(found).mean((0, 2))  # (b, t, t)
    rows = whole[:, :1] if whole.shape[2] > n_patches else whole
    return rows.mean(1)[:, -n_patches:]


@pytest.mark.parametrize("kind", ["encoder", "torch", "method", "function"])
@pytest.mark.parametrize(
    "more", [{}, {"n_registers": 2}, {"class_token": False}], ids=str
)
@pytest.mark.parametrize("layers", [(1, 3), (2,)])
def test_attention_is_that_of_the_first_token(kind, more, layers):
    model = built(kind, **more)
    X = np.random.default_rng(0).uniform(size=(3, 16, 16, 3)).astype(np.float32)
    embedding = ViTEmbedding(model, layers).fit(X)
    tokens, found = embedding.attended(torch.tensor(X))
    with torch.no_grad():
        x = torch.tensor(X).movedim(3, 1)
        expected = attended(model, x, layers, 16).unflatten(1, (4, 4))
    assert_allclose(found, expected, rtol=1e-4)
    for (_, maps), (_, known) in zip(
        tokens, embedding.tokens(torch.tensor(X)), strict=True
    ):
        assert_allclose(maps, known, atol=1e-5)  # looking changes nothing


def test_wide_pictures_have_it_too():
    X = np.random.default_rng(0).uniform(size=(2, 8, 24, 3))
    embedding = ViTEmbedding(built("method"), (0,)).fit(X)
    assert embedding.attended(torch.tensor(X))[1].shape == (2, 2, 6)


def test_a_transformer_without_a_softmax_says_so():
    class Mixer(nn.Module):
        def __init__(self):
            super().__init__()
            self.norm, self.line = nn.LayerNorm(12), nn.Linear(12, 12)

        def forward(self, x):
            return x + self.line(self.norm(x)).softmax(-1)  # over numbers of a token

    model = TinyViT()
    model.blocks = nn.ModuleList(Mixer() for _ in range(3))
    X = np.zeros((1, 16, 16, 3), np.float32)
    embedding = ViTEmbedding(model, (1,)).fit(X)
    with pytest.raises(ValueError, match=r"\['blocks.1'\] of the backbone do not"):
        embedding.attended(torch.tensor(X))
