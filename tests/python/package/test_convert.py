"""`python -m adamw convert` makes checkpoints of the files that PyTorch, Paddle, DeepSpeed and
bitsandbytes have written, and training goes on from them to their values.

environment: LIBADAMW
"""

import json
import pathlib
import pickle
import shutil
import subprocess
import sys
import tempfile
import unittest

from case import np

import adamw
from adamw import convert

try:
    import ml_dtypes  # noqa: F401  (the command's own import)
except ImportError:
    print("ml_dtypes is missing")
    sys.exit(77)

GOLDEN = pathlib.Path(__file__).resolve().parents[2] / "golden"
STATES = json.loads((GOLDEN / "states.json").read_text())
NAMES = STATES["names"]
RUNS = {run["framework"]: run for run in STATES["runs"]}
#: What files have not that say no settings.
USUAL = "--lr 0.001 --betas 0.9 0.999 --eps 1e-8 --weight-decay 0.01".split()


def arrays(values):
    """Returns arrays of what is in the file of states."""
    return [np.array(value, np.float32) for value in values]


def command(*arguments):
    """Returns the exit status of a command of the package, and what it prints."""
    line = [sys.executable, "-m", "adamw", *map(str, arguments)]
    done = subprocess.run(line, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout + done.stderr


class Command(unittest.TestCase):
    def setUp(self):
        self.folder = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory()))
        self.names = self.folder / "names"
        self.names.write_text("\n\n".join(NAMES) + "\n")
        self.target = self.folder / "run.safetensors"

    def converted(self, *arguments):
        status, said = command("convert", *arguments)
        self.assertEqual(status, 0, said)
        self.assertIn(str(arguments[1]), said)

    def assert_continues(self, run, names):
        """Checks that training goes on from the checkpoint to the values that the framework had."""
        weights = arrays(run["middle"])
        with adamw.AdamW(dict(zip(names, weights))) as optimizer:
            optimizer.load(self.target)
            for grads in STATES["grads"]:
                given = (grad.reshape(w.shape) for grad, w in zip(arrays(grads), weights))
                optimizer.step(grads=dict(zip(names, given)))
        for weight, end in zip(weights, arrays(run["end"])):
            self.assertLessEqual(np.max(np.abs(weight - end)) / np.max(np.abs(end)), 1e-6)

    def test_takes_the_files_of_torch(self):
        self.converted(GOLDEN / "states-torch.pt", self.target, "--names", self.names)
        self.assert_continues(RUNS["torch"], NAMES)

    def test_takes_torchs_distributed_names(self):
        source = GOLDEN / "states-torch-distributed.safetensors"
        self.converted(source, self.target, *USUAL)
        self.assert_continues(RUNS["torch's distributed names"], NAMES)

    def test_takes_the_files_of_paddle_and_gives_them_back(self):
        self.converted(GOLDEN / "states-paddle.pdopt", self.target, *USUAL)
        self.assert_continues(RUNS["paddle"], NAMES)
        shapes = {
            name: np.zeros(np.shape(w), "<f4") for name, w in zip(NAMES, RUNS["paddle"]["middle"])
        }
        self.write_params(shapes)
        again = self.folder / "again.pdopt"
        options = "--to", "paddle", "--params", self.folder / "params"
        self.converted(self.target, again, *options)
        with open(again, "rb") as file:
            written = pickle.load(file)
        given = convert.load_paddle(GOLDEN / "states-paddle.pdopt")
        for name in NAMES:
            for part in ("moment1_0", "moment2_0"):
                self.assertTrue(np.array_equal(written[f"{name}_{part}"], given[f"{name}_{part}"]))

    def write_params(self, values, dtype="F32"):
        header, data = {}, b""
        for name, value in values.items():
            offsets = [len(data), len(data) + value.nbytes]
            header[name] = {"dtype": dtype, "shape": value.shape, "data_offsets": offsets}
            data += value.tobytes()
        text = json.dumps(header).encode()
        (self.folder / "params").write_bytes(len(text).to_bytes(8, "little") + text + data)

    def test_takes_masters_of_paddle_if_it_knows_the_types(self):
        source = GOLDEN / "states-paddle-master.pdopt"
        status, said = command("convert", source, self.target, *USUAL)
        self.assertEqual(status, 1)
        self.assertIn("w has an f32 master: give the types of the parameters by --params", said)
        self.write_params({"w": np.zeros(5, np.uint16)}, "BF16")
        self.converted(source, self.target, *USUAL, "--params", self.folder / "params")
        _, tensors = convert.read(self.target)
        self.assertEqual(tensors["state.w.master"].tolist(), STATES["master"])

    def test_takes_the_files_of_deepspeed_with_their_parameters(self):
        ranks = self.folder / "ranks"
        ranks.mkdir()
        for rank in (0, 1):
            name = f"zero_pp_rank_{rank}_mp_rank_00_optim_states.pt"
            shutil.copy(GOLDEN / f"states-deepspeed-{rank}.pt", ranks / name)
        self.converted(ranks, self.target)
        weights = [np.zeros(np.shape(w), np.float32) for w in RUNS["deepspeed"]["middle"]]
        with adamw.AdamW(dict(zip(NAMES, weights))) as optimizer:
            optimizer.load(self.target, params=True)
        for weight, middle in zip(weights, arrays(RUNS["deepspeed"]["middle"])):
            self.assertTrue(np.array_equal(weight, middle))
        self.assert_continues(RUNS["deepspeed"], NAMES)

    def test_takes_the_files_of_bitsandbytes(self):
        source = GOLDEN / "states-bitsandbytes.pt"
        self.names.write_text("w")
        options = "--names", self.names
        status, said = command("convert", source, self.target, *options)
        self.assertEqual(status, 1)
        self.assertIn("expected the state_dict of an optimizer", said)
        self.converted(source, self.target, *options, "--key", "state_dict")
        _, tensors = convert.read(self.target)
        expected = convert.load_torch(source)
        self.assertTrue(np.array_equal(tensors["state.w.exp_avg"], expected["exp_avg"]))

    def test_takes_as_many_names_as_there_are_parameters(self):
        state = convert.load_torch(GOLDEN / "states-torch.pt")
        with adamw.AdamW() as optimizer:
            with self.assertRaisesRegex(ValueError, "has 2 parameters, there are 1 names"):
                convert.from_torch(optimizer, ["a"], state)

    def test_says_what_is_missing(self):
        torch = GOLDEN / "states-torch.pt"
        other = self.folder / "other"
        other.write_text("a")
        for arguments, text in [
            (("convert", torch, self.target), "give their names by --names FILE"),
            (("convert", torch, self.target, "--names", other), "there are 1 names"),
            (("convert", torch, self.target, "--key", "model"), "has no 'model'"),
            (("convert", "/nowhere", self.target), "No such file"),
            (
                ("convert", torch, self.target, "--from", "paddle"),
                "it is an archive of PyTorch's, by what it holds of torch, not of paddle",
            ),
            (("convert", torch, self.target, "--to", "paddle"), "give the model's parameters"),
            (("inspect", torch), "python -m adamw: "),
        ]:
            status, said = command(*arguments)
            self.assertEqual(status, 1, said)
            self.assertEqual(len(said.splitlines()), 1, said)
            self.assertIn(text, said)
            self.assertFalse(self.target.exists())

    def test_shows_what_is_in_a_checkpoint(self):
        self.converted(GOLDEN / "states-torch.pt", self.target, "--names", self.names)
        status, said = command("inspect", self.target)
        self.assertEqual(status, 0)
        self.assertIn("state.first.weight.step: U64 [1] 3\n", said)
        self.assertEqual(command("--version"), (0, adamw.__version__ + "\n"))



class Orders(unittest.TestCase):
    def test_gives_parameters_of_any_order_back_in_their_shape(self):
        whole = np.arange(24, dtype=np.float32).reshape(2, 1, 3, 4)
        for axes in ((0, 1, 2, 3), (0, 2, 3, 1), (3, 1, 0, 2), (2, 3, 0, 1)):
            turned = np.ascontiguousarray(whole.transpose(axes)).transpose(np.argsort(axes))
            with tempfile.TemporaryDirectory() as folder, adamw.AdamW({"w": turned}) as optimizer:
                path = pathlib.Path(folder) / "run.safetensors"
                grad = np.empty_like(turned)
                grad[...] = whole
                optimizer.step(grads={"w": grad})
                optimizer.save(path)
                moment = optimizer.state("w")["exp_avg"].copy()
                saved = convert.to_torch(path, [["w"]], {"w": whole.shape})
                of_torch = saved["state"][0]
                of_paddle = convert.to_paddle(path, {"w": whole.shape})
                for given in (of_torch["exp_avg"], of_paddle["w_moment1_0"]):
                    self.assertEqual(given.shape, whole.shape)
                    self.assertTrue(np.array_equal(given, moment))
                with adamw.AdamW({"w": grad}) as other:
                    convert.from_torch(other, ["w"], saved)
                    self.assertTrue(np.array_equal(other.state("w")["exp_avg"], moment))
                is_turned = "order=" in convert.read(path)[0]["param_groups.w"]
                self.assertEqual(is_turned, axes in ((3, 1, 0, 2), (2, 3, 0, 1)))
                if is_turned:
                    with self.assertRaisesRegex(ValueError, "'w' has its axes in the order"):
                        convert.to_torch(path, [["w"]], {"w": -1})


if __name__ == "__main__":
    unittest.main()
