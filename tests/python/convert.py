"""State that PyTorch and Paddle have printed is taken over, and training goes on to their values. (`make test-peers` does it
with the frameworks themselves, and the other way round.)

usage: convert.py LIBADAMW_SO STATES_JSON
"""

import ctypes
import json
import os
import sys

try:
    import numpy as np
except ImportError:
    print("numpy is missing")
    sys.exit(77)

# This file has the name of the module that it tests.
sys.path[0] = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "python")
import convert

library = ctypes.CDLL(sys.argv[1])
library.adamw_last_error.restype = ctypes.c_char_p
with open(sys.argv[2]) as file:
    golden = json.load(file)


def ok(status):
    if status:
        raise RuntimeError(library.adamw_last_error().decode())


def arrays(values):
    return [np.array(value, np.float32) for value in values]


def tensors(state):
    """Lists as arrays again."""
    if isinstance(state, dict):
        return {int(key) if key.isdigit() else key: tensors(value) for key, value in state.items()}
    is_numbers = isinstance(state, list) and not any(isinstance(value, dict) for value in state)
    return np.array(state, np.float32) if is_numbers else state


for run in golden["runs"]:
    weights = arrays(run["middle"])
    optimizer, numbers = ctypes.c_void_p(), []
    ok(library.adamw_create(None, ctypes.byref(optimizer)))
    for name, weight in zip(run["names"], weights):
        number, data = ctypes.c_uint32(), ctypes.c_void_p(weight.ctypes.data)
        ok(library.adamw_add_array(optimizer, name.encode(), data, ctypes.c_uint64(weight.size), 1, ctypes.byref(number)))
        numbers.append(number)
    handle = convert.Handle(library, optimizer)
    if run["framework"] == "torch":
        state = {**run["state"], "state": tensors(run["state"]["state"])}
        convert.from_torch(handle, run["names"], state)
    else:
        convert.from_paddle(handle, run["names"], tensors(run["state"]))
    for grads in golden["grads"]:
        kept = arrays(grads)
        for number, grad in zip(numbers, kept):
            data = ctypes.c_void_p(grad.ctypes.data)
            ok(library.adamw_set_grad_array(optimizer, number, data, ctypes.c_uint64(grad.size), 1))
        ok(library.adamw_step(optimizer))
    for weight, expected in zip(weights, arrays(run["end"])):
        error = np.max(np.abs(weight - expected)) / np.max(np.abs(expected))
        assert error <= 1e-6, (run["framework"], error)
    ok(library.adamw_destroy(optimizer))
    print(run["framework"], run["version"])
