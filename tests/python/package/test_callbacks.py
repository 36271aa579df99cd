"""What a Python function raises comes out of the call that ran it, and nothing has changed.

environment: LIBADAMW
"""

import contextvars
import gc
import io
import unittest
import weakref

from case import arrays, bits, np

import adamw
from adamw import AdamW, schedules


class Problem(Exception):
    """Raised by the functions here."""


def raising(error):
    """Returns a function that raises an exception."""

    def function(*_):
        raise error

    return function


class File(io.RawIOBase):
    """A file that cannot be written."""

    def __init__(self, error):
        self.error = error

    def write(self, _):
        raise self.error


#: How a function is run: with an optimizer that can be stepped, and the exception to raise.
RUNS = {
    "decay filter": lambda optimizer, error: optimizer.set_decay_filter(raising(error)),
    "decay filter of a new parameter": lambda optimizer, error: (
        optimizer.set_decay_filter(lambda name: name != "x" or raising(error)()),
        optimizer.add_param("x", np.ones(3, np.float32)),
    ),
    "ratio of the learning rate": lambda optimizer, error: (
        optimizer.set_lr_ratio(raising(error)),
        optimizer.step(),
    ),
    "schedule": lambda optimizer, error: optimizer.set_schedule(
        schedules.by_function(raising(error))
    ),
    "schedule in a step": lambda optimizer, error: (
        optimizer.set_schedule(schedules.scaled_by(lambda index: index < 1 or raising(error)())),
        optimizer.step(),
    ),
    "trace": lambda _, error: schedules.by_function(raising(error)).trace(3),
    "closure": lambda optimizer, error: optimizer.step(raising(error)),
    "progress of a save": lambda optimizer, error: optimizer.save(
        io.BytesIO(), progress=raising(error)
    ),
    "progress of a load": lambda optimizer, error: optimizer.load(
        optimizer.to_bytes(), progress=raising(error)
    ),
    "file": lambda optimizer, error: optimizer.save(File(error)),
    "rename": lambda optimizer, error: optimizer.load(optimizer.to_bytes(), rename=raising(error)),
}


class Callbacks(unittest.TestCase):
    def setUp(self):
        self.param, self.grad = arrays(1, (6,), (6,))
        self.optimizer = AdamW({"w": self.param})
        self.optimizer.set_grad("w", self.grad)
        self.optimizer.step()
        self.before = bits(self.param), self.optimizer.to_bytes()

    def tearDown(self):
        self.optimizer.close()

    def test_raise_out_of_the_call_and_nothing_has_changed(self):
        for name, run in RUNS.items():
            for error in (Problem(name), KeyboardInterrupt(name), SystemExit(name)):
                with self.subTest(name=name, error=error):
                    with self.assertRaises(type(error)) as raised:
                        run(self.optimizer, error)
                    self.assertIs(raised.exception, error)
                    self.assertEqual(bits(self.param), self.before[0])
                    self.optimizer.set_lr_ratio(None)
                    self.optimizer.set_decay_filter(None)
                    self.optimizer.set_schedule(None)
                    self.assertEqual(self.optimizer.to_bytes(), self.before[1])

    def test_that_return_no_number_are_type_errors(self):
        for value in (None, [1.0]):
            for call in (
                lambda: self.optimizer.set_schedule(schedules.by_function(lambda _: value)),
                lambda: self.optimizer.step(lambda: value),
            ):
                self.assertRaises(TypeError, call)
            self.optimizer.set_lr_ratio(lambda _: value)
            self.assertRaises(TypeError, self.optimizer.step)
        self.assertEqual(bits(self.param), self.before[0])

    def test_that_return_what_no_step_can_use_are_errors_of_the_library(self):
        self.optimizer.set_lr_ratio(lambda _: -1.0)
        with self.assertRaisesRegex(adamw.AdamWError, "-1"):
            self.optimizer.step()
        self.assertEqual(bits(self.param), self.before[0])

    def test_see_the_parameter_that_they_are_asked_about(self):
        seen = []
        self.optimizer.set_lr_ratio(lambda param: seen.append(param) or 1.0)
        self.optimizer.step()
        self.assertEqual(seen, [adamw.ParamInfo("w", 0, 6, "float32", 1, 0, True)])

    def test_run_in_the_callers_context(self):
        variable, seen = contextvars.ContextVar("variable"), []
        self.optimizer.set_lr_ratio(lambda _: seen.append(variable.get()) or 1.0)
        context = contextvars.copy_context()
        context.run(variable.set, "inner")
        context.run(self.optimizer.step)
        self.assertEqual(seen, ["inner"])

    def test_live_until_others_are_set(self):
        for set_one, none in (
            (self.optimizer.set_lr_ratio, lambda: self.optimizer.set_lr_ratio(lambda _: 2.0)),
            (self.optimizer.set_decay_filter, lambda: self.optimizer.set_decay_filter(None)),
            (
                lambda one: self.optimizer.set_schedule(schedules.by_function(one)),
                lambda: self.optimizer.set_schedule(None),
            ),
        ):

            def function(_):
                return 1.0

            alive = weakref.ref(function)
            set_one(function)
            del function
            gc.collect()
            self.assertIsNotNone(alive())
            self.optimizer.step()
            none()
            gc.collect()
            self.assertIsNone(alive())

    def test_let_go_of_what_they_have_raised_without_the_garbage_collector(self):
        made = []

        def problem():
            error = Problem()
            made.append(weakref.ref(error))
            return error

        def function():
            raise problem()

        gc.disable()
        try:
            self.optimizer.step(function)
        except Problem:
            pass
        finally:
            gc.enable()
        self.assertEqual([alive() for alive in made], [None])
        self.optimizer.step()

    def test_may_call_the_optimizer_from_a_closure_and_raise_through_it(self):
        def closure():
            self.optimizer.set_lr_ratio(raising(Problem("inner")))
            try:
                self.optimizer.step()
            except Problem:
                self.optimizer.set_lr_ratio(None)
                return 3.0

        self.assertEqual(self.optimizer.step(closure), 3.0)


if __name__ == "__main__":
    unittest.main()
