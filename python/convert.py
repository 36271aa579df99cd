"""Optimizer state of PyTorch, Paddle, DeepSpeed and bitsandbytes to libadamw, and of libadamw to the first three, with ctypes
and numpy.

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


def from_distributed(handle, tensors):
    """Takes over the state that PyTorch's distributed checkpoints call `state.<param>.exp_avg` and so on, of parameters that have the
    same names here: from `get_optimizer_state_dict` with `flatten_optimizer_state_dict`, or from the tensors that `read` finds in a
    safetensors file of it."""
    for name, values in tensors.items():
        if name.startswith("state."):
            values = widened(np.asarray(values))
            handle.set_state(name, values.astype(np.float64) if name.endswith(".step") else values)


def widened(values):
    """bf16, which comes as uint16, in float32, which holds it exactly."""
    return (values.astype(np.uint32) << 16).view(np.float32) if values.dtype == np.uint16 else values


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


def pieces(ranks):
    """The parts of parameters and moments that DeepSpeed's ranks have: the name of the parameter, the state of its group, and views."""
    for number, rank in enumerate(ranks):
        if "param_slice_mappings" not in rank or not isinstance(rank.get("base_optimizer_state"), dict):
            raise ValueError(f"the state of rank {number} is that of ZeRO's stage 3 or elastic, expected stage 1 or 2")
        if max(rank["partition_count"]) != len(ranks):
            raise ValueError(f"the state of rank {number} is one of {max(rank['partition_count'])}, there are {len(ranks)}")
        for group, slices in enumerate(rank["param_slice_mappings"]):
            state = rank["base_optimizer_state"]["state"][group]
            flat = {"master": rank["single_partition_of_fp32_groups"][group], **state}
            for name, place in slices.items():
                own = slice(place.start, place.start + place.numel)
                yield name, state, {part: view(flat[part])[own] for part in ("master", "exp_avg", "exp_avg_sq")}


def view(tensor):
    """A tensor as numpy sees it, even one that PyTorch would compute a gradient of."""
    return np.asarray(tensor.detach() if hasattr(tensor, "detach") else tensor)


def from_deepspeed(handle, ranks, masters):
    """Takes over what DeepSpeed's ZeRO (stages 1 and 2) has saved: `ranks` are the `optimizer_state_dict`s of the files
    `*_optim_states.pt` in the order of their ranks (`pickled.load_deepspeed` reads them), each with a part of the flat f32
    parameters and moments. Returns those parameters by name; if `masters`, they go to the masters of the handle's, too."""
    steps, params, whole = {}, {}, {}
    for name, state, parts in pieces(ranks):
        steps[name] = np.array([float(state["step"])])
        for part, values in parts.items():
            whole.setdefault((name, part), []).append(values)
    for (name, part), values in whole.items():
        if part == "master":
            handle.set_state(f"state.{name}.step", steps[name])
            params[name] = np.concatenate(values)
        if part != "master" or masters:
            handle.set_state(f"state.{name}.{part}", np.concatenate(values))
    return params


def to_deepspeed(path, ranks, params):
    """Puts the state of a checkpoint into what DeepSpeed's ZeRO (stages 1 and 2) has saved of the same parameters, on as many ranks
    as it is to go on: `ranks` are as for `from_deepspeed`, but as `torch.load` gives them, and are written in place. `params` are
    the parameters by name, in f32, where the checkpoint has no masters of them."""
    _, tensors = read(path)
    steps, taken = {}, {}
    for name, state, parts in pieces(ranks):
        step = int(tensors[f"state.{name}.step"])
        if steps.setdefault(id(state), step) != step:
            raise ValueError(f"{name!r} has taken {step} steps, others in its group {steps[id(state)]}: DeepSpeed counts them together")
        state["step"] = state["step"] * 0 + step  # a tensor or an int
        master = tensors.get(f"state.{name}.master")
        whole = {"master": params[name].reshape(-1) if master is None else master, **dict(moments(tensors, name, -1))}
        first = taken.setdefault(name, 0)
        taken[name] += len(parts["master"])
        for part, values in parts.items():
            values[:] = whole[part][first : taken[name]]


def paddle_step(state_dict, name, betas):
    """How many steps have been taken. Paddle keeps powers of the betas, which are one step ahead, and which f32 cannot hold any more
    after 830 steps with 0.9, 87,000 with 0.999. If neither is left, this is how many it took at least: both corrections are 1."""
    for part, beta in zip(("beta1_pow_acc_0", "beta2_pow_acc_0"), betas):
        power = np.asarray(state_dict[f"{name}_{part}"])
        least = np.finfo(power.dtype).tiny
        if power.item() >= least:
            exponent = math.log(power.item()) / math.log(power.dtype.type(beta))
            if abs(exponent - round(exponent)) > 0.2:  # f32 rounds the powers
                raise ValueError(f"{name}_{part} is {power.item()}, which is no power of {beta}")
            return round(exponent) - 1
    return math.ceil(math.log(least) / math.log(betas[1])) - 1


def from_paddle(handle, names, state_dict, beta1=0.9, beta2=0.999):
    """Takes over `paddle.optimizer.AdamW.state_dict()`, of parameters whose names here are Paddle's."""
    for name in names:
        own = name if f"{name}_moment1_0" in state_dict else f"{name}_fp32_master_0"
        if f"{own}_moment1_0" not in state_dict:
            continue
        step = paddle_step(state_dict, own, (beta1, beta2))
        handle.set_state(f"state.{name}.step", np.array([float(step)]))
        for part in ("moment1_0", "moment2_0", "moment2_max_0"):
            if f"{own}_{part}" in state_dict:
                handle.set_state(f"{own}_{part}", np.asarray(state_dict[f"{own}_{part}"]))
        master = state_dict.get("master_weights", {}).get(name)
        if master is not None:
            handle.set_state(f"{name}_fp32_master_0", np.asarray(master))


NUMPY = {"F64": np.float64, "F32": np.float32, "F16": np.float16, "I16": np.int16, "U8": np.uint8, "U64": np.uint64, "BF16": np.uint16}


def read(path):
    """The texts and the tensors of a safetensors file; bf16 as uint16. The library checks files; this only reads them."""
    with open(path, "rb") as file:
        contents = file.read()
    start = 8 + int.from_bytes(contents[:8], "little")
    header = json.loads(contents[8:start])
    texts = header.pop("__metadata__", {})
    tensors = {}
    for name, entry in header.items():
        first, last = (start + offset for offset in entry["data_offsets"])
        tensors[name] = np.frombuffer(contents[first:last], NUMPY[entry["dtype"]]).reshape(entry["shape"])
    return texts, tensors


def words(text):
    """The settings in a text of a checkpoint."""
    return dict(word.split("=", 1) for word in text.split(" "))


def settings_of(texts, name):
    """Those of a parameter, and those of its group."""
    own = words(texts[f"param_groups.{name}"])
    return own, words(texts[f"groups.{own['group']}"])


def moments(tensors, name, shape):
    """The moments of a parameter in the types that other frameworks have them in."""
    for part in ("exp_avg", "exp_avg_sq", "max_exp_avg_sq"):
        values = tensors.get(f"state.{name}.{part}")
        if values is None:
            continue
        if values.dtype == np.uint8:
            raise ValueError(f"state.{name}.{part} is in codes, which no other framework knows; expected floating point")
        yield part, widened(values).reshape(shape)


def to_torch(path, groups, shapes):
    """A `state_dict` for a `torch.optim.AdamW` whose groups have the parameters of these names, `shapes` by name, as numpy arrays.
    PyTorch keeps the step as a float32, which is exact up to 2^24. Masters are not the optimizer's there: `read` finds them."""
    texts, tensors = read(path)
    optimizer = words(texts["optimizer"])
    state, param_groups = {}, []
    for names in groups:
        settings = {}
        for name in names:
            own, group = settings_of(texts, name)
            state[len(state)] = {
                "step": np.float32(tensors[f"state.{name}.step"]),
                **dict(moments(tensors, name, shapes[name])),
            }
            its = {
                "lr": float(tensors[f"param_groups.{name}.lr"]),
                "betas": (float(group["beta1"]), float(group["beta2"])),
                "eps": float(group["eps"]),
                "weight_decay": float(group["weight_decay"]) if own["decays"] == "1" else 0.0,
                "amsgrad": optimizer["amsgrad"] == "1",
                "maximize": optimizer["maximize"] == "1",
            }
            if settings and its != settings:
                raise ValueError(f"the settings of {name!r} are {its}, those of {names[0]!r} in the same group {settings}")
            settings = its
        param_groups.append({**settings, "params": list(range(len(state) - len(names), len(state)))})
    return {"state": state, "param_groups": param_groups}


def to_paddle(path, shapes):
    """A `state_dict` for `paddle.optimizer.AdamW` with parameters of these names, `shapes` by name, as numpy arrays. Paddle's powers
    of the betas are one step ahead. Masters are pairs of a name and an array, which `paddle.save` and `paddle.load` make tensors of
    that name: by it Paddle finds their moments."""
    texts, tensors = read(path)
    state, masters = {}, {}
    for name, shape in shapes.items():
        own = name
        if f"state.{name}.remainder" in tensors:
            raise ValueError(f"state.{name}.remainder is nothing that Paddle knows; expected a master, or a parameter without one")
        if f"state.{name}.master" in tensors:
            own = f"{name}_fp32_master_0"
            masters[name] = own, tensors[f"state.{name}.master"].reshape(shape)
        values = dict(moments(tensors, name, shape))
        for beta in ("beta1", "beta2"):
            power = tensors[f"state.{name}.{beta}_power"] * float(settings_of(texts, name)[1][beta])
            state[f"{own}_{beta}_pow_acc_0"] = np.array([power], values["exp_avg"].dtype)
        for part, theirs in (("exp_avg", "moment1_0"), ("exp_avg_sq", "moment2_0"), ("max_exp_avg_sq", "moment2_max_0")):
            if part in values:
                state[f"{own}_{theirs}"] = values[part]
    return {**state, "master_weights": masters} if masters else state
