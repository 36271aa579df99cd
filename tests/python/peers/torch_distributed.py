"""Two and three processes: DistributedDataParallel and FSDP2, saved and loaded on another number.

usage: LIBADAMW=libadamw.so torch_distributed.py
"""

import math
import os
import socket
import tempfile
import unittest

import adamw.torch
import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from torch.distributed.checkpoint.state_dict import get_state_dict, set_state_dict
from torch.distributed.fsdp import CPUOffloadPolicy, fully_shard
from torch.distributed.optim import ZeroRedundancyOptimizer
from torch.distributed.tensor import Shard, distribute_tensor
from torch_pairs import distance

STEPS = 12
CLASSES = {"torch": torch.optim.AdamW, "adamw": adamw.torch.AdamW}


def model():
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Linear(7, 13), torch.nn.Tanh(), torch.nn.Linear(13, 5))


def train(wrapped, optimizer, steps, start=0, clip_norm=0):
    """Steps on batches of all ranks, of which each takes its part. `clip_norm`: PyTorch clips."""
    for step in range(start, start + steps):
        generator = torch.Generator().manual_seed(step)
        inputs = torch.randn(12, 7, generator=generator).chunk(dist.get_world_size())
        optimizer.zero_grad()
        wrapped(inputs[dist.get_rank()]).square().mean().backward()
        if clip_norm:
            torch.nn.utils.clip_grad_norm_(wrapped.parameters(), clip_norm)
        optimizer.step()


def weights(network):
    full = lambda t: t.full_tensor() if hasattr(t, "full_tensor") else t
    return [full(param.detach()).clone() for param in network.parameters()]


def data_parallel():
    ends = []
    for make in CLASSES.values():
        network = torch.nn.parallel.DistributedDataParallel(model())
        optimizer = make(network.parameters(), lr=0.01)
        train(network, optimizer, STEPS)
        ends.append(weights(network.module))
    check(*ends)


def sharded(which, keywords, dtype=torch.float32, **options):
    network = model().to(dtype)
    fully_shard(network, **options)
    return network, CLASSES[which](network.parameters(), lr=0.01, **keywords)


def fully_sharded():
    for options in ({}, {"offload_policy": CPUOffloadPolicy(pin_memory=False)}):
        ends = []
        for which in CLASSES:
            network, optimizer = sharded(which, {"amsgrad": True}, **options)
            train(network, optimizer, STEPS)
            ends.append(weights(network))
        check(*ends)


def save(folder):
    """Half of a run on this number of ranks, with each class."""
    for which in CLASSES:
        network, optimizer = sharded(which, {})
        train(network, optimizer, STEPS // 2)
        parts = get_state_dict(network, optimizer)
        dcp.save({"model": parts[0], "optimizer": parts[1]}, checkpoint_id=f"{folder}/{which}")


def load(folder):
    """The other half, also where the other class has saved."""
    ends = {}
    for saved in CLASSES:
        for which in CLASSES:
            network, optimizer = sharded(which, {})
            parts = dict(zip(("model", "optimizer"), get_state_dict(network, optimizer)))
            dcp.load(parts, checkpoint_id=f"{folder}/{saved}")
            set_state_dict(
                network,
                optimizer,
                model_state_dict=parts["model"],
                optim_state_dict=parts["optimizer"],
            )
            counts = {float(state["step"]) for state in optimizer.state.values()}
            assert counts == {STEPS // 2}, counts
            train(network, optimizer, STEPS // 2, start=STEPS // 2)
            ends[saved, which] = weights(network)
    for end in ends.values():
        check(end, ends["torch", "torch"])


def clipped():
    """A norm over all ranks: inside the step, beside PyTorch's of whole gradients."""
    for norm in (0.05, 1e6):
        ends = []
        for which, keywords in (("torch", {}), ("adamw", {"clip_norm": norm})):
            network, optimizer = sharded(which, keywords)
            for step in range(STEPS):
                train(network, optimizer, 1, start=step, clip_norm=0 if keywords else norm)
            ends.append(weights(network))
        check(*ends)


def clipped_otherwise():
    """Parameters that are cut by columns, and some that are cut by rows."""
    mesh = torch.distributed.device_mesh.init_device_mesh("cpu", (dist.get_world_size(),))
    starts = [torch.linspace(-1, 1, 42).view(6, 7), torch.linspace(0, 1, 15).view(5, 3)]
    for cuts in ((1, 1), (0, 1)):
        ends = []
        for make, keywords in ((torch.optim.AdamW, {}), (adamw.torch.AdamW, {"clip_norm": 0.1})):
            cut = [distribute_tensor(t, mesh, [Shard(cut)]) for t, cut in zip(starts, cuts)]
            params = [torch.nn.Parameter(param) for param in cut]
            optimizer = make(params, lr=0.01, **keywords)
            for step in range(STEPS):
                for param, start in zip(params, starts):
                    param.grad = distribute_tensor((start + step).cos(), mesh, param.placements)
                if not keywords:
                    torch.nn.utils.clip_grad_norm_(params, 0.1)
                optimizer.step()
            ends.append([param.full_tensor().detach() for param in params])
        check(*ends)


def one_has_a_nan():
    """Every rank fails, by name, and none has changed anything."""
    network, optimizer = sharded("adamw", {"clip_norm": 1.0})
    train(network, optimizer, 1)
    before = weights(network)
    for param in network.parameters():
        param.grad.zero_()
        if dist.get_rank() == 0:
            param.grad.to_local().fill_(float("nan"))
    optimizer.step()
    assert optimizer.grad_norm != optimizer.grad_norm, optimizer.grad_norm
    ends = weights(network)
    assert all(end.isnan().all() for end in ends), "PyTorch's clip has a NaN of all too"


def zero_redundancy():
    ends = []
    for make in CLASSES.values():
        network = torch.nn.parallel.DistributedDataParallel(model())
        optimizer = ZeroRedundancyOptimizer(network.parameters(), optimizer_class=make, lr=0.01)
        train(network, optimizer, STEPS)
        ends.append(weights(network.module))
        optimizer.consolidate_state_dict()
        if dist.get_rank() == 0:
            assert len(optimizer.state_dict()["state"]) == 4
    check(*ends)


def small_state():
    """bf16 parameters with a split master, as near to f32 training as rounding lets them be."""
    network, optimizer = sharded("adamw", {"precision": "split"}, torch.bfloat16)
    train_bf16(network, optimizer)
    state = next(iter(optimizer.state.values()))
    assert state["remainder"].dtype == torch.int16 and hasattr(state["remainder"], "to_local")


def train_bf16(network, optimizer):
    for step in range(STEPS):
        optimizer.zero_grad()
        network(torch.ones(2, 7, dtype=torch.bfloat16)).float().square().mean().backward()
        optimizer.step()


#: Shapes that 1, 2, 3 and 4 processes cut by whole blocks: rows of some blocks, rows of which a
#: block has several, vectors, ends inside of a block, fewer numbers than codes are for.
CODED = [(48, 256), (23, 768), (6143, 2), (6144, 3), (24 * 256 - 1,), (23, 384), (40, 7)]
#: And those of moments in codes that are tested.
FORMATS = (("8bit", torch.float32), ("4bit", torch.bfloat16))


def coded(moments, dtype=torch.float32):
    """Parameters in rows over all processes, and their optimizer."""
    mesh = torch.distributed.device_mesh.init_device_mesh("cpu", (dist.get_world_size(),))
    wholes = [torch.linspace(-1, 1, math.prod(s)).view(s).sin().to(dtype) for s in CODED]
    cut = [distribute_tensor(whole, mesh, [Shard(0)]) for whole in wholes]
    network = torch.nn.ParameterList([torch.nn.Parameter(part) for part in cut])
    optimizer = adamw.torch.AdamW(network.parameters(), lr=0.01, moments=moments, clip_norm=0.5)
    return network, optimizer


def step_coded(network, optimizer, steps):
    for step in steps:
        for number, param in enumerate(network):
            generator = torch.Generator().manual_seed(100 * step + number)
            grad = torch.randn(param.shape, generator=generator).to(param.dtype)
            param.grad = distribute_tensor(grad, param.device_mesh, param.placements)
        optimizer.step()


def alone(moments, dtype, steps):
    """What one process has after so many steps, of plain tensors."""
    wholes = [torch.linspace(-1, 1, math.prod(s)).view(s).sin().to(dtype) for s in CODED]
    network = [torch.nn.Parameter(whole) for whole in wholes]
    optimizer = adamw.torch.AdamW(network, lr=0.01, moments=moments, clip_norm=0.5)
    for step in range(steps):
        for number, param in enumerate(network):
            generator = torch.Generator().manual_seed(100 * step + number)
            param.grad = torch.randn(param.shape, generator=generator).to(dtype)
        optimizer.step()
    return [param.detach() for param in network]


def save_coded(folder, moments, dtype):
    network, optimizer = coded(moments, dtype)
    step_coded(network, optimizer, range(3))
    state = optimizer.state[network[0]]
    assert state["exp_avg"].dtype == torch.uint8 and hasattr(state["exp_avg_scale"], "to_local")
    network_state, state = get_state_dict(network, optimizer)
    dcp.save({"model": network_state, "optimizer": state}, checkpoint_id=folder)


def load_coded(folder, moments, dtype):
    """Goes on to the bits of one process that never stopped, and saves again."""
    network, optimizer = coded(moments, dtype)
    parts = dict(zip(("model", "optimizer"), get_state_dict(network, optimizer)))
    dcp.load(parts, checkpoint_id=folder)
    set_state_dict(
        network,
        optimizer,
        model_state_dict=parts["model"],
        optim_state_dict=parts["optimizer"],
    )
    step_coded(network, optimizer, range(3, 6))
    for shape, end, expected in zip(CODED, weights(network), alone(moments, dtype, 6)):
        assert torch.equal(end, expected), (moments, dtype, shape)


def refused_cuts():
    """A cut inside a block is an error with both numbers, and a matrix by columns, one with its cut."""
    mesh = torch.distributed.device_mesh.init_device_mesh("cpu", (dist.get_world_size(),))
    for shape, cut, moments, says in (
        ((18, 300), 0, "8bit", "cut at element 2700, which is no multiple of 256"),
        ((18, 300), 0, "4bit", "cut at element 2700, which is no multiple of 128"),
        ((512, 256), 1, "8bit", "Shard(dim=1)"),
    ):
        whole = torch.ones(shape)
        param = torch.nn.Parameter(distribute_tensor(whole, mesh, [Shard(cut)]))
        param.grad = distribute_tensor(whole, mesh, [Shard(cut)])
        optimizer = adamw.torch.AdamW([param], moments=moments)
        try:
            optimizer.step()
        except adamw.UnsupportedError as error:
            assert says in str(error), error
        else:
            raise AssertionError(f"{shape} {moments} was taken")
        assert torch.equal(param.full_tensor(), whole)


def check(ours, theirs):
    for a, b in zip(ours, theirs, strict=True):
        assert distance(a, b) <= 1e-5, distance(a, b)


def start(rank, works, ranks, port):
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    torch.set_num_threads(1)
    dist.init_process_group("gloo", rank=rank, world_size=ranks)
    torch.distributed.device_mesh.init_device_mesh("cpu", (ranks,))
    try:
        for work, *arguments in works:
            work(*arguments)
    finally:
        dist.destroy_process_group()


def run(ranks, *works):
    """Does these works, functions with their arguments, in as many processes."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    torch.multiprocessing.spawn(start, (works, ranks, port), nprocs=ranks)


class Distributed(unittest.TestCase):
    def test_replicas_and_shards_train_as_with_torchs_class(self):
        run(2, (data_parallel,), (fully_sharded,), (zero_redundancy,), (small_state,))

    def test_ranks_clip_by_one_norm(self):
        for ranks in (2, 4):  # of 4, one has no row of a parameter
            run(ranks, (clipped,), (clipped_otherwise,), (one_has_a_nan,))

    def test_a_checkpoint_goes_on_with_another_number_of_ranks(self):
        with tempfile.TemporaryDirectory() as two, tempfile.TemporaryDirectory() as three:
            run(2, (save, two))
            run(3, (load, two), (save, three))
            run(2, (load, three))


    def test_moments_in_codes_go_on_with_another_number_of_ranks_to_the_bit(self):
        with tempfile.TemporaryDirectory() as folder:
            saved = lambda on: [(save_coded, f"{folder}/{on}-{m}", m, d) for m, d in FORMATS]
            loaded = lambda on: [(load_coded, f"{folder}/{on}-{m}", m, d) for m, d in FORMATS]
            run(2, (refused_cuts,), *saved(2))
            run(1, *loaded(2), *saved(1))
            run(4, *loaded(1), *saved(4))
            run(3, *loaded(4), *loaded(2))


if __name__ == "__main__":
    unittest.main()
