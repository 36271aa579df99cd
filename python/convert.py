"""Optimizer state of PyTorch, Paddle, DeepSpeed and bitsandbytes to libadamw, and of libadamw to PyTorch and Paddle, with
ctypes and numpy.

The library finds state by name (`adamw_set_state`), by PyTorch's distributed names and by Paddle's; what is left to do is to
give each framework's state those names. Nothing here imports a framework: tensors come in as whatever numpy can see, such as
what `pickled.py` reads from a framework's files.
"""

import ctypes
import json
import math

import numpy as np

DTYPES = {np.dtype(np.float32): 1, np.dtype(np.float64): 2, np.dtype(np.float16): 3, np.dtype(np.int16): 5, np.dtype(np.uint8): 6}
BF16 = 4


class Handle:
    """A handle of the library's that the caller has made, and whose parameters have the names that are used here."""

    def __init__(self, library, optimizer):
        library.adamw_last_error.restype = ctypes.c_char_p
        self.library, self.optimizer = library, optimizer

    def set_state(self, name, values, dtype=None):
        """Copies an array into the part of the state of this name; `dtype` says what uint16 means."""
        values = np.ascontiguousarray(values)
        data = ctypes.c_void_p(values.ctypes.data)
        constant = dtype or DTYPES[values.dtype]
        status = self.library.adamw_set_state(
            self.optimizer, name.encode(), data, ctypes.c_uint64(values.size), ctypes.c_uint32(constant)
        )
        if status:
            raise ValueError(self.library.adamw_last_error().decode())


def from_torch(handle, names, state_dict):
    """Takes over `torch.optim.AdamW.state_dict()`. PyTorch numbers parameters in the order in which its groups list them:
    `names` says what the library calls each of them. Parameters that have taken no step have no state."""
    order = [number for group in state_dict["param_groups"] for number in group["params"]]
    if len(order) != len(names):
        raise ValueError(f"the state_dict has {len(order)} parameters, there are {len(names)} names")
    for number, name in zip(order, names):
        state = state_dict["state"].get(number)
        if state is None:
            continue
        # The step sets the powers of the betas, too.
        handle.set_state(f"state.{name}.step", np.array([float(state["step"])]))
        for part in ("exp_avg", "exp_avg_sq", "max_exp_avg_sq"):
            if part in state:
                handle.set_state(f"state.{name}.{part}", np.asarray(state[part]))


def from_bitsandbytes(handle, names, state_dict):
    """Takes over `bitsandbytes.optim.AdamW8bit.state_dict()`, or that of its 32-bit AdamW, as `from_torch` does: its codes, which
    are not the library's, become the values that they stand for."""
    states = {}
    for number, state in state_dict["state"].items():
        state = {**state, **state.get("__bnb_optimizer_quant_state__", {})}
        states[number] = {
            "step": state["step"],
            "exp_avg": dequantized(state["state1"], state.get("qmap1"), state.get("absmax1")),
            "exp_avg_sq": dequantized(state["state2"], state.get("qmap2"), state.get("absmax2")),
        }
    from_torch(handle, names, {"state": states, "param_groups": state_dict["param_groups"]})


def dequantized(codes, qmap, absmax):
    """What the codes of bitsandbytes stand for: `qmap [256]`, times the largest magnitude of each 256 elements. Moments of small
    parameters are no codes."""
    codes = np.asarray(codes).reshape(-1)
    if codes.dtype != np.uint8:
        return codes
    absmax = np.asarray(absmax)
    block = 256
    if absmax.size != -(-codes.size // block):
        raise ValueError(f"absmax has {absmax.size} elements for {codes.size} codes, expected one for each {block}")
    return np.asarray(qmap)[codes] * np.repeat(absmax, block)[: codes.size]


def from_deepspeed(handle, ranks, masters):
    """Takes over what DeepSpeed's ZeRO (stages 1 and 2) has saved: `ranks` are the `optimizer_state_dict`s of the files
    `*_optim_states.pt` in the order of their ranks, each with a part of the flat f32 parameters and moments. Returns those
    parameters by name; if `masters`, they go to the masters of the handle's, too."""
    parts, steps = {}, {}
    for rank in ranks:
        for group, slices in enumerate(rank["param_slice_mappings"]):
            state = rank["base_optimizer_state"]["state"][group]
            flat = {"master": rank["single_partition_of_fp32_groups"][group], **state}
            for name, place in slices.items():
                steps[name] = np.array([float(state["step"])])
                for part in ("master", "exp_avg", "exp_avg_sq"):
                    values = np.asarray(flat[part])[place.start : place.start + place.numel]
                    parts.setdefault(f"state.{name}.{part}", []).append(values)
    params = {}
    for name, step in steps.items():
        params[name] = np.concatenate(parts.pop(f"state.{name}.master"))
        handle.set_state(f"state.{name}.step", step)
        if masters:
            handle.set_state(f"state.{name}.master", params[name])
    for name, values in parts.items():
        handle.set_state(name, np.concatenate(values))
    return params


def from_paddle(handle, names, state_dict, beta1=0.9):
    """Takes over `paddle.optimizer.AdamW.state_dict()`, of parameters whose names here are Paddle's. Paddle keeps no step, but
    powers of the betas, which are one step ahead: the step is found from that of beta1."""
    for name in names:
        own = name if f"{name}_moment1_0" in state_dict else f"{name}_fp32_master_0"
        if f"{own}_moment1_0" not in state_dict:
            continue
        power = np.asarray(state_dict[f"{own}_beta1_pow_acc_0"]).item()
        step = round(math.log(power) / math.log(beta1)) - 1
        handle.set_state(f"state.{name}.step", np.array([float(step)]))
        for part in ("moment1_0", "moment2_0", "moment2_max_0"):
            if f"{own}_{part}" in state_dict:
                handle.set_state(f"{own}_{part}", np.asarray(state_dict[f"{own}_{part}"]))
        master = state_dict.get("master_weights", {}).get(name)
        if master is not None:
            handle.set_state(f"{name}_fp32_master_0", np.asarray(master))


NUMPY = {"F64": np.float64, "F32": np.float32, "F16": np.float16, "I16": np.int16, "U8": np.uint8, "U64": np.uint64, "BF16": np.uint16}


def read(path):
    """The texts and the tensors of a checkpoint; bf16 as uint16. The library checks files; this only reads them."""
    with open(path, "rb") as file:
        contents = file.read()
    start = 8 + int.from_bytes(contents[:8], "little")
    header = json.loads(contents[8:start])
    texts = header.pop("__metadata__")
    tensors = {}
    for name, entry in header.items():
        first, last = (start + offset for offset in entry["data_offsets"])
        tensors[name] = np.frombuffer(contents[first:last], NUMPY[entry["dtype"]]).reshape(entry["shape"])
    return texts, tensors


def words(text):
    """The settings in a text of a checkpoint."""
    return dict(word.split("=", 1) for word in text.split(" "))


def to_torch(path, names, shapes):
    """A `state_dict` for `torch.optim.AdamW` with these parameters in one group, as numpy arrays: moments of f32 and f64.
    PyTorch keeps the step as a float32, which is exact up to 2^24."""
    texts, tensors = read(path)
    group, own = words(texts["groups.0"]), words(texts["optimizer"])
    state = {}
    for number, (name, shape) in enumerate(zip(names, shapes)):
        state[number] = {"step": np.float32(tensors[f"state.{name}.step"])}
        for part in ("exp_avg", "exp_avg_sq", "max_exp_avg_sq"):
            if f"state.{name}.{part}" in tensors:
                state[number][part] = tensors[f"state.{name}.{part}"].reshape(shape)
    settings = {
        "lr": float(words(texts["state"])["lr"]),
        "betas": (float(group["beta1"]), float(group["beta2"])),
        "eps": float(group["eps"]),
        "weight_decay": float(group["weight_decay"]),
        "amsgrad": own["amsgrad"] == "1",
        "maximize": own["maximize"] == "1",
        "params": list(range(len(names))),
    }
    return {"state": state, "param_groups": [settings]}


def to_paddle(path, names, shapes):
    """A `state_dict` for `paddle.optimizer.AdamW` with parameters of these names, as numpy arrays: moments of f32 and f64, and
    masters. Paddle's powers of the betas are one step ahead, in f32."""
    texts, tensors = read(path)
    group = words(texts["groups.0"])
    state, masters = {}, {}
    for name, shape in zip(names, shapes):
        own = name
        if f"state.{name}.master" in tensors:
            own = f"{name}_fp32_master_0"
            masters[name] = tensors[f"state.{name}.master"].reshape(shape)
        for beta in ("beta1", "beta2"):
            power = tensors[f"state.{name}.{beta}_power"] * float(group[beta])
            state[f"{own}_{beta}_pow_acc_0"] = np.array([power], np.float32)
        for part, theirs in (("exp_avg", "moment1_0"), ("exp_avg_sq", "moment2_0"), ("max_exp_avg_sq", "moment2_max_0")):
            if f"state.{name}.{part}" in tensors:
                state[f"{own}_{theirs}"] = tensors[f"state.{name}.{part}"].reshape(shape)
    return {**state, "master_weights": masters} if masters else state
