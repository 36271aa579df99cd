"""`python -m adamw convert` takes the files of every library that it lists, whatever they are
called, and training goes on from the checkpoints to the libraries' values.

environment: LIBADAMW
"""

import contextlib
import io
import json
import pathlib
import pickle
import shutil
import sys
import tempfile
import unittest
from unittest import mock

from case import bits, np

import adamw
from adamw import convert
from adamw.__main__ import main
from adamw.convert.sources import SOURCES

try:
    import h5py  # noqa: F401  (what Keras's files are read with)
    import ml_dtypes  # noqa: F401  (the command's own import)
    import msgpack  # noqa: F401  (and flax's)
except ImportError as missing:
    print(missing)
    sys.exit(77)

GOLDEN = pathlib.Path(__file__).resolve().parents[2] / "golden"
#: What the file of each library does not say of its run: the settings, and the names.
SETTINGS = {
    "lr": ["--lr", "0.01"],
    "betas": ["--betas", "0.8", "0.95"],
    "eps": ["--eps", "1e-3"],
    "weight_decay": ["--weight-decay", "0.1"],
}
OF_RUN = ("betas", "eps", "weight_decay")
MISSING = {
    "torch-folder": (),
    "optax": ("lr", *OF_RUN),
    "mindspore": ("lr", *OF_RUN),
    "mindspore_adam_weight_decay": OF_RUN,
    "onnxruntime": ("lr", *OF_RUN),
    "optimi": ("names",),
    "heavyball": ("names",),
    "pytorch_optimizer_sn": ("names",),
    "pytorch_optimizer_flash": ("names",),
    "keras": ("names", *OF_RUN),
    "keras_accumulated": ("names", "lr", *OF_RUN),
    "mlx": OF_RUN,
    "burn": ("lr", *OF_RUN),
    "tfjs": (),
    "tinygrad": ("names", *OF_RUN),
}
#: What the command calls them.
CALLED = {
    "torch-folder": "distributed",
    "mindspore_adam_weight_decay": "mindspore.AdamWeightDecay",
    "pytorch_optimizer_sn": "pytorch_optimizer.AdamWSN",
    "pytorch_optimizer_flash": "pytorch_optimizer.FlashAdamW",
    "keras_accumulated": "keras",
    "tfjs": "tensorflow.js",
}
EXTRA = {
    "heavyball": ["--ignore", "eps_floor"],
    "keras_accumulated": ["--calls-per-update", "2"],
}


def command(*arguments):
    """Returns the exit status of a command of the package, and what it prints. It runs in here,
    which is faster than a process for each of so many."""
    printed, status = io.StringIO(), 0
    with mock.patch("sys.argv", ["adamw", "convert", *map(str, arguments)]):
        with contextlib.redirect_stdout(printed):
            try:
                main()
            except SystemExit as end:
                status = end.code or 0
    return (1, f"{status}\n") if isinstance(status, str) else (status, printed.getvalue())


class Sources(unittest.TestCase):
    def setUp(self):
        self.folder = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory()))
        self.target = self.folder / "run.safetensors"
        self.names = self.folder / "names"

    def source(self, run):
        """Returns a file of a run, under a name that says nothing."""
        own = GOLDEN / run["files"][0]
        if own.is_dir():
            return own
        if own.parent != GOLDEN:  # with files beside it
            return shutil.copytree(own.parent, self.folder / "of", dirs_exist_ok=True) / own.name
        return shutil.copy(own, self.folder / "file")

    def arguments(self, run, missing):
        self.names.write_text("\n".join(run["names"]))
        given = {**SETTINGS, "names": ["--names", str(self.names)]}
        return [word for what in missing for word in given[what]]

    def assert_refused(self, text, *arguments):
        status, said = command(*arguments)
        self.assertEqual(status, 1, said)
        self.assertEqual(len(said.splitlines()), 1, said)
        self.assertIn(text, said)
        self.assertFalse(self.target.exists())

    def test_runs_go_on_to_their_values(self):
        for library, missing in MISSING.items():
            with self.subTest(library):
                run = json.loads((GOLDEN / f"states-{library}.json").read_text())
                given = self.arguments(run, missing) + EXTRA.get(library, [])
                source = self.source(run)
                status, said = command(source, self.target, *given)
                self.assertEqual(status, 0, said)
                whose = CALLED.get(library, library)
                self.assertIn(f"2 params of {whose},", said)
                status, again = command(source, self.target, *given, "--from", whose)
                self.assertEqual((status, again), (0, said))
                weights = [np.array(value, np.float32) for value in run["middle"]]
                own = {**run["settings"], "betas": tuple(run["settings"]["betas"]), "lr": 0.5}
                with adamw.AdamW(dict(zip(run["names"], weights)), **own) as optimizer:
                    optimizer.load(self.target)
                    self.assertEqual(set(optimizer.steps.values()), {3})
                    for grads in run["grads"]:
                        given = (np.array(grad, np.float32) for grad in grads)
                        optimizer.step(grads=dict(zip(run["names"], given)))
                for weight, end in zip(weights, run["end"]):
                    off = np.max(np.abs(weight - np.array(end))) / np.max(np.abs(end))
                    self.assertLessEqual(off, 1e-6)

    def test_what_a_file_does_not_say_has_to_be_given(self):
        for library, missing in MISSING.items():
            run = json.loads((GOLDEN / f"states-{library}.json").read_text())
            for left in missing:
                with self.subTest(library, left=left):
                    given = self.arguments(run, [what for what in missing if what != left])
                    given += EXTRA.get(library, [])
                    text = f"--{left.replace('_', '-')}"
                    self.assert_refused(text, self.source(run), self.target, *given)

    def test_what_a_file_says_is_not_given_beside_it(self):
        run = json.loads((GOLDEN / "states-optimi.json").read_text())
        given = self.arguments(run, ["names", "eps"])
        source = self.source(run)
        self.assert_refused("says eps itself: --ignore eps takes", source, self.target, *given)
        given[-1] = "0.25"
        status, said = command(source, self.target, *given, "--ignore", "eps")
        self.assertEqual(status, 0, said)
        entries = {entry.name: entry for entry in adamw.inspect(self.target)}
        self.assertIn("eps=0.25", entries["groups.0"].text)

    def test_the_rule_that_nothing_here_has_is_refused(self):
        run = json.loads((GOLDEN / "states-heavyball.json").read_text())
        given = self.arguments(run, ["names"])
        self.assert_refused("eps_floor of", self.source(run), self.target, *given)

    def test_what_moments_are_can_be_said(self):
        write(self.folder / "file", {"exp_avg": 1.0, "exp_avg_sq": 1.0, "step": 3.0})
        power = 0.95**3
        write(self.folder / "power", {"exp_avg": 1.0, "exp_avg_sq": 1.0, "step": power})
        usual = [word for words in SETTINGS.values() for word in words]
        for file, knobs, first, second, rule in [
            ("file", [], 1, 1, []),
            ("file", ["--corrected"], 1 - 0.8**3, 1 - 0.95**3, []),
            ("file", ["--preset", "optimi"], 1 - 0.8**3, 1 - 0.95**3, []),
            ("file", ["--preset", "optimi", "--no-corrected"], 1, 1, []),
            ("power", ["--counts", "beta2"], 1, 1, []),
            ("power", ["--preset", "tinygrad"], 1, 1, []),
            ("file", ["--preset", "mlx"], 1, 1, ["bias_correction=None"]),
            ("file", ["--preset", "mlx", "--rule", "usual"], 1, 1, []),
            ("file", ["--rule", "uncorrected"], 1, 1, ["bias_correction=None"]),
            (
                "file",
                ["--preset", "thinc"],
                1,
                1,
                ["eps_before_correction=1", "decays_new_value=1"],
            ),
            ("file", ["--rule", "independent_weight_decay"], 1, 1, ["independent_weight_decay=1"]),
        ]:
            with self.subTest(knobs):
                status, said = command(self.folder / file, self.target, *usual, *knobs)
                self.assertEqual(status, 0, said)
                entries = {entry.name: entry for entry in adamw.inspect(self.target)}
                words = entries["groups.0"].text.split(" ")[9:]  # the first nine are always there
                self.assertEqual(words, rule)
                self.assertEqual(entries["state.w.step"].value, 3)
                with adamw.AdamW({"w": np.zeros(1, np.float32)}) as optimizer:
                    optimizer.load(self.target, scope="shared")
                    state = optimizer.state("w")
                    for part, value in ("exp_avg", first), ("exp_avg_sq", second):
                        self.assertEqual(state[part][0], np.float32(value))

    def test_parameters_keep_the_settings_that_they_have_of_their_own(self):
        parts = {"exp_avg": 1.0, "exp_avg_sq": 1.0, "step": 3.0}
        state = {f"state.{name}.{part}": parts[part] for name in "ab" for part in parts}
        settings = {"a.lr": 0.5, "a.eps": 0.25, "b.lr": 0.125}
        own = {f"param_groups.{key}": value for key, value in settings.items()}
        write_tensors(self.folder / "file", {**state, **own})
        given = SETTINGS["betas"] + SETTINGS["eps"] + SETTINGS["weight_decay"]
        status, said = command(self.folder / "file", self.target, *given)
        self.assertEqual(status, 0, said)
        entries = {entry.name: entry for entry in adamw.inspect(self.target)}
        for name, lr, eps in ("a", 0.5, 0.25), ("b", 0.125, 1e-3):
            self.assertEqual(entries[f"param_groups.{name}.lr"].value, lr)
            number = dict(
                word.split("=") for word in entries[f"param_groups.{name}"].text.split(" ")
            )["group"]
            self.assertIn(f"eps={eps}", entries[f"groups.{number}"].text.split(" "))

    def test_calls_are_counted_where_that_is_said(self):
        write(self.folder / "file", {"exp_avg": 1.0, "exp_avg_sq": 1.0, "step": 6.0})
        usual = [word for words in SETTINGS.values() for word in words]
        arguments = self.folder / "file", self.target, *usual, "--counts", "calls"
        self.assert_refused("6 calls, in the middle of", *arguments, "--calls-per-update", 4)
        status, said = command(*arguments, "--calls-per-update", 3)
        self.assertEqual(status, 0, said)
        entries = {entry.name: entry for entry in adamw.inspect(self.target)}
        self.assertEqual(entries["state.w.step"].value, 2)

    def test_takes_the_rate_of_paddles_schedule(self):
        state = convert.load_paddle(GOLDEN / "states-paddle.pdopt")
        state["LR_Scheduler"] = {"last_epoch": 3, "last_lr": 0.25}
        (self.folder / "file").write_bytes(pickle.dumps(state, protocol=4))
        given = "--betas 0.9 0.999 --eps 1e-8 --weight-decay 0.01".split()
        status, said = command(self.folder / "file", self.target, *given)
        self.assertEqual(status, 0, said)
        entries = {entry.name: entry for entry in adamw.inspect(self.target)}
        self.assertIn("lr=0.25", entries["state"].text.split(" "))

    def test_takes_the_files_that_the_source_of_llm_c_writes(self):
        shapes = {"wte": (8, 4), "wpe": (6, 4), "ln1w": (2, 4), "ln1b": (2, 4)}
        shapes |= {"qkvw": (2, 12, 4), "qkvb": (2, 12), "attprojw": (2, 4, 4), "attprojb": (2, 4)}
        shapes |= {"ln2w": (2, 4), "ln2b": (2, 4), "fcw": (2, 16, 4), "fcb": (2, 16)}
        shapes |= {"fcprojw": (2, 4, 16), "fcprojb": (2, 4), "lnfw": (4,), "lnfb": (4,)}
        random = np.random.default_rng(5)
        tensors = [
            {name: random.random(shape, np.float32) for name, shape in shapes.items()}
            for _ in ("m", "v", "master")
        ]
        header, config = np.zeros(256, "<i4"), np.zeros(256, "<i4")
        header[[0, 1, 2, 4, 10]] = 20240527, 1, 1, 1, 7
        config[:8] = 20240326, 3, 6, 7, 2, 2, 4, 8
        data = b"".join(value.tobytes() for part in tensors for value in part.values())
        source, model = self.folder / "state_00000007_00000.bin", self.folder / "model_00000007.bin"
        given = [*SETTINGS["lr"], *SETTINGS["weight_decay"]]
        for precision in 3, 5:
            config[1] = precision
            source.write_bytes(header.tobytes() + data)
            model.write_bytes(config.tobytes() + bytes(100))
            options = given
            if precision == 5:
                self.assert_refused("has an f32 master", source, self.target, *given)
                params = {name: {"dtype": "BF16", "shape": shape} for name, shape in shapes.items()}
                write_safetensors(self.folder / "params", params)
                options = [*given, "--params", self.folder / "params"]
            status, said = command(source, self.target, *options)
            self.assertEqual(status, 0, said)
            texts, seen = convert.read(self.target)
            for name in shapes:
                parts = [f"state.{name}.exp_avg", f"state.{name}.exp_avg_sq"]
                parts += [f"state.{name}.master"] if precision == 5 else []
                for part, values in zip(parts, tensors):
                    self.assertEqual(bits(seen[part]), bits(values[name].reshape(-1)))
                self.assertEqual(seen[f"state.{name}.step"], 7)
                group = dict(word.split("=") for word in texts[f"param_groups.{name}"].split(" "))
                settings = texts[f"groups.{group['group']}"]
                decay = 0.1 if len(shapes[name]) == 3 or name in ("wte", "wpe") else 0.0
                self.assertIn(f"weight_decay={decay} beta1=0.9 beta2=0.95 eps=1e-8", settings)
            self.target.unlink()
        for wrong in data[4:], data + bytes(4):
            source.write_bytes(header.tobytes() + wrong)
            self.assert_refused("bytes, expected", source, self.target, *given)
        header[2] = 2
        source.write_bytes(header.tobytes() + data)
        self.assert_refused("of 2 processes, expected 1", source, self.target, *given)
        model.unlink()
        header[2] = 1
        source.write_bytes(header.tobytes() + data)
        self.assert_refused("model_00000007.bin", source, self.target, *given)

    def test_says_what_a_file_is(self):
        for contents, text in [
            (b"PK\x03\x04 and no more", "is no whole archive"),
            (b"GGUF" + bytes(20), "is of no kind that is known here: it is GGUF"),
            (b"", "is of no kind that is known here"),
        ]:
            (self.folder / "file").write_bytes(contents)
            self.assert_refused(text, self.folder / "file", self.target)
        (self.folder / "empty").mkdir()
        self.assert_refused("is a folder without .metadata", self.folder / "empty", self.target)
        self.assert_refused(
            "it is a checkpoint of MindSpore's, by what it holds of mindspore, not of keras",
            GOLDEN / "states-mindspore.ckpt",
            self.target,
            "--from",
            "keras",
        )

    def test_help_lists_the_sources(self):
        status, said = command("--help")
        self.assertEqual(status, 0)
        for name in SOURCES:
            self.assertRegex(said, rf"\n  {name} +\w")


def write(path, parts):
    """Writes a safetensors file with the parts of the state of a parameter of one element."""
    write_tensors(path, {f"state.w.{part}": value for part, value in parts.items()})


def write_tensors(path, tensors):
    """Writes a safetensors file with tensors of one element."""
    header, data = {}, b""
    for name, value in tensors.items():
        place = [len(data), len(data) + 4]
        header[name] = {"dtype": "F32", "shape": [1], "data_offsets": place}
        data += np.float32(value).tobytes()
    write_safetensors(path, header, data)


def write_safetensors(path, header, data=b""):
    """Writes a safetensors file."""
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + data)


if __name__ == "__main__":
    unittest.main()
