"""What libraries beyond those of test_convert.py have saved is taken over, and training goes on to
their values.

environment: LIBADAMW
"""

import json
import pathlib
import shutil
import struct
import sys
import tempfile
import unittest

from case import bits, np

import adamw
from adamw import convert
from adamw.convert import of_onnxruntime

try:
    import h5py  # noqa: F401  (what Keras's files are read with)
    import msgpack  # noqa: F401  (and flax's)
except ImportError as missing:
    print(missing)
    sys.exit(77)

GOLDEN = pathlib.Path(__file__).resolve().parents[2] / "golden"

#: How the files of each library are taken over.
TAKE = {
    "torch-folder": lambda own, names, path: convert.from_distributed(
        own, convert.read_folder(path)
    ),
    "optax": lambda own, names, path: convert.from_optax(own, convert.load_flax(path)),
    "mindspore": lambda own, names, path: convert.from_mindspore(own, convert.load_mindspore(path)),
    "mindspore_adam_weight_decay": lambda own, names, path: convert.from_mindspore(
        own, convert.load_mindspore(path)
    ),
    "onnxruntime": lambda own, names, path: convert.from_onnxruntime(
        own, convert.load_onnxruntime(path)
    ),
    "optimi": lambda own, names, path: convert.from_optimi(own, names, convert.load_torch(path)),
    "heavyball": lambda own, names, path: convert.from_heavyball(
        own, names, convert.load_torch(path), ignore=["eps_floor"]
    ),
    "pytorch_optimizer_sn": lambda own, names, path: convert.from_pytorch_optimizer(
        own, names, convert.load_torch(path)
    ),
    "pytorch_optimizer_flash": lambda own, names, path: convert.from_pytorch_optimizer(
        own, names, convert.load_torch(path)
    ),
    "keras": lambda own, names, path: convert.from_keras(own, names, convert.load_keras(path)),
    "keras_accumulated": lambda own, names, path: convert.from_keras(
        own, names, convert.load_keras(path), calls_per_update=2
    ),
    "mlx": lambda own, names, path: convert.from_mlx(own, convert.read(path)[1]),
    "burn": lambda own, names, path: convert.from_burn(own, convert.load_burn(path)),
    "tfjs": lambda own, names, path: convert.from_tfjs(own, convert.load_tfjs(path)),
    "tinygrad": lambda own, names, path: convert.from_tinygrad(own, names, convert.read(path)[1]),
}


class Others(unittest.TestCase):
    def begun(self, run, **settings):
        """Returns an optimizer with the parameters of the middle of a run."""
        weights = [np.array(value, np.float32) for value in run["middle"]]
        own = {**run["settings"], **settings}
        own["betas"] = tuple(own["betas"])
        return adamw.AdamW(dict(zip(run["names"], weights)), **own), weights

    def test_runs_go_on_to_their_values(self):
        for library, take in TAKE.items():
            with self.subTest(library):
                run = json.loads((GOLDEN / f"states-{library}.json").read_text())
                optimizer, weights = self.begun(run)
                take(optimizer, run["names"], *(GOLDEN / file for file in run["files"]))
                self.assertEqual(set(optimizer.steps.values()), {3})
                for grads in run["grads"]:
                    given = (np.array(grad, np.float32) for grad in grads)
                    optimizer.step(grads=dict(zip(run["names"], given)))
                for weight, end in zip(weights, run["end"]):
                    off = np.max(np.abs(weight - np.array(end))) / np.max(np.abs(end))
                    self.assertLessEqual(off, 1e-6)

    def test_presets_say_what_moments_are(self):
        ones = np.ones(2, np.float32)
        parts = {"exp_avg": ones, "exp_avg_sq": ones, "max_exp_avg_sq": ones}
        first, second = 1 - 0.9**3, 1 - 0.999**3
        power = np.float32(0.999) ** np.float32(3)
        for preset, options, expected in [
            ("torch", {"step": 3}, (1, 1, 1)),
            ("optax", {"step": 3}, (1, 1, second)),
            ("optimi", {"step": 3}, (first, second, 1)),
            (convert.Preset(counts="calls"), {"step": 6, "calls_per_update": 2}, (1, 1, 1)),
            ("tinygrad", {"step": power}, (1, 1, 1)),
            (
                convert.Preset(corrected=True, max_corrected=True),
                {"step": 3},
                (first, second, second),
            ),
        ]:
            with self.subTest(preset):
                optimizer = adamw.AdamW({"w": np.ones(2, np.float32)}, amsgrad=True)
                convert.from_moments(optimizer, {"w": parts}, preset, **options)
                self.assertEqual(optimizer.param("w").step, 3)
                for part, value in zip(parts, expected):
                    seen = optimizer.state("w")[part]
                    self.assertEqual(bits(seen), bits(np.full(2, value, np.float32)), part)

    def test_the_rule_of_a_run_is_that_of_the_optimizer(self):
        ones = np.ones(2, np.float32)
        moments = {"w": {"step": 3, "exp_avg": ones, "exp_avg_sq": ones}}

        def taken(preset, **settings):
            optimizer = adamw.AdamW({"w": np.ones(2, np.float32)}, **settings)
            convert.from_moments(optimizer, moments, preset)

        for preset, settings in [
            ("keras", {"eps_before_correction": True}),
            ("mlx", {"bias_correction": None}),
            ("onnxruntime", {"eps_before_correction": True, "decays_new_value": True}),
            ("chainer", {"eps_before_correction": True, "independent_weight_decay": True}),
        ]:
            with self.subTest(preset):
                for own in settings:
                    text = {"bias_correction": "bias_corrected"}.get(own, own)
                    with self.assertRaisesRegex(ValueError, f"{text} of 'w' is"):
                        kept = {key: value for key, value in settings.items() if key != own}
                        taken(preset, **kept)
                with self.assertRaisesRegex(ValueError, f"{text} of 'w' is"):
                    taken("torch", **settings)
                taken(preset, **settings)
        for preset, rule in ("heavyball", "eps_floor"), ("pytorch_optimizer.StableAdamW", "clipped_lr"):
            with self.assertRaisesRegex(ValueError, f"{rule} of 'w' is False"):
                taken(preset)
        taken("torch")
        taken("torch", weight_decay=0.0, decays_new_value=True)

    def test_names_what_does_not_fit(self):
        ones = np.ones(2, np.float32)
        parts = {"exp_avg": ones, "exp_avg_sq": ones}
        adam = {"count": 3, "mu": {"w": ones}, "nu": {"w": ones}}
        usual = {"learningRate": 1e-3, "beta1": 0.9, "beta2": 0.999, "epsilon": 1e-8}
        js = {
            "config": {"class_name": "Adam", "config": usual},
            "weights": {"iter": 1, "w/m": ones, "w/v": ones},
        }
        for take, text in [
            (
                lambda own: convert.from_moments(own, {"w": parts}, "torch"),
                "'w' has no 'step', but",
            ),
            (
                lambda own: convert.from_moments(own, {"w": parts}, "jax", step=1),
                "expected a Preset",
            ),
            (
                lambda own: convert.from_moments(
                    own, {"w": parts}, "keras", step=5, calls_per_update=2
                ),
                "is 5 calls, in the middle of an update of 2",
            ),
            (
                lambda own: convert.from_moments(own, {"w": parts}, "tinygrad", step=0.0),
                "no steps can be found",
            ),
            (
                lambda own: convert.from_moments(own, {"w": parts}, "tinygrad", step=0.9995),
                "0.9995 is no power of a beta2 of 0.999",
            ),
            (lambda own: convert.from_optax(own, (adam, adam)), "there are 2 states of Adam"),
            (lambda own: convert.from_onnxruntime(own, {}), "this is an empty dict"),
            (lambda own: convert.from_burn(own, {}), "this is an empty dict"),
            (
                lambda own: convert.from_burn(own, {"w": {"velocity": ones}}),
                "'w' has no 'step', 'exp_avg'",
            ),
            (lambda own: convert.from_optax(own, ({},)), "there are 0 states of Adam"),
            (lambda own: convert.from_optax(own, {**adam, "nu": {}}), "'w' has no 'exp_avg_sq'"),
            (lambda own: convert.from_mlx(own, {"w.m": ones}), "but this is a dict of 'w.m'"),
            (lambda own: convert.from_mlx(own, {"step": 1}), "nothing is called <param>.m"),
            (
                lambda own: convert.from_mlx(own, {"step": 1, "w.m": ones, "w.v": ones, "x": ones}),
                "nothing is known of 'x'",
            ),
            (lambda own: convert.from_keras(own, ["w"], [1, 2, ones]), "there are 3 variables"),
            # Sums of gradients, or averages of parameters, where moments are expected.
            (
                lambda own: convert.from_keras(own, ["w"], [4, 0.1, ones, ones / 2, ones / 9]),
                "With gradient accumulation, say calls_per_update; with use_ema",
            ),
            (
                lambda own: convert.from_keras(own, ["w"], [4, 0.1, ones, -ones, ones]),
                "the squares of 'w' are negative",
            ),
            (
                lambda own: convert.from_keras(own, ["w"], [4, ones, ones], calls_per_update=2),
                "there are 3 variables, expected 2 and 2 .with amsgrad 3. for each of the 1 names",
            ),
            (
                lambda own: convert.from_mindspore(own, {"moment1.w": ones}),
                "expected state_step and",
            ),
            (
                lambda own: convert.from_mindspore(own, {"state_step": 1, "exp_avg.w": ones}),
                "'w' has no 'exp_avg_sq'",
            ),
            (
                lambda own: convert.from_tinygrad(own, ["w"], {"m.0": ones}),
                "expected b2_t, and m.0",
            ),
            (
                lambda own: convert.from_tfjs(own, {**js, "config": {"class_name": "SGD"}}),
                "expected Adam with its numbers and the weight iter, but this is SGD with an",
            ),
            (lambda own: convert.from_tfjs(own, js), "weight_decay of 'w' is 0.01 .in the file: 0.0"),
            (
                lambda own: convert.from_tfjs(own, {**js, "weights": {"iter": 1, "w": ones}}),
                "nothing is known of 'w'",
            ),
            (
                lambda own: convert.from_heavyball(
                    own, ["w"], {"state": {0: {0: {}, 1: {}}}, "param_groups": [{"params": [0]}]}
                ),
                "expected one view",
            ),
        ]:
            with self.subTest(text):
                optimizer = adamw.AdamW({"w": np.ones(2, np.float32)})
                before = optimizer.to_bytes()
                with self.assertRaisesRegex(ValueError, text):
                    take(optimizer)
                self.assertEqual(optimizer.to_bytes(), before)

    def test_takes_the_largest_squares_of_mindspore_unless_they_are_0(self):
        ones = np.ones(2, np.float32)
        state = {"state_step": 3, "exp_avg.w": ones, "exp_avg_sq.w": ones}
        for largest, amsgrad in (ones * 2, True), (ones * 0, False):
            optimizer = adamw.AdamW({"w": np.ones(2, np.float32)}, amsgrad=amsgrad)
            convert.from_mindspore(optimizer, {**state, "max_exp_avg_sq.w": largest})
            if amsgrad:
                self.assertEqual(bits(optimizer.state("w")["max_exp_avg_sq"]), bits(largest))

    def test_refuses_tables_of_onnxruntime_that_are_there_twice(self):
        whole = bytearray((GOLDEN / "states-onnxruntime.ckpt").read_bytes())
        root = of_onnxruntime.Table(memoryview(bytes(whole)), whole[0], set())
        start, length = root.tables(2)[0]._vector(3)
        self.assertEqual(length, 2)
        (first,) = struct.unpack_from("<I", whole, start)
        struct.pack_into("<I", whole, start + 4, first - 4)  # places count from where they stand
        path = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory()), "file")
        path.write_bytes(whole)
        with self.assertRaisesRegex(ValueError, "a table is there in several places"):
            convert.load_onnxruntime(path)

    def test_files_that_are_damaged_are_called_so(self):
        random = np.random.default_rng(6)
        path = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory()), "file")
        shutil.copy(GOLDEN / "states-tfjs" / "model.weights.bin", path.parent)
        for file, load in [
            ("states-mindspore.ckpt", convert.load_mindspore),
            ("states-onnxruntime.ckpt", convert.load_onnxruntime),
            ("states-optax.msgpack", convert.load_flax),
            ("states-tfjs/model.json", convert.load_tfjs),
            ("states-burn.bpk", convert.load_burn),
        ]:
            whole = (GOLDEN / file).read_bytes()
            for number in range(300):
                damaged = bytearray(whole)
                damaged[random.integers(len(whole))] = random.integers(256)
                path.write_bytes(
                    damaged[: random.integers(1, len(whole))] if number % 2 else damaged
                )
                try:
                    load(path)
                except FileNotFoundError:
                    self.assertIs(load, convert.load_tfjs)  # which names another file
                except ValueError as error:
                    self.assertIn(str(path), str(error))

    def test_models_of_tensorflow_js_name_each_file_beside_them_once(self):
        folder = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory()))
        path = shutil.copytree(GOLDEN / "states-tfjs", folder / "model") / "model.json"
        whole = json.loads(path.read_text())
        own = whole["weightsManifest"][0]["paths"]
        for paths, text in [
            (own + ["model.weights.bin"], "it names a file twice"),
            (["../model.weights.bin"], "expected a file beside it"),
        ]:
            whole["weightsManifest"][0]["paths"] = paths
            path.write_text(json.dumps(whole))
            with self.assertRaisesRegex(ValueError, text):
                convert.load_tfjs(path)
        del whole["trainingConfig"]
        path.write_text(json.dumps(whole))
        with self.assertRaisesRegex(ValueError, "save the model with includeOptimizer"):
            convert.load_tfjs(path)

    def test_optax_is_found_inside_of_what_wraps_it(self):
        ones = np.ones(2, np.float32)
        adam = {"count": 3, "mu": {"a": [ones, ones]}, "nu": {"a": [ones, ones]}}
        for state in (adam, (({}, adam), None), {"0": {"inner_state": [adam]}}):
            optimizer = adamw.AdamW({f"a.{i}": np.ones(2, np.float32) for i in (0, 1)})
            convert.from_optax(optimizer, state)
            self.assertEqual(set(optimizer.steps.values()), {3})

    def test_moments_of_pytorch_optimizer_become_what_they_stand_for(self):
        saved = convert.load_torch(GOLDEN / "states-pytorch_optimizer.pt")
        for kind, ignore, off in ("FlashAdamW", [], 0), ("StableAdamW", ["clipped_lr"], 1e-6):
            with self.subTest(kind):
                settings = {"betas": (0.8, 0.95), "eps": 1e-3, "weight_decay": 0.1}
                optimizer = adamw.AdamW({"w": np.ones((2, 50), np.float32)}, **settings)
                state = saved[kind]["state_dict"]
                convert.from_pytorch_optimizer(optimizer, ["w"], state, ignore=ignore)
                self.assertEqual(optimizer.param("w").step, 3)
                for part in "exp_avg", "exp_avg_sq":
                    seen, expected = optimizer.state("w")[part], saved[kind][part]
                    error = np.max(np.abs(seen - expected)) / np.max(np.abs(expected))
                    self.assertLessEqual(error, off)

    def test_settings_of_pytorch_optimizer_are_compared(self):
        group = {"step": 1, "betas": (0.9, 0.999), "eps": 1e-8, "weight_decay": 0.01}
        ones = np.ones(32, np.float32)
        parts = {"exp_avg": ones, "exp_avg_sq": ones}
        codes = {f"{part}::quantized": ones.astype(np.uint8) for part in parts}
        flash = {"master_byte_width": 0, "decouple_lr": False}
        for own, state, text in [
            ({}, parts, "the groups are not those of AdamWSN, FlashAdamW or StableAdamW"),
            ({"kahan_sum": True}, parts, "clipped_lr of 'w' is False"),
            (flash | {"decouple_lr": True}, parts, "decouple_lr of 'w' is False"),
            (flash | {"weight_decouple": False}, parts, "decoupled_weight_decay of 'w' is True"),
            (flash | {"fixed_decay": True}, parts, "independent_weight_decay of 'w' is False"),
            (flash, {**parts, "error_bits": ones}, "nothing is known of 'error_bits'"),
            (
                flash,
                codes | {f"{part}::scales": ones[:2] for part in parts},
                "has 2 elements for 32 codes",
            ),
        ]:
            with self.subTest(text):
                optimizer = adamw.AdamW({"w": np.ones(32, np.float32)})
                groups = [{**group, **own, "params": [0]}]
                with self.assertRaisesRegex(ValueError, text):
                    convert.from_pytorch_optimizer(
                        optimizer, ["w"], {"state": {0: state}, "param_groups": groups}
                    )

    def test_codes_of_torchao_become_what_they_stand_for(self):
        saved = convert.load_torch(GOLDEN / "states-torchao.pt")
        for kind in "AdamW8bit", "AdamW4bit":
            with self.subTest(kind):
                settings = {"betas": (0.8, 0.95), "eps": 1e-3, "weight_decay": 0.1}
                optimizer = adamw.AdamW({"w": np.ones((2, 2048), np.float32)}, **settings)
                convert.from_torch(optimizer, ["w"], saved[kind]["state_dict"])
                self.assertEqual(optimizer.param("w").step, 3)
                for part in "exp_avg", "exp_avg_sq":
                    expected = saved[kind][part]
                    self.assertEqual(bits(optimizer.state("w")[part]), bits(expected), part)


if __name__ == "__main__":
    unittest.main()
