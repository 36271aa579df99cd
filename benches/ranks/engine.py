"""One rank of an engine of PyTorch's: for each line that it reads, it reduces gradients, steps, and gathers parameters,
and prints the seconds that this took and those of its parts.

usage: engine.py RANK RANKS STORE ENGINE; ENGINE is a name of ENGINES

Gradients are there before: the forward pass gathers parameters and computes nothing, and the backward pass hands the
gradients over. So an engine does all that it would do around a model's arithmetic, and nothing else takes time.
"""

import pathlib
import sys
import time

import torch
import torch.distributed as dist

sys.path.insert(0, str(pathlib.Path(__file__).parents[1] / "peers"))
import cases

LR, DECAY = 1e-3, 0.01
#: The embeddings and the last two; and twelve blocks.
ROOT, BLOCK = cases.GPT2[:2] + cases.GPT2[-2:], cases.GPT2[2:14]


class Gradient(torch.autograd.Function):
    """Hands a gradient over, which autograd may take without a copy."""

    @staticmethod
    def forward(ctx, x, param, grad):
        ctx.grad = grad
        return x.clone()

    @staticmethod
    def backward(ctx, grad):
        return grad, ctx.grad.detach(), None


class Part(torch.nn.Module):
    """Parameters, with gradients that differ between ranks, and parts of its own."""

    def __init__(self, lengths, parts=()):
        super().__init__()
        self.parts = torch.nn.ModuleList(parts)
        self.names = [f"p{i}" for i in range(len(lengths))]
        for name, n in zip(self.names, lengths):
            self.register_parameter(name, torch.nn.Parameter(torch.full((n,), 0.5)))
        self.grads = [torch.full((n,), 0.01 * (1 + dist.get_rank())) for n in lengths]

    def forward(self, x):
        for part in self.parts:
            x = part(x)
        for name, grad in zip(self.names, self.grads):
            x = Gradient.apply(x, getattr(self, name), grad)
        return x


def gpt2():
    return Part(ROOT, [Part(BLOCK) for _ in range(12)])


def fully_sharded(make):
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    init_device_mesh("cpu", (dist.get_world_size(),))
    model = gpt2()
    for part in model.parts:
        fully_shard(part, reshard_after_forward=False)
    fully_shard(model, reshard_after_forward=False)
    optimizer = make(model.parameters())
    return model, lambda loss: loss.backward(), lambda: (optimizer.step(), optimizer.zero_grad())


def fused(params):
    return torch.optim.AdamW(params, lr=LR, weight_decay=DECAY, fused=True)


def ours(params):
    import adamw.torch

    return adamw.torch.AdamW(params, lr=LR, weight_decay=DECAY)


def deepspeed_zero1():
    import deepspeed
    from deepspeed.ops.adam import DeepSpeedCPUAdam

    model = gpt2()
    optimizer = DeepSpeedCPUAdam(model.parameters(), lr=LR, weight_decay=DECAY, adamw_mode=True)
    config = {"train_micro_batch_size_per_gpu": 1, "zero_optimization": {"stage": 1}}
    engine, *_ = deepspeed.initialize(model=model, optimizer=optimizer, config=config)
    return engine, engine.backward, engine.step


ENGINES = {
    "DeepSpeed ZeRO-1, CPUAdam": deepspeed_zero1,
    "FSDP2, torch.optim.AdamW(fused=True)": lambda: fully_sharded(fused),
    "FSDP2, adamw.torch.AdamW": lambda: fully_sharded(ours),
}


def main(rank, ranks, store, engine):
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=int(rank), world_size=int(ranks))
    model, backward, step = ENGINES[engine]()
    print("ready", flush=True)
    for _ in sys.stdin:
        x = torch.ones(1, requires_grad=True)
        dist.barrier()
        times = [time.perf_counter()]
        loss = model(x).sum()
        times.append(time.perf_counter())
        backward(loss)
        times.append(time.perf_counter())
        step()
        times.append(time.perf_counter())
        print(times[-1] - times[0], *(after - before for before, after in zip(times, times[1:])), flush=True)
    dist.destroy_process_group()


if __name__ == "__main__":
    main(*sys.argv[1:])
