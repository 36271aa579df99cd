"""What the library borrows lives as long as it is used, what it owns as long as it is seen; whoever
comes too late, from another thread, or from within is refused.

environment: LIBADAMW
"""

import array
import copy
import gc
import os
import pickle
import subprocess
import sys
import textwrap
import threading
import unittest
import warnings
import weakref

from case import Model, arrays, bits, np

import adamw
from adamw import AdamW, _library


class Array(np.ndarray):
    """An array that can be referred to weakly."""


def weakly(values):
    """Returns an array and a weak reference to it."""
    own = values.copy().view(Array)
    return own, weakref.ref(own)


class Borrowed(unittest.TestCase):
    def test_parameters_live_until_they_are_removed_or_the_optimizer_is_closed(self):
        for end in (
            lambda optimizer: optimizer.remove_param("w"),
            lambda optimizer: optimizer.close(),
            lambda optimizer: optimizer.rebind("w", param=np.ones(4, np.float32)),
        ):
            param, alive = weakly(np.ones(4, np.float32))
            optimizer = AdamW({"w": param})
            del param
            gc.collect()
            self.assertIsNotNone(alive())
            optimizer.step(grads={"w": np.ones(4, np.float32)} if "w" in optimizer else {})
            self.assertLess(alive()[0], 1)
            end(optimizer)
            gc.collect()
            self.assertIsNone(alive())
            optimizer.close()

    def test_gradients_live_until_they_are_replaced_or_forgotten(self):
        rows = np.array([0])
        for end in (
            lambda optimizer: optimizer.set_grad("w", np.ones((4, 2), np.float32)),
            lambda optimizer: optimizer.set_grad("w", None),
            lambda optimizer: optimizer.zero_grad(),
            lambda optimizer: optimizer.step_param("w"),
            lambda optimizer: optimizer.set_sparse_grad("w", rows, np.ones((1, 2), np.float32)),
            lambda optimizer: optimizer.remove_param("w"),
            lambda optimizer: optimizer.close(),
        ):
            grad, alive = weakly(np.ones((4, 2), np.float32))
            optimizer = AdamW({"w": np.ones((4, 2), np.float32)})
            optimizer.set_grad("w", grad)
            del grad
            gc.collect()
            optimizer.step()
            self.assertIsNotNone(alive())
            end(optimizer)
            gc.collect()
            self.assertIsNone(alive())
            optimizer.close()

    def test_rows_flags_and_state_live_as_long_as_they_are_used(self):
        rows, rows_alive = weakly(np.array([2, 0]))
        flag, flag_alive = weakly(np.zeros(1, np.float32))
        first, first_alive = weakly(np.zeros((4, 2), np.float32))
        second = np.zeros((4, 2), np.float32)
        optimizer = AdamW()
        state = {"exp_avg": first, "exp_avg_sq": second}
        optimizer.add_param("w", np.ones((4, 2), np.float32), state=state)
        optimizer.set_sparse_grad("w", rows, np.ones((2, 2), np.float32))
        optimizer.set_found_inf(flag, flag)
        del rows, flag, first, state
        gc.collect()
        optimizer.step()
        self.assertTrue(all(alive() is not None for alive in (rows_alive, flag_alive, first_alive)))
        view = optimizer.state("w")["exp_avg"]
        optimizer.zero_grad()
        optimizer.set_found_inf(None)
        gc.collect()
        self.assertIsNone(rows_alive())
        self.assertIsNone(flag_alive())
        optimizer.remove_param("w")
        gc.collect()
        self.assertTrue(np.shares_memory(view, first_alive()))
        del view
        gc.collect()
        self.assertIsNone(first_alive())
        optimizer.close()

    def test_a_call_that_fails_lets_nothing_go_and_takes_nothing(self):
        grad, alive = weakly(np.ones(4, np.float32))
        other, others = weakly(np.ones(5, np.float32))
        with AdamW({"w": np.ones(4, np.float32)}) as optimizer:
            optimizer.set_grad("w", grad)
            del grad
            for call in (
                lambda: optimizer.set_grad("w", other),
                lambda: optimizer.set_grads({"w": np.ones(4, np.float32), "x": other}),
                lambda: optimizer.add_param("w", other),
                lambda: optimizer.add_param("x", other, lr_scale=-1.0),
            ):
                self.assertRaises(adamw.AdamWError, call)
            self.assertEqual(optimizer.names, ("w",))
            optimizer.add_param("x", np.ones(5, np.float32))
            del other
            gc.collect()
            self.assertIsNotNone(alive())
            self.assertIsNone(others())
            optimizer.step()

    def test_memory_is_not_moved_while_it_is_borrowed(self):
        param, buffer = np.ones(4, np.float32), array.array("f", [1.0])
        optimizer = AdamW([param, buffer])
        with self.assertRaises(ValueError):
            param.resize(1000, refcheck=True)
        with self.assertRaises(BufferError):
            buffer.append(1.0)
        optimizer.close()
        buffer.append(1.0)

    def test_parameters_and_state_can_be_moved(self):
        param, first, second, grad = arrays(1, (4,), (4,), (4,), (4,))
        first[:], second[:] = 0, 0
        model = Model(param)
        state = {"exp_avg": first, "exp_avg_sq": second}
        with AdamW() as optimizer:
            optimizer.add_param("w", param, state=state)
            optimizer.step(grads={"w": grad})
            model.step(grad)
            (moved, borrowed), (moment, lent) = weakly(param), weakly(first)
            optimizer.rebind("w", param=moved, exp_avg=moment)
            param[:], first[:] = np.nan, np.nan
            optimizer.step(grads={"w": grad})
            model.step(grad)
            self.assertEqual(bits(moved), bits(model.param))
            self.assertEqual(bits(moment), bits(model.exp_avg))
            self.assertTrue(np.shares_memory(optimizer.state("w")["exp_avg"], moment))
            with self.assertRaisesRegex(adamw.InvalidArgumentError, "has the shape"):
                optimizer.rebind("w", param=moved.reshape(2, 2))
            optimizer.set_grad("w", grad)
            optimizer.rebind("w", param=None, exp_avg=None)
            param[:], first[:] = moved, moment
            del moved, moment
            gc.collect()
            self.assertEqual([borrowed(), lent()], [None, None])
            optimizer.step()
            with self.assertRaisesRegex(adamw.InvalidArgumentError, "has no memory now"):
                optimizer.set_grad("w", grad)
            optimizer.rebind("w", exp_avg=first, param=param)
            optimizer.step(grads={"w": grad})
            model.step(grad)
            self.assertEqual(bits(param), bits(model.param))
            moved = param.copy()
            with self.assertRaisesRegex(adamw.InvalidArgumentError, "a buffer is 'grad'"):
                optimizer.rebind("w", grad=moved)


class Owned(unittest.TestCase):
    def test_state_is_the_librarys_own_memory(self):
        with AdamW({"w": np.ones((2, 3), np.float32)}) as optimizer:
            state = optimizer.state("w")
            self.assertEqual(set(state), {"exp_avg", "exp_avg_sq"})
            self.assertEqual(state["exp_avg"].shape, (2, 3))
            optimizer.step(grads={"w": np.ones((2, 3), np.float32)})
            self.assertAlmostEqual(float(state["exp_avg"][0, 0]), 0.1, 6)
            state["exp_avg"][:] = 5
            self.assertEqual(optimizer.get_state("state.w.exp_avg")[0], 5)
            optimizer.set_state("state.w.exp_avg", np.full(6, 7, np.float32))
            optimizer.set_state("state.w.step", 3.0)
            self.assertEqual(state["exp_avg"][1, 2], 7)
            self.assertEqual(optimizer.param("w").step, 3)
            self.assertEqual(optimizer.state_name("w", "exp_avg"), "state.w.exp_avg")
            self.assertEqual(optimizer.state_name("w", "exp_avg", paddle=True), "w_moment1_0")
            self.assertEqual(optimizer.get_state("w_moment1_0")[0], 7)
            with self.assertRaisesRegex(adamw.TensorTypeError, "given as int64, expected float32"):
                optimizer.set_state("state.w.exp_avg", np.zeros(6, int))
            optimizer.reset_param("w")
            self.assertEqual(state["exp_avg"][0, 0], 0)

    def test_views_stay_valid_when_the_optimizer_is_closed(self):
        optimizer = AdamW({"w": np.ones(100_000, np.float32)})
        optimizer.step(grads={"w": np.ones(100_000, np.float32)})
        number = optimizer._handle.core.number
        view = optimizer.state("w")["exp_avg"][10:]
        optimizer.close()
        gc.collect()
        self.assertAlmostEqual(float(view.sum()), 9999, 0)
        self.assertEqual(_library.library.adamw_step(number), 0)
        del view
        gc.collect()
        self.assertRaises(adamw.BadHandleError, _library.check, _library.library.adamw_step(number))

    def test_a_parameter_is_not_removed_while_its_state_is_in_use(self):
        with AdamW({"w": np.ones(4, np.float32), "x": np.ones(4, np.float32)}) as optimizer:
            view = optimizer.state("w")["exp_avg"]
            optimizer.remove_param("x")
            with self.assertRaisesRegex(adamw.InvalidArgumentError, "of param 'w' is still in use"):
                optimizer.remove_param("w")
            self.assertEqual(view[0], 0)
            del view
            optimizer.remove_param("w")
            self.assertEqual(optimizer.names, ())

    def test_what_is_not_there_is_named(self):
        with AdamW({"w": np.ones(4, np.float32)}) as optimizer:
            for call in (
                lambda: optimizer.param("v"),
                lambda: optimizer.state("v"),
                lambda: optimizer.set_grad("v", np.ones(4, np.float32)),
                lambda: optimizer.remove_param("v"),
                lambda: optimizer.minimize(lambda: 0.0, names=["v"]),
            ):
                with self.assertRaisesRegex(adamw.NotFoundError, "no param 'v'; there are 'w'$"):
                    call()
            self.assertRaises(adamw.NotFoundError, optimizer.get_state, "state.w.master")
            self.assertRaises(LookupError, optimizer.set_stream, 1)
            self.assertRaises(LookupError, optimizer.set_device_inputs, lr=np.ones(1, np.float32))
            optimizer.prepare()


class End(unittest.TestCase):
    def test_every_call_after_it_is_refused(self):
        with AdamW({"w": np.ones(4, np.float32)}) as optimizer:
            pass
        optimizer.close()
        self.assertEqual(repr(optimizer), "AdamW(closed)")
        for call in (
            lambda: optimizer.step(),
            lambda: optimizer.step(grads={"w": np.ones(4, np.float32)}),
            lambda: optimizer.set_grad("w", np.ones(4, np.float32)),
            lambda: optimizer.zero_grad(),
            lambda: optimizer.state("w"),
            lambda: optimizer.lr,
            lambda: optimizer.groups,
            lambda: optimizer.save("/nowhere"),
            lambda: optimizer.add_param("x", np.ones(4, np.float32)),
            lambda: optimizer.remove_param("w"),
        ):
            with self.assertRaisesRegex(adamw.BadHandleError, "the optimizer is closed"):
                call()

    def test_comes_with_an_exception_too(self):
        with self.assertRaises(ZeroDivisionError), AdamW() as optimizer:
            1 / 0
        self.assertRaises(ValueError, optimizer.step)

    def test_comes_when_nobody_refers_to_the_optimizer_even_if_its_callbacks_do(self):
        optimizer = AdamW({"w": np.ones(4, np.float32)})
        optimizer.set_lr_ratio(lambda param: len(optimizer_of[0].names))
        optimizer_of = [optimizer]
        optimizer.step(grads={"w": np.ones(4, np.float32)})
        number = optimizer._handle.core.number
        del optimizer, optimizer_of
        gc.collect()
        self.assertRaises(adamw.BadHandleError, _library.check, _library.library.adamw_step(number))

    def test_is_not_copied(self):
        optimizer = AdamW()
        for copied in (copy.copy, copy.deepcopy, pickle.dumps):
            self.assertRaisesRegex(TypeError, "save it, and load it", copied, optimizer)

    def test_of_the_interpreter_with_live_optimizers_is_quiet(self):
        start = """
            import threading, numpy as np, adamw
            w = np.ones(600_000, np.float32)
            grads = {"w": np.ones_like(w)}
            optimizer = adamw.AdamW({"w": w}, num_threads=2)
            optimizer.step(grads=grads)
        """
        # Registered first, and so run last.
        late = "import atexit; atexit.register(lambda: optimizer.step(grads=grads))\n"
        for rest in (
            "",
            "view = optimizer.state('w')['exp_avg']",
            "optimizer.set_decay_filter(lambda name: optimizer is not None)",
            "optimizer.me = optimizer; del optimizer",
            "import os; (os.fork() or optimizer.step(grads=grads) or True) and None",
            """
            def steps():
                while True: optimizer.step(grads=grads)
            threading.Thread(target=steps, daemon=True).start()
            """,
            "optimizer.step(lambda: exit(0))",
            "class Late:\n    def __del__(self): print('late')\noptimizer.late = Late()",
        ):
            program = textwrap.dedent(start) + textwrap.dedent(rest)
            if "del" not in rest and "Thread" not in rest:
                program = late + program
            # Python warns of any fork while there are threads.
            command = [sys.executable, "-W", "ignore:This process", "-c", program]
            done = subprocess.run(command, capture_output=True, timeout=60, check=False)
            self.assertEqual((done.returncode, done.stderr), (0, b""), rest)


class Threads(unittest.TestCase):
    def test_of_two_calls_at_once_the_second_is_refused(self):
        param, grad = arrays(2, (4,), (4,))
        entered, leave, seen = threading.Event(), threading.Event(), []

        def ratio(_):
            entered.set()
            leave.wait(60)
            return 1.0

        optimizer = AdamW({"w": param})
        other = np.zeros(4, np.float32)
        optimizer.set_grad("w", grad)
        model = Model(param)
        optimizer.set_lr_ratio(ratio)
        worker = threading.Thread(target=optimizer.step)
        worker.start()
        self.assertTrue(entered.wait(60))
        for call in (
            lambda: optimizer.step(),
            lambda: optimizer.set_grad("w", other),
            lambda: optimizer.add_param("x", other),
            lambda: optimizer.state("w"),
            lambda: optimizer.close(),
        ):
            with self.assertRaises(adamw.BusyError) as raised:
                call()
            seen.append(str(raised.exception))
        leave.set()
        worker.join()
        self.assertEqual(set(seen), {"the optimizer is in use by another thread"})
        model.step(grad)
        self.assertEqual(bits(param), bits(model.param))
        optimizer.close()

    def test_from_a_callback_a_call_is_refused_and_comes_out_of_the_step(self):
        param = np.ones(4, np.float32)
        with AdamW({"w": param}) as optimizer:
            optimizer.set_lr_ratio(lambda _: optimizer.lr)
            with self.assertRaises(adamw.BusyError):
                optimizer.step(grads={"w": np.ones(4, np.float32)})
        self.assertEqual(param[0], 1)

    def test_a_forked_child_continues_with_the_same_bits(self):
        (param, grad) = arrays(3, (300_000,), (300_000,))
        model = Model(param)
        with AdamW({"w": param}, num_threads=2) as optimizer:
            optimizer.step(grads={"w": grad})
            model.step(grad)
            with warnings.catch_warnings(action="ignore"):
                child = os.fork()
            if child == 0:
                optimizer.step(grads={"w": grad})
                model.step(grad)
                os._exit(0 if bits(param) == bits(model.param) else 1)
            self.assertEqual(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), 0)
            optimizer.step(grads={"w": grad})
            model.step(grad)
            self.assertEqual(bits(param), bits(model.param))


if __name__ == "__main__":
    unittest.main()
