"""State files of PyTorch, Paddle, DeepSpeed and bitsandbytes are taken over, and training goes on to their values; files that
would do more than hold tensors are refused. (`make test-peers` does it with the frameworks themselves, and the other way round.)

usage: convert.py STATES_JSON
"""

import io
import json
import os
import pickle
import sys
import tempfile
import tracemalloc
import zipfile

try:
    import ml_dtypes  # noqa: F401  (of ours.py)
    import numpy as np
except ImportError as missing:
    print(missing)
    sys.exit(77)
if sys.version_info < (3, 11):
    print("the package needs Python 3.11")
    sys.exit(77)

from adamw import convert
from adamw.convert import made as makers
from ours import Ours, from_bf16

FOLDER = os.path.dirname(sys.argv[1])
with open(sys.argv[1]) as file:
    golden = json.load(file)


def arrays(values):
    return [np.array(value, np.float32) for value in values]


def path_of(file):
    return os.path.join(FOLDER, file)


NAMES = golden["names"]
for run in golden["runs"]:
    weights, files = arrays(run["middle"]), [path_of(file) for file in run["files"]]
    ours = Ours(NAMES, weights)
    if run["framework"] == "torch":
        convert.from_torch(ours.optimizer, NAMES, convert.load_torch(files[0]))
    elif run["framework"] == "torch's distributed names":
        convert.from_distributed(ours.optimizer, convert.read(files[0])[1])
    elif run["framework"] == "paddle":
        convert.from_paddle(ours.optimizer, convert.load_paddle(files[0]))
    else:
        ranks = [convert.load_torch(file)["optimizer_state_dict"] for file in files]
        params = convert.from_deepspeed(ours.optimizer, ranks, masters=False)
        for name, weight in zip(NAMES, weights):
            assert np.array_equal(params[name], weight.reshape(-1)), name
    for grads in golden["grads"]:
        ours.step(arrays(grads))
    for weight, expected in zip(ours.weights, arrays(run["end"])):
        error = np.max(np.abs(weight - expected)) / np.max(np.abs(expected))
        assert error <= 1e-6, (run["framework"], error)
    print(run["framework"], run["version"])

# What codes stand for, bit for bit.
saved = convert.load_torch(path_of("states-bitsandbytes.pt"))
ours = Ours(["w"], [np.zeros(4100, np.float32)])
convert.from_bitsandbytes(ours.optimizer, ["w"], saved["state_dict"])
for part in ("exp_avg", "exp_avg_sq"):
    assert np.array_equal(ours.state(f"state.w.{part}").view(np.uint32), saved[part].view(np.uint32)), part
assert ours.state("state.w.step") == 3
print("bitsandbytes", golden["versions"]["bitsandbytes"])



def refused(problem, function, *arguments):
    try:
        function(*arguments)
    except (pickle.UnpicklingError, ValueError) as error:
        assert problem in str(error), error
    else:
        raise AssertionError(f"expected {problem}")


# ---- DeepSpeed's ranks: all of them, in their order

ranks = [convert.load_torch(path_of(f"states-deepspeed-{rank}.pt"))["optimizer_state_dict"] for rank in (0, 1)]
ours = Ours(NAMES, arrays(golden["runs"][0]["middle"]))
refused("is one of 2, there are 1", convert.from_deepspeed, ours.optimizer, ranks[:1])
refused("rank 1 is that of ZeRO's stage 3 or elastic", convert.from_deepspeed, ours.optimizer, [ranks[0], {"zero_stage": 3}])
elastic = {**ranks[0], "base_optimizer_state": []}
refused("rank 0 is that of ZeRO's stage 3 or elastic", convert.from_deepspeed, ours.optimizer, [elastic, ranks[1]])

with tempfile.TemporaryDirectory() as folder:
    # Out and in again, over what was there.
    convert.from_deepspeed(ours.optimizer, ranks, masters=False)
    ours.step(arrays(golden["grads"][0]))
    ours.save(f"{folder}/state")
    for rank in ranks:
        flat = rank["base_optimizer_state"]["state"][0]
        flat.update({part: np.zeros(8, np.float32) for part in ("exp_avg", "exp_avg_sq")})
        rank["single_partition_of_fp32_groups"][0] = np.zeros(8, np.float32)
    convert.to_deepspeed(f"{folder}/state", ranks, dict(zip(NAMES, ours.weights)))
    again = Ours(NAMES, ours.weights)
    params = convert.from_deepspeed(again.optimizer, ranks, masters=False)
    for name, weight in zip(NAMES, ours.weights):
        assert np.array_equal(params[name], weight.reshape(-1))
        assert again.state(f"state.{name}.step") == 4
        for part in ("exp_avg", "exp_avg_sq"):
            assert np.array_equal(*(each.state(f"state.{name}.{part}") for each in (ours, again))), part
    again.optimizer.set_state(f"state.{NAMES[1]}.step", np.array([9.0]))
    again.save(f"{folder}/state")
    refused("has taken 9 steps, others in its group 4", convert.to_deepspeed, f"{folder}/state", ranks, params)

# ---- Paddle's steps and masters

saved = convert.load_paddle(path_of("states-paddle-1000.pdopt"))
ours = Ours(["long"], [np.zeros(5, np.float32)])
convert.from_paddle(ours.optimizer, saved)
assert ours.state("state.long.step") == 1000
assert np.array_equal(ours.state("state.long.exp_avg"), saved["long_moment1_0"])
refused("beta2_pow_acc of 'long' is 0.36733", convert.from_paddle, ours.optimizer, saved, (0.9, 0.99))
saved["long_beta2_pow_acc_0"] = np.zeros(1, np.float32)
convert.from_paddle(ours.optimizer, saved)
assert 80_000 < ours.state("state.long.step") < 90_000  # at least

saved = convert.load_paddle(path_of("states-paddle-master.pdopt"))
ours = Ours(["w"], [np.zeros(5, np.uint16)])
convert.from_paddle(ours.optimizer, saved)
assert np.array_equal(ours.state("state.w.master"), np.array(golden["master"], np.float32))
ours.step([np.ones(5, np.float32)])
with tempfile.TemporaryDirectory() as folder:
    ours.save(f"{folder}/state")
    own = convert.to_paddle(f"{folder}/state", {"w": (5,)})
    # Paddle reads a pair of a name and an array as a tensor that has this name.
    assert own["master_weights"]["w"][0] == "w_fp32_master_0"
    with open(f"{folder}/state.pdopt", "wb") as file:
        pickle.dump(own, file)
    again = Ours(["w"], ours.weights)
    convert.from_paddle(again.optimizer, convert.load_paddle(f"{folder}/state.pdopt"))
for part in ("master", "exp_avg", "exp_avg_sq"):
    assert np.array_equal(*(each.state(f"state.w.{part}") for each in (ours, again))), part
assert again.state("state.w.step") == 1

# ---- what goes out: settings by group, bf16 in f32, and nothing that others would take for something else

CHECKPOINT = path_of("checkpoint-1-amsgrad.safetensors")
SIZES = {"a.weight": (5,), "kahan": (6,), "random": (6,), "codes": (4099,)}
theirs = convert.to_torch(CHECKPOINT, [["a.weight"], ["kahan"]], SIZES)
first, second = theirs["param_groups"]
assert (first["params"], first["weight_decay"], first["betas"]) == ([0], 0.01, (0.9, 0.999)), first
assert (second["params"], second["weight_decay"], second["betas"]) == ([1], 0.125, (0.9, 0.99)), second
assert first["lr"] == convert.read(CHECKPOINT)[1]["param_groups.a.weight.lr"] != second["lr"]
assert first["amsgrad"] and first["maximize"]
bits = convert.read(CHECKPOINT)[1]["state.kahan.exp_avg"]
assert np.array_equal(theirs["state"][1]["exp_avg"], from_bf16(bits)) and np.any(bits)
both = convert.to_torch(CHECKPOINT, [["kahan", "random"]], SIZES)
assert [group["params"] for group in both["param_groups"]] == [[0, 1]]
refused("those of 'a.weight' in the same group", convert.to_torch, CHECKPOINT, [["a.weight", "kahan"]], SIZES)
refused("state.codes.exp_avg is in codes", convert.to_torch, CHECKPOINT, [["codes"]], SIZES)
ours = Ours(NAMES, arrays(golden["runs"][0]["middle"]), no_decay=NAMES[1:])
with tempfile.TemporaryDirectory() as folder:
    ours.save(f"{folder}/state")
    groups = convert.to_torch(f"{folder}/state", [[name] for name in NAMES], {name: -1 for name in NAMES})["param_groups"]
assert [group["weight_decay"] for group in groups] == [0.01, 0.0]
power = convert.read(CHECKPOINT)[1]["state.random.beta2_power"]
assert convert.to_paddle(CHECKPOINT, {"random": (6,)})["random_beta2_pow_acc_0"] == np.float32(power * 0.99)
for name in ("kahan", "codes"):
    refused(f"state.{name}.remainder is nothing that Paddle knows", convert.to_paddle, CHECKPOINT, {name: SIZES[name]})

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
        refused(problem, load, file.name)


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
    Saving(file, 2).dump(Calls(makers.tensor, Saving, offset, shape, strides, False, None))
    return file.getvalue().replace(b"cadamw.convert.made\ntensor\n", b"ctorch._utils\n_rebuild_tensor_v2\n")


def loaded(load, contents):
    with tempfile.NamedTemporaryFile() as file:
        file.write(contents)
        file.flush()
        return load(file.name)


with tempfile.TemporaryDirectory() as folder:
    made = os.path.join(folder, "made")
    hostile = pickle.dumps({"state": Calls(os.mkdir, made)})
    for load, contents in ((convert.load_paddle, hostile), (convert.load_torch, zipped(hostile))):
        assert "mkdir" in repr(loaded(load, contents)["state"])
    assert not os.path.exists(made)
refuses(convert.load_torch, zipped(pickle.dumps({}), zipfile.ZIP_DEFLATED), "compressed")
refuses(convert.load_paddle, pickle.dumps(np.array([Calls(print)], object)), "expected one of numbers")
saved = zipped(tensor(1, (3,), (1,)), storage=np.arange(4, dtype=np.float32).tobytes())
assert loaded(convert.load_torch, saved).tolist() == [1, 2, 3]
for offset, shape, strides in [(2, (3,), (1,)), (0, (2, 2), (3, 1)), (0, (1 << 40,), (0,))]:
    refuses(convert.load_torch, zipped(tensor(offset, shape, strides)), "larger than its storage")
for offset, shape, strides in [(-1, (2,), (1,)), (0, (-2,), (1,)), (3, (2,), (-1,)), (0, (2, 2), (1,))]:
    refuses(convert.load_torch, zipped(tensor(offset, shape, strides)), "a tensor has the shape")
# A tensor in the place of a storage, whose second row would be read to beyond the end.
rows = tensor(0, (2, 2), (2, 1)).removeprefix(b"\x80\x02").removesuffix(b".")
whole = tensor(1, (3,), (1,))
inner = whole.index(b"(X\x07\x00\x00\x00storage"), whole.index(b"Q") + 1
refuses(convert.load_torch, zipped(whole[: inner[0]] + rows + whole[inner[1] :]), "no storage")
# A tensor in the place of a number, which would wrap around where it is multiplied.
number = tensor(0, (), ()).removeprefix(b"\x80\x02").removesuffix(b".")
refuses(convert.load_torch, zipped(whole.replace(b"K\x03\x85", number + b"\x85")), "a tensor has the shape (array(")
refuses(convert.load_paddle, pickle.dumps([1]), "holds a list, expected a dict")
refuses(convert.load_paddle, pickle.dumps({})[:-1], "damaged")

# Memory: an object whose number is large, and a storage that many tensors share.
tracemalloc.start()
assert loaded(convert.load_paddle, b"\x80\x02}r\xff\xff\xff\x00.") == {}
many = b"\x80\x02](" + 100 * tensor(0, (4,), (1,)).removeprefix(b"\x80\x02").removesuffix(b".") + b"e."
assert len(loaded(convert.load_torch, zipped(many, storage=bytes(1 << 20)))) == 100
assert tracemalloc.get_traced_memory()[1] < 1 << 24, tracemalloc.get_traced_memory()
tracemalloc.stop()

# Whatever is damaged, Python's own errors do not come through.
random = np.random.default_rng(5)
for name, load in (("states-torch.pt", convert.load_torch), ("states-paddle-master.pdopt", convert.load_paddle)):
    with open(path_of(name), "rb") as file:
        whole = file.read()
    if load is convert.load_torch:
        archive = zipfile.ZipFile(io.BytesIO(whole))
        whole = archive.read(next(entry for entry in archive.namelist() if entry.endswith("data.pkl")))
    for _ in range(500):
        damaged = bytearray(whole)
        damaged[random.integers(len(damaged))] = random.integers(256)
        try:
            loaded(load, zipped(bytes(damaged)) if load is convert.load_torch else damaged)
        except (pickle.UnpicklingError, ValueError):
            pass

# Ranks in the order of their numbers, not of their names.
with tempfile.TemporaryDirectory() as folder:
    refused("has the states of the ranks []", convert.load_deepspeed, folder)
    for rank in range(12):
        with open(f"{folder}/zero_pp_rank_{rank}_mp_rank_00_optim_states.pt", "wb") as file:
            file.write(zipped(pickle.dumps({"optimizer_state_dict": rank})))
    assert convert.load_deepspeed(folder) == list(range(12))
    os.remove(f"{folder}/zero_pp_rank_3_mp_rank_00_optim_states.pt")
    refused("[0, 1, 2, 4,", convert.load_deepspeed, folder)
    os.rename(f"{folder}/zero_pp_rank_4_mp_rank_00_optim_states.pt", f"{folder}/zero_pp_rank_4_mp_rank_01_optim_states.pt")
    refused("without model parallelism", convert.load_deepspeed, folder)
