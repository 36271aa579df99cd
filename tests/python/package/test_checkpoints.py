"""Checkpoints bring a run back to its bits: through files, memory and open files, of one rank or of
several; what is no checkpoint, or another one, is refused.

environment: LIBADAMW
"""

import contextlib
import io
import os
import pathlib
import sys
import tempfile
import unittest
from unittest import mock

from case import arrays, bits, np

import adamw
from adamw import AdamW, convert, schedules

SHAPES = (40, 3), (5000,)


class Run:
    """An optimizer that has taken some steps."""

    def __init__(self, steps=0, **options):
        self.params = dict(zip(("w", "b"), arrays(1, *SHAPES)))
        self.optimizer = AdamW(self.params, moments="8bit", **options)
        self.optimizer.set_schedule(schedules.exponential(gamma=0.5))
        self.steps(0, steps)

    def steps(self, first, end):
        for step in range(first, end):
            grads = dict(zip(self.params, arrays(10 + step, *SHAPES)))
            self.optimizer.step(grads=grads)

    def bits(self):
        return {name: bits(param) for name, param in self.params.items()}


class Slow(io.RawIOBase):
    """A file that takes few bytes at a time."""

    def __init__(self):
        self.data = b""

    def write(self, piece):
        self.data += bytes(piece[:1000])
        return min(len(piece), 1000)


class Checkpoints(unittest.TestCase):
    def setUp(self):
        self.folder = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory()))
        self.whole, self.half = Run(4), Run(2)
        self.path = self.folder / "state.safetensors"

    def continued(self, load, **options):
        """Returns the bits of a new run that loads and takes the other half of the steps."""
        run = Run(**options)
        for param, values in zip(run.params.values(), self.half.params.values()):
            param[:] = values
        load(run.optimizer)
        run.steps(2, 4)
        return run.bits()

    def test_continue_with_the_same_bits_through_files_and_memory(self):
        saved = self.half.optimizer.save(self.path)
        self.assertEqual(saved, adamw.Saved(self.path.stat().st_size, True))
        data = self.half.optimizer.to_bytes()
        self.assertEqual(data, self.path.read_bytes())
        file = io.BytesIO()
        self.assertEqual(self.half.optimizer.save(file), adamw.Saved(len(data), False))
        self.assertEqual(file.getvalue(), data)
        slow = Slow()
        self.half.optimizer.save(slow)
        self.assertEqual(slow.data, data)
        for source in (self.path, str(self.path), data, bytearray(data), memoryview(data)):
            load = lambda optimizer: optimizer.load(source)
            self.assertEqual(self.continued(load), self.whole.bits())

    def test_are_written_while_steps_go_on(self):
        data = self.half.optimizer.to_bytes(params=True)
        self.half.optimizer.save_begin(self.path, params=True)
        self.half.steps(2, 4)
        self.assertEqual(self.half.optimizer.save_wait(), adamw.Saved(len(data), True))
        self.assertEqual(self.path.read_bytes(), data)
        progress = self.half.optimizer.save_poll()
        self.assertFalse(progress.running)
        self.assertEqual(progress.done, progress.total)
        with self.assertRaises(adamw.IoError):
            self.half.optimizer.save_begin(self.folder / "no" / "such")

    def test_of_many_parameters_are_read_by_their_names(self):
        params = {f"p{i}": np.full(i % 3 + 1, i, np.float32) for i in range(4100)}
        params["coded"] = np.ones(5000, np.float32)
        with AdamW(params, moments="8bit") as optimizer:
            optimizer.step(grads={name: param + 1 for name, param in params.items()})
            optimizer.save(self.path, params=True)
            texts, tensors = convert.read(self.path)
            self.assertEqual(texts["adamw_checkpoint"], "2")
            for name in ("p0", "p77", "p4099", "coded"):
                np.testing.assert_array_equal(tensors[f"param.{name}"], params[name])
                for key, values in optimizer.state(name).items():
                    np.testing.assert_array_equal(tensors[f"state.{name}.{key}"], values)
                self.assertEqual(tensors[f"state.{name}.step"], 1)
                words = texts[f"param_groups.{name}"].split()
                self.assertIn(f"n_elements={params[name].size}", words)
                self.assertEqual(words[0], "dtype=f32")

    def test_may_have_the_parameters_too(self):
        self.half.optimizer.save(self.path, params=True)
        self.assertGreater(self.path.stat().st_size, len(self.half.optimizer.to_bytes()))
        run = Run()
        run.optimizer.load(self.path, params=True)
        self.assertEqual(run.bits(), self.half.bits())

    def test_load_under_other_names_and_in_part(self):
        self.half.optimizer.save(self.path)
        param = np.ones(SHAPES[0], np.float32)
        for rename in ({"own": "w"}, lambda name: {"own": "w"}[name]):
            with AdamW({"own": param}, moments="8bit") as optimizer:
                optimizer.set_schedule(schedules.exponential(gamma=0.5))
                optimizer.load(self.path, scope="subset", rename=rename)
                self.assertEqual(optimizer.param("own").step, 2)
        with AdamW({"w": np.ones(SHAPES[0]), "new": param}, lr=5.0) as optimizer:
            self.assertRaises(adamw.MismatchError, optimizer.load, self.path, scope="shared")
            optimizer.load(self.path, scope="shared", convert=True)
            self.assertEqual(optimizer.state("w")["exp_avg"].dtype, np.float64)
            self.assertEqual(optimizer.param("w").step, 2)
            self.assertEqual(optimizer.param("new").step, 0)
            self.assertEqual(optimizer.lr, 5.0)

    def test_load_what_changes(self):
        self.half.optimizer.save(self.path)
        with AdamW(self.half.params, moments="8bit", amsgrad=True) as optimizer:
            optimizer.set_schedule(schedules.exponential(gamma=0.25))
            with self.assertRaisesRegex(adamw.MismatchError, "amsgrad"):
                optimizer.load(self.path)
            optimizer.load(self.path, extend=True, keep_schedule=True)
            self.assertEqual(optimizer.schedule_state.index, 2)
            self.assertEqual(optimizer.lr, 1e-3 / 16)

    def test_of_several_ranks_load_as_one(self):
        (whole, grad) = arrays(2, (1024,), (1024,))
        paths = []
        with AdamW({"w": whole}) as optimizer:
            optimizer.step(grads={"w": grad})
            expected = bits(optimizer.state("w")["exp_avg"])
        for rank in (0, 1):
            own = slice(512 * rank, 512 * (rank + 1))
            with AdamW() as optimizer:
                optimizer.add_param(
                    "w", whole[own].copy(), first_element=own.start, whole_elements=1024
                )
                optimizer.step(grads={"w": grad[own].copy()})
                paths.append(self.folder / f"rank-{rank}")
                optimizer.save(paths[-1])
        with AdamW({"w": whole}) as optimizer:
            optimizer.load(paths)
            self.assertEqual(bits(optimizer.state("w")["exp_avg"]), expected)

    def test_show_what_is_in_them(self):
        self.half.optimizer.save(self.path)
        for source in (self.path, self.half.optimizer.to_bytes()):
            entries = {entry.name: entry for entry in adamw.inspect(source)}
            self.assertEqual(entries["state.w.step"].value, 2.0)
            self.assertEqual(entries["state.b.exp_avg"].dtype, "U8")
            self.assertEqual(entries["state.b.exp_avg"].n_elements, 5000)
            self.assertIsNone(entries["state.b.exp_avg"].value)
            self.assertEqual(entries["adamw_checkpoint"].text, "1")

    def test_that_are_none_or_missing_are_refused(self):
        missing = self.folder / "missing" / "state"
        with self.assertRaisesRegex(OSError, "missing") as raised:
            self.half.optimizer.save(missing)
        self.assertIsInstance(raised.exception, adamw.IoError)
        self.assertRaises(adamw.IoError, self.half.optimizer.load, missing)
        before = self.half.optimizer.to_bytes()
        for damaged in (b"", b"damaged", before[:-1], before[:-1] + b"x"):
            self.assertRaises(adamw.CorruptError, self.half.optimizer.load, damaged)
            self.assertRaises(adamw.CorruptError, adamw.inspect, damaged)
        with AdamW({"other": np.ones(3, np.float32)}) as optimizer:
            self.assertRaisesRegex(adamw.MismatchError, "other", optimizer.load, before)
        for path in ("a\0b", pathlib.PurePath("a\0b")):
            for call in (self.half.optimizer.save, self.half.optimizer.load):
                self.assertRaisesRegex(adamw.InvalidArgumentError, "NUL", call, path)
        self.assertRaisesRegex(
            ValueError, "scope is 'some'", self.half.optimizer.load, b"", scope="some"
        )
        self.assertEqual(self.half.optimizer.to_bytes(), before)

    def test_take_paths_that_are_not_unicode(self):
        path = os.fsdecode(os.fsencode(self.folder) + b"/\xff")
        self.half.optimizer.save(path)
        self.half.optimizer.load(path)

    def test_report_their_progress(self):
        seen = []
        self.half.optimizer.save(self.path, progress=lambda *pair: seen.append(pair))
        size = self.path.stat().st_size
        self.assertTrue(seen)
        self.assertEqual(seen, sorted(seen))
        self.assertLessEqual(seen[-1][0], seen[-1][1])
        for call in (self.half.optimizer.save, self.half.optimizer.load):
            with contextlib.redirect_stderr(io.StringIO()) as shown:
                call(self.path, progress=True)
            self.assertEqual("100%" in shown.getvalue(), "tqdm" in sys.modules)
            with mock.patch.dict(sys.modules, {"tqdm.auto": None}):
                with contextlib.redirect_stderr(io.StringIO()) as shown:
                    call(self.path, progress=True)
            self.assertEqual(shown.getvalue(), "")
        self.assertEqual(self.path.stat().st_size, size)

    def test_raise_what_progress_raises_even_if_the_state_is_written_already(self):
        self.half.optimizer.save(self.path)

        def progress(done, total):
            if done == total:
                raise KeyboardInterrupt

        with self.assertRaises(KeyboardInterrupt):
            self.half.optimizer.load(self.path, progress=progress)
        self.half.steps(2, 4)
        self.assertEqual(self.half.bits(), self.whole.bits())


if __name__ == "__main__":
    unittest.main()
