"""Optimizers share the threads of a team, and threads take a step together, to the bits of one
thread.

environment: LIBADAMW
"""

import os
import subprocess
import sys
import textwrap
import threading
import time
import unittest
from concurrent.futures import ThreadPoolExecutor

from case import arrays, bits, np

import adamw
from adamw import AdamW, Team

N = 300_000


def trained(steps, step=AdamW.step, **options):
    """Returns a parameter after some steps that are taken as `step` says."""
    param, grad = arrays(5, (N,), (N,))
    with AdamW({"w": param}, **options) as optimizer:
        for _ in range(steps):
            optimizer.set_grad("w", grad)
            step(optimizer)
    return bits(param)


def native_threads():
    """Returns how many threads the process has."""
    return len(os.listdir("/proc/self/task"))


#: Those of numpy, before any test.
OTHERS = native_threads()


def settled(expected):
    """Returns the same, once threads that were joined are off the kernel's list."""
    for _ in range(5000):
        if native_threads() == expected:
            break
        time.sleep(0.001)
    return native_threads()


class Teams(unittest.TestCase):
    def test_have_the_bits_of_one_thread(self):
        once = trained(3, num_threads=1)
        with Team(3) as team:
            self.assertEqual(once, trained(3, team=team))
            results = []
            threads = [
                threading.Thread(target=lambda: results.append(trained(3, team=team)))
                for _ in range(3)
            ]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            self.assertEqual(results, [once] * 3)

    def test_keep_their_threads_until_the_team_and_the_last_optimizer_are_closed(self):
        for closes_team_first in (False, True):
            team = Team(3)
            optimizers = [AdamW({"w": np.ones(N, np.float32)}, team=team) for _ in range(4)]
            for optimizer in optimizers:
                optimizer.step(grads={"w": np.ones(N, np.float32)})
            self.assertEqual(settled(OTHERS + 2), OTHERS + 2)
            if closes_team_first:
                team.close()
                team.close()
                with self.assertRaises(adamw.BadHandleError):
                    AdamW({}, team=team)
            for optimizer in optimizers:
                optimizer.step(grads={"w": np.ones(N, np.float32)})
                self.assertEqual(settled(OTHERS + 2), OTHERS + 2)
                optimizer.close()
            team.close()
            self.assertEqual(settled(OTHERS), OTHERS)

    def test_refuse_a_number_of_threads_beside_them(self):
        with Team(2) as team, self.assertRaisesRegex(adamw.InvalidArgumentError, "num_threads"):
            AdamW({}, num_threads=2, team=team)
        with self.assertRaises(TypeError):
            team.__reduce__()

    def test_are_no_trouble_when_the_interpreter_exits(self):
        script = """
            import numpy as np, adamw
            team = adamw.Team(3)
            optimizers = [adamw.AdamW({"w": np.ones(300_000, np.float32)}, team=team) for _ in "ab"]
            for optimizer in optimizers:
                optimizer.step(grads={"w": np.ones(300_000, np.float32)})
        """
        done = subprocess.run([sys.executable, "-c", textwrap.dedent(script)], capture_output=True)
        self.assertEqual((done.returncode, done.stdout, done.stderr), (0, b"", b""))


class Together(unittest.TestCase):
    def test_has_the_bits_of_one_thread_however_many_come(self):
        once = trained(3, num_threads=1)
        for n_calls in range(4):

            def step(optimizer, n_calls=n_calls):
                with ThreadPoolExecutor(3) as pool, optimizer.step_together() as work:
                    list(pool.map(lambda _: work(), range(n_calls)))

            self.assertEqual(once, trained(3, step))

    def test_refuses_other_calls_until_its_end_and_late_ones_do_nothing(self):
        with AdamW({"w": np.ones(3, np.float32)}) as optimizer:
            optimizer.set_grad("w", np.ones(3, np.float32))
            with optimizer.step_together() as work:
                with self.assertRaises(adamw.BusyError):
                    optimizer.step()
            work()
            self.assertEqual(optimizer.param("w").step, 1)

    def test_takes_the_step_if_the_block_raises(self):
        with AdamW({"w": np.ones(3, np.float32)}) as optimizer:
            optimizer.set_grad("w", np.ones(3, np.float32))
            with self.assertRaises(KeyError), optimizer.step_together():
                raise KeyError
            self.assertEqual(optimizer.param("w").step, 1)

    def test_what_a_callback_raises_comes_out_where_it_was_called(self):
        with AdamW({"w": np.ones(3, np.float32)}) as optimizer:
            optimizer.set_grad("w", np.ones(3, np.float32))
            optimizer.set_lr_ratio(lambda _: {}["ratio"])
            with (
                self.assertRaisesRegex(adamw.CallbackError, "lr_ratio"),
                optimizer.step_together() as work,
                self.assertRaisesRegex(KeyError, "ratio"),
            ):
                work()
            self.assertEqual(optimizer.param("w").step, 0)


if __name__ == "__main__":
    unittest.main()
