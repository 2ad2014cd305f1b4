"""What the blocks of a vision transformer attend to, seen while they run."""

import torch
from torch.nn import functional as F  # noqa: N812
from torch.overrides import TorchFunctionMode

_SOFTMAX = F.softmax, torch.softmax, torch.Tensor.softmax


class AttentionWatch(TorchFunctionMode):
    """Keeps the attention that patches get, of each block that runs within it.

    Blocks tell nobody how they attend, and each library writes it in its own way: what
    all do is a softmax of tokens by tokens, by itself or within torch's own attention.
    That is seen here, of each block the first, whatever module it is in.

    Parameters
    ----------
    n_pictures, n_patches : int
        Of the pictures that are passed.

    Attributes
    ----------
    block : str or None
        Name of the block that runs; nothing is kept while it is None.
    found : dict
        By the names of blocks the attention (b, p) of the first token to the patches,
        which come last, the mean over heads; where patches are all there is, the mean
        over these.
    """

    def __init__(self, n_pictures, n_patches):
        super().__init__()
        self.n_pictures, self.n_patches = n_pictures, n_patches
        self.block, self.found = None, {}

    def __torch_function__(self, func, types, args=(), kwargs=None):
        """Look at what a function of torch is called with, or returns."""
        kwargs = kwargs or {}
        if self.block is None or self.block in self.found:
            return func(*args, **kwargs)
        if func is F.multi_head_attention_forward:  # with its softmax within
            kwargs["need_weights"] = True
            result = func(*args, **kwargs)
            self._keep(result[1])
            return result
        if func is F.scaled_dot_product_attention:
            self._attended(*args, **kwargs)
        result = func(*args, **kwargs)
        if func in _SOFTMAX:
            self._keep(result)
        return result

    def _attended(self, query, key, value, attn_mask=None, *_, scale=None, **others):
        """Keep what queries (..., t, d) attend to among keys, in torch's attention."""
        if attn_mask is not None or query.shape[-2] != key.shape[-2]:
            return
        if query.shape[-2] > self.n_patches:
            query = query[..., :1, :]
        scale = query.shape[-1] ** -0.5 if scale is None else scale
        self._keep((query @ key.mT * scale).softmax(-1))

    def _keep(self, weights):
        """Keep attention (..., q, t), if it is one of tokens by tokens."""
        if weights.ndim < 3 or weights.shape[-1] < self.n_patches:
            return
        if weights.shape[-2] not in (1, weights.shape[-1]):
            return
        weights = weights.reshape(self.n_pictures, -1, *weights.shape[-2:]).mean(1)
        has_others = weights.shape[-1] > self.n_patches
        row = weights[:, 0] if has_others else weights.mean(1)
        self.found[self.block] = row[:, -self.n_patches :]
