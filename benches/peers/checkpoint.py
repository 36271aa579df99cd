"""Saving and loading the state of one parameter by this library, PyTorch and safetensors: `make bench-checkpoint-peers`.

checkpoint.py LIBADAMW_SO [MEGABYTES]

In every round each saves and loads once. The other two do not make a file durable: an fsync of the file and of its directory
is added to what they do. All load into the state that is there: those two by way of new memory (safetensors maps the file), without
a look at checksums, which they do not have; this library reads the file twice, and sums it both times.
"""

import ctypes
import os
import statistics
import sys
import tempfile
import time

import numpy as np
import safetensors
import safetensors.torch
import torch

ROUNDS = 7
PIECE = 1 << 20


def durable(path):
    for name, flags in ((path, os.O_RDONLY), (os.path.dirname(path), os.O_RDONLY | os.O_DIRECTORY)):
        handle = os.open(name, flags)
        os.fsync(handle)
        os.close(handle)


class Plain:
    """The same bytes, written and read in pieces."""

    def __init__(self, n):
        self.bytes, self.buffer = np.ones(2 * n, np.float32).view(np.uint8).data, bytearray(PIECE)

    def save(self, path):
        with open(path, "wb", buffering=0) as file:
            for start in range(0, len(self.bytes), PIECE):
                file.write(self.bytes[start : start + PIECE])
        durable(path)

    def load(self, path):
        with open(path, "rb", buffering=0) as file:
            while file.readinto(self.buffer):
                pass


class LibAdamw:
    def __init__(self, n):
        self.library = ctypes.CDLL(sys.argv[1])
        self.param, self.grad, self.optimizer = np.ones(n, np.float32), np.ones(n, np.float32), ctypes.c_void_p()
        self.ok(self.library.adamw_create(None, ctypes.byref(self.optimizer)))
        data, number = ctypes.c_void_p(self.param.ctypes.data), ctypes.c_uint32()
        self.ok(self.library.adamw_add_array(self.optimizer, b"w", data, ctypes.c_uint64(n), 1, ctypes.byref(number)))
        self.ok(self.library.adamw_set_grad_array(self.optimizer, number, ctypes.c_void_p(self.grad.ctypes.data), ctypes.c_uint64(n), 1))
        self.ok(self.library.adamw_step(self.optimizer))

    @staticmethod
    def ok(status):
        assert status == 0, status

    def save(self, path):
        self.ok(self.library.adamw_save(self.optimizer, path.encode()))

    def load(self, path):
        self.ok(self.library.adamw_load(self.optimizer, path.encode(), None))


class Torch:
    def __init__(self, n):
        self.state = {name: torch.ones(n) for name in ("exp_avg", "exp_avg_sq")}

    def save(self, path):
        torch.save(self.state, path)
        durable(path)

    def load(self, path):
        self.copy(torch.load(path))

    def copy(self, loaded):
        for name, tensor in loaded.items():
            self.state[name].copy_(tensor)


class Safetensors(Torch):
    def save(self, path):
        safetensors.torch.save_file(self.state, path)
        durable(path)

    def load(self, path):
        self.copy(safetensors.torch.load_file(path))


def seconds(work, path):
    start = time.perf_counter()
    work(path)
    return time.perf_counter() - start


def main():
    megabytes = int(sys.argv[2]) if len(sys.argv) > 2 else 1500
    n = megabytes * 1_000_000 // 8
    who = {
        "write and fsync, read once": Plain(n),
        "libadamw": LibAdamw(n),
        f"torch.save {torch.__version__}": Torch(n),
        f"safetensors.torch {safetensors.__version__}": Safetensors(n),
    }
    times = {name: ([], []) for name in who}
    with tempfile.TemporaryDirectory(dir=os.environ.get("ADAMW_BENCH_FOLDER")) as folder:
        for number in range(ROUNDS):
            for name, peer in who.items():
                path = os.path.join(folder, name.split(" ")[0])
                os.sync()  # what others have written is not this one's to wait for
                times[name][0].append(seconds(peer.save, path))
                times[name][1].append(seconds(peer.load, path))
                os.remove(path)
            print(f"round {number + 1} of {ROUNDS}", file=sys.stderr)
    print(f"{megabytes} MB, {os.cpu_count()} processors, {torch.get_num_threads()} threads; MB/s, median (slowest to fastest)\n")
    print("| | save | load |\n|---|---|---|")
    for name, both in times.items():
        cells = [
            f"{megabytes / statistics.median(each):,.0f} ({megabytes / max(each):,.0f} to {megabytes / min(each):,.0f})" for each in both
        ]
        print(f"| {name} | {' | '.join(cells)} |")


main()
