"""Two optimizers on equal parameters: torch.optim.AdamW and ours, with the same gradients."""

import adamw.torch
import torch

STEPS = 100
#: Of the largest element: how far apart parameters may be, which round differently.
TOLERANCE = {torch.float32: 1e-5, torch.float64: 2e-12, torch.bfloat16: 0.1, torch.float16: 0.02}


def parameters(dtype=torch.float32):
    """Returns parameters of the shapes and orders of memory that PyTorch's users have."""
    generator = torch.Generator().manual_seed(7)
    draw = lambda *shape: torch.randn(*shape, generator=generator, dtype=torch.float64).to(dtype)
    return [
        draw(10, 5),
        draw(()),
        draw(1),
        draw(0, 3),
        draw(6, 7).t(),
        draw(2, 3, 4, 5).to(memory_format=torch.channels_last),
        draw(9, 8)[:, ::2],
        draw(3000),
    ]


class Pair:
    """torch.optim.AdamW beside adamw.torch.AdamW."""

    def __init__(self, params, keywords=None, ours=None, groups=lambda params: params):
        self.theirs = [torch.nn.Parameter(p.detach().clone()) for p in params]
        self.ours = [torch.nn.Parameter(same_memory_format(p)) for p in params]
        for param, start in zip(self.theirs, params, strict=True):
            param.data = same_memory_format(start)
        keywords = keywords or {}
        self.torch = torch.optim.AdamW(groups(self.theirs), **keywords)
        self.adamw = adamw.torch.AdamW(groups(self.ours), **keywords, **(ours or {}))
        self.generator = torch.Generator().manual_seed(11)

    def gradients(self, scale=1.0, absent=()):
        """Gives both the same gradients, and none to the parameters of these numbers."""
        for index, (theirs, ours) in enumerate(zip(self.theirs, self.ours, strict=True)):
            noise = torch.randn(theirs.shape, generator=self.generator, dtype=torch.float64)
            for param in (theirs, ours):
                grad = torch.empty_like(param).copy_(noise * scale)  # in the order of the parameter
                param.grad = None if index in absent else grad

    def step(self, **keywords):
        """Steps both with the same new gradients."""
        self.gradients(**keywords)
        self.torch.step()
        self.adamw.step()

    def error(self):
        """Returns the largest difference, over the largest element of its parameter."""
        return max(distance(a, b) for a, b in zip(self.ours, self.theirs, strict=True))

    def assert_near(self, what, tolerance=None):
        dtype = self.theirs[0].dtype.to_real()
        tolerance = TOLERANCE[dtype] if tolerance is None else tolerance
        error = self.error()
        assert error <= tolerance, f"{what}: parameters are {error} apart, not {tolerance}"


def same_memory_format(tensor):
    """Returns a copy with the strides of the original, gaps included."""
    size = (
        1 + sum((n - 1) * s for n, s in zip(tensor.shape, tensor.stride())) if tensor.numel() else 0
    )
    memory = torch.zeros(size, dtype=tensor.dtype)
    copy = memory.as_strided(tensor.shape, tensor.stride())
    return copy.copy_(tensor.detach())


def distance(a, b):
    a, b = a.detach().to(torch.complex128), b.detach().to(torch.complex128)
    assert a.isfinite().all() and b.isfinite().all()
    return ((a - b).abs().max() / b.abs().max().clamp(min=1e-30)).item() if a.numel() else 0.0
