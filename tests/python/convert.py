"""State files of PyTorch, Paddle, DeepSpeed and bitsandbytes are taken over, and training goes on to their values; files that
would do more than hold tensors are refused. (`make test-peers` does it with the frameworks themselves, and the other way round.)

usage: convert.py LIBADAMW_SO STATES_JSON
"""

import ctypes
import io
import json
import os
import pickle
import sys
import tempfile
import zipfile

try:
    import numpy as np
except ImportError:
    print("numpy is missing")
    sys.exit(77)

# This file has the name of the module that it tests.
sys.path[0] = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "python")
import convert
import pickled

library = ctypes.CDLL(sys.argv[1])
library.adamw_last_error.restype = ctypes.c_char_p
FOLDER = os.path.dirname(sys.argv[2])
with open(sys.argv[2]) as file:
    golden = json.load(file)


def ok(status):
    if status:
        raise RuntimeError(library.adamw_last_error().decode())


def arrays(values):
    return [np.array(value, np.float32) for value in values]


class Ours:
    """The library with parameters of these names."""

    def __init__(self, names, weights):
        self.optimizer, self.numbers = ctypes.c_void_p(), []
        ok(library.adamw_create(None, ctypes.byref(self.optimizer)))
        for name, weight in zip(names, weights):
            number, data = ctypes.c_uint32(), ctypes.c_void_p(weight.ctypes.data)
            ok(library.adamw_add_array(self.optimizer, name.encode(), data, ctypes.c_uint64(weight.size), 1, ctypes.byref(number)))
            self.numbers.append(number)
        self.handle = convert.Handle(library, self.optimizer)

    def step(self, grads):
        for number, grad in zip(self.numbers, grads):
            data = ctypes.c_void_p(grad.ctypes.data)
            ok(library.adamw_set_grad_array(self.optimizer, number, data, ctypes.c_uint64(grad.size), 1))
        ok(library.adamw_step(self.optimizer))

    def state(self, name, n, dtype=np.float32):
        values = np.empty(n, dtype)
        data = ctypes.c_void_p(values.ctypes.data)
        ok(library.adamw_get_state(self.optimizer, name.encode(), data, ctypes.c_uint64(n), convert.DTYPES[values.dtype]))
        return values


def path_of(file):
    return os.path.join(FOLDER, file)


NAMES = golden["names"]
for run in golden["runs"]:
    weights, files = arrays(run["middle"]), [path_of(file) for file in run["files"]]
    ours = Ours(NAMES, weights)
    if run["framework"] == "torch":
        convert.from_torch(ours.handle, NAMES, pickled.load_torch(files[0]))
    elif run["framework"] == "paddle":
        convert.from_paddle(ours.handle, NAMES, pickled.load_paddle(files[0]))
    else:
        ranks = [pickled.load_torch(file)["optimizer_state_dict"] for file in files]
        params = convert.from_deepspeed(ours.handle, ranks, masters=False)
        for name, weight in zip(NAMES, weights):
            assert np.array_equal(params[name], weight.reshape(-1)), name
    for grads in golden["grads"]:
        ours.step(arrays(grads))
    for weight, expected in zip(weights, arrays(run["end"])):
        error = np.max(np.abs(weight - expected)) / np.max(np.abs(expected))
        assert error <= 1e-6, (run["framework"], error)
    ok(library.adamw_destroy(ours.optimizer))
    print(run["framework"], run["version"])

# What codes stand for, bit for bit.
saved = pickled.load_torch(path_of("states-bitsandbytes.pt"))
ours = Ours(["w"], [np.zeros(4100, np.float32)])
convert.from_bitsandbytes(ours.handle, ["w"], saved["state_dict"])
for part in ("exp_avg", "exp_avg_sq"):
    assert np.array_equal(ours.state(f"state.w.{part}", 4100).view(np.uint32), saved[part].view(np.uint32)), part
assert ours.state("state.w.step", 1, np.float64) == 3
ok(library.adamw_destroy(ours.optimizer))
print("bitsandbytes", golden["versions"]["bitsandbytes"])


# ---- files that ask for more than tensors, or for more of them than there is


class Calls:
    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


def refuses(load, contents, problem):
    with tempfile.NamedTemporaryFile() as file:
        file.write(contents)
        file.flush()
        try:
            load(file.name)
        except (pickle.UnpicklingError, ValueError) as error:
            assert problem in str(error), error
        else:
            raise AssertionError(f"expected {problem}")


def zipped(pkl, compression=zipfile.ZIP_STORED, storage=bytes(16)):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", compression) as archive:
        archive.writestr("archive/data.pkl", pkl)
        archive.writestr("archive/data/0", storage)
    return file.getvalue()


class Saving(pickle.Pickler):
    """Writes a tensor as PyTorch does."""

    def persistent_id(self, value):
        return ("storage", "FloatStorage", "0", "cpu", 4) if value is Saving else None


def tensor(offset, shape, strides):
    file = io.BytesIO()
    Saving(file, 2).dump(Calls(pickled.tensor, Saving, offset, shape, strides, False, None))
    return file.getvalue().replace(b"cpickled\ntensor\n", b"ctorch._utils\n_rebuild_tensor_v2\n")


with tempfile.TemporaryDirectory() as folder:
    made = os.path.join(folder, "made")
    hostile = pickle.dumps({"state": Calls(os.mkdir, made)})
    refuses(pickled.load_paddle, hostile, "mkdir")
    refuses(pickled.load_torch, zipped(hostile), "mkdir")
    assert not os.path.exists(made)
refuses(pickled.load_torch, zipped(pickle.dumps({}), zipfile.ZIP_DEFLATED), "compressed")
refuses(pickled.load_paddle, pickle.dumps(np.array([Calls(print)], object)), "expected one of numbers")
saved = zipped(tensor(1, (3,), (1,)), storage=np.arange(4, dtype=np.float32).tobytes())
with tempfile.NamedTemporaryFile() as file:
    file.write(saved)
    file.flush()
    assert pickled.load_torch(file.name).tolist() == [1, 2, 3]
for offset, shape, strides in [(2, (3,), (1,)), (0, (2, 2), (3, 1)), (0, (1 << 40,), (0,))]:
    refuses(pickled.load_torch, zipped(tensor(offset, shape, strides)), "larger than its storage")
for offset, shape, strides in [(-1, (2,), (1,)), (0, (-2,), (1,)), (3, (2,), (-1,)), (0, (2, 2), (1,))]:
    refuses(pickled.load_torch, zipped(tensor(offset, shape, strides)), "a tensor has the shape")
