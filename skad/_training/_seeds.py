"""Random numbers of torch that a fit draws without changing what others draw."""

from contextlib import contextmanager, nullcontext

import torch


@contextmanager
def reproducible(device):
    """Fork the generators of the host and of `device`; deterministic convolutions."""
    device = torch.device(device)
    gpus = [device.index or 0] if device.type == "cuda" else []
    flags = torch.backends.cudnn.flags(
        enabled=torch.backends.cudnn.enabled, benchmark=False, deterministic=True
    )
    with torch.random.fork_rng(devices=gpus), flags if gpus else nullcontext():
        yield


def seed_generators(seed, device):
    """Seed the generators of the host and of `device`, and no other."""
    torch.default_generator.manual_seed(seed)
    device = torch.device(device)
    if device.type == "cuda":
        with torch.cuda.device(device):
            torch.cuda.manual_seed(seed)
