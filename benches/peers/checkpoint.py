"""Saving and loading the state of one parameter by this library, PyTorch and safetensors: `make bench-checkpoint-peers`.

checkpoint.py LIBADAMW_SO [MEGABYTES]

In every round each saves twice and loads once. The other two do not make a file durable: for one of the two an fsync of the file and
of its directory is added to what they do. This library always does that to a file; for the other it saves to a function that writes,
for which it reads the state twice, to have the checksums first. All load into the state that is there: those two by way of new
memory (safetensors maps the file), without a look at checksums, which they do not have; this library reads the file twice, and sums it
both times.
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


class SaveArgs(ctypes.Structure):
    """adamw_save_args."""

    Write = ctypes.CFUNCTYPE(ctypes.c_int32, ctypes.c_void_p, ctypes.c_size_t, ctypes.c_void_p)
    _fields_ = [("struct_size", ctypes.c_size_t), ("path", ctypes.c_char_p), ("data", ctypes.c_void_p), ("capacity", ctypes.c_size_t)]
    _fields_ += [("write", Write), ("write_data", ctypes.c_void_p), ("progress", ctypes.c_void_p), ("progress_data", ctypes.c_void_p)]
    _fields_ += [("params", ctypes.c_uint32), ("reserved", ctypes.c_uint32)]


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

    def save_durably(self, path):
        self.save(path)
        durable(path)

    def load(self, path):
        with open(path, "rb", buffering=0) as file:
            while file.readinto(self.buffer):
                pass


class LibAdamw:
    """This library; a save to a function is the one that does not wait for the disk."""

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
        with open(path, "wb", buffering=0) as file:

            def write(data, num_bytes, _):
                return 0 if file.write((ctypes.c_char * num_bytes).from_address(data)) == num_bytes else 1

            args = SaveArgs(struct_size=ctypes.sizeof(SaveArgs), write=SaveArgs.Write(write))
            self.ok(self.library.adamw_save_to(self.optimizer, ctypes.byref(args), None))

    def save_durably(self, path):
        self.ok(self.library.adamw_save(self.optimizer, path.encode()))

    def load(self, path):
        self.ok(self.library.adamw_load(self.optimizer, path.encode(), None))


class Torch:
    save_durably = Plain.save_durably

    def __init__(self, n):
        self.state = {name: torch.ones(n) for name in ("exp_avg", "exp_avg_sq")}

    def save(self, path):
        torch.save(self.state, path)

    def load(self, path):
        self.copy(torch.load(path))

    def copy(self, loaded):
        for name, tensor in loaded.items():
            self.state[name].copy_(tensor)


class Safetensors(Torch):
    def save(self, path):
        safetensors.torch.save_file(self.state, path)

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
        "plain write, read once": Plain(n),
        "libadamw": LibAdamw(n),
        f"torch.save {torch.__version__}": Torch(n),
        f"safetensors.torch {safetensors.__version__}": Safetensors(n),
    }
    times = {name: ([], [], []) for name in who}
    with tempfile.TemporaryDirectory(dir=os.environ.get("ADAMW_BENCH_FOLDER")) as folder:
        for number in range(ROUNDS):
            for name, peer in who.items():
                path = os.path.join(folder, name.split(" ")[0])
                saved, synced, loaded = times[name]
                os.sync()  # what others have written is not this one's to wait for
                saved.append(seconds(peer.save, path))
                os.remove(path)
                os.sync()
                synced.append(seconds(peer.save_durably, path))
                loaded.append(seconds(peer.load, path))
                os.remove(path)
            print(f"round {number + 1} of {ROUNDS}", file=sys.stderr)
    print(f"{megabytes} MB, {os.cpu_count()} processors, {torch.get_num_threads()} threads")
    print("MB/s, median (slowest to fastest), and the median of what that is of the first row in the same round\n")
    print("| | save, and fsync | save | load |\n|---|---|---|---|")
    plain = times["plain write, read once"]
    for name, (saved, synced, loaded) in times.items():
        cells = [name]
        for taken, first in ((synced, plain[1]), (saved, plain[0]), (loaded, plain[2])):
            middle, slowest, fastest = (megabytes / each for each in (statistics.median(taken), max(taken), min(taken)))
            of_plain = statistics.median(theirs / own for own, theirs in zip(taken, first))
            cells.append(f"{middle:,.0f} ({slowest:,.0f} to {fastest:,.0f}), {of_plain:.2f}")
        print(f"| {' | '.join(cells)} |")


main()
