"""The look at parameters and gradients in C finds what the one in Python finds, and gives way to it.

usage: LIBADAMW=libadamw.so torch_walks.py
"""

import pathlib
import unittest
from unittest import mock

import adamw.torch
import torch
import torch_lives
import torch_state
from adamw.torch import _native
from adamw.torch._walk import ABSENT, UNSEEN, Walk
from torch_pairs import Pair, parameters

PYTHON = mock.patch.object(_native, "NATIVE", "not wanted")


class Kind(torch.Tensor):
    """A subclass without operations of its own."""


def wrapped(grad):
    kind = type("Wrapper", (torch.Tensor,), {"__torch_dispatch__": refused})
    return torch.Tensor._make_wrapper_subclass(kind, grad.shape, dtype=grad.dtype)


@classmethod
def refused(cls, function, types, args=(), kwargs=None):
    raise TypeError(f"{function} of a wrapper")


def with_gradient(function):
    """Names a row that replaces the gradient of the second of three parameters."""

    def change(params):
        params[1].grad = function(params[1].grad)

    change.__name__ = function.__name__
    return change


def none(grad):
    return None


def elsewhere(grad):
    return grad.clone()


def turned(grad):
    return grad.t().contiguous().t()


def spread(grad):
    return torch.ones(1, 1).expand(grad.shape)


def sparse(grad):
    return grad.to_sparse()


def negative(grad):
    return torch.complex(grad, grad).conj().imag.view(4, 3, 1)[:, :, 0]


def nothing_but_zeros(grad):
    return torch._efficientzerotensor(grad.shape)


def subclass(grad):
    return grad.as_subclass(Kind)


def graphed(grad):
    return (grad * grad.clone().requires_grad_()).view_as(grad)


def view(grad):
    return torch.zeros(40)[5:17].view(4, 3)


def moved(params):
    params[1].data = params[1].data.clone()


def moved_order(params):
    params[1].data = params[1].data.t().contiguous().t()


def retyped(params):
    params[1].data = params[1].data.double()


def reshaped(params):
    params[1].grad = None
    params[1].data = params[1].data.view(3, 4)


def cleared(params):
    params[0].grad = params[1].grad = params[2].grad = None


def late(params):
    params[2].grad = torch.zeros(2)


def swapped(params):
    other = torch.nn.Parameter(torch.ones(4, 3))
    other.grad = torch.zeros(4, 3)
    torch.utils.swap_tensors(params[1], other)


def exchanged(params):
    params[0], params[1] = params[1], params[0]


def removed(params):
    params.pop()


def added(params):
    params.append(torch.nn.Parameter(torch.ones(1)))


GRADIENTS = [none, elsewhere, turned, spread, sparse, negative, nothing_but_zeros]
GRADIENTS += [subclass, graphed, view]
CHANGES = [moved, moved_order, retyped, reshaped, cleared, late, swapped, exchanged, removed, added]
CHANGES += map(with_gradient, GRADIENTS)


def three():
    params = [torch.nn.Parameter(torch.ones(shape)) for shape in ((5,), (4, 3), (2,))]
    params[0].grad, params[1].grad = torch.zeros(5), torch.zeros(4, 3)
    return params


class Looks(unittest.TestCase):
    def setUp(self):
        self.assertIsInstance(_native.NATIVE, _native.Native, _native.NATIVE)

    def both(self, params, slots, groups):
        walks = [kind(params, params, slots) for kind in (_native.NATIVE.walk, Walk)]
        for _ in range(2):
            seen = [(walk.look(groups), list(walk.grads)) for walk in walks]
            self.assertEqual(*seen)
        return walks

    def test_both_find_the_same(self):
        for change in CHANGES:
            for slots in ([0, 1, ABSENT], [0, UNSEEN, ABSENT], [UNSEEN, 0, UNSEEN]):
                with self.subTest(change.__name__, slots=slots):
                    params = three()
                    cut = params[:]
                    walks = self.both(params, slots, [params[:1], params[1:]])
                    change(cut)
                    for _ in range(2):
                        groups = [cut[:1], tuple(cut[1:])]
                        seen = [(walk.look(groups), list(walk.grads)) for walk in walks]
                        if change.__name__ == "subclass":  # a difference that changes no result
                            seen[0] = seen[1]
                        self.assertEqual(*seen)

    def test_an_unchanged_step_needs_no_look_in_python(self):
        pair = Pair(parameters())
        pair.step()
        pair.step()
        self.assertIsInstance(pair.adamw._plan._walk, _native.NativeWalk)

    def test_every_change_steps_as_with_torch(self):
        for change in [moved, moved_order, reshaped, cleared, late, swapped, *CHANGES[10:]]:
            if change.__name__ == "sparse":
                continue  # which torch.optim.AdamW refuses
            for walk in (mock.patch.object(_native, "NATIVE", _native.NATIVE), PYTHON):
                with self.subTest(change.__name__, walk=walk.new), walk:
                    pair = Pair([param.detach() for param in three()])
                    for _ in range(4):
                        pair.step(absent={2})
                        for optimizer, params in (
                            (pair.torch, pair.theirs),
                            (pair.adamw, pair.ours),
                        ):
                            change(params)
                            if change.__name__ == "reshaped":
                                optimizer.state.clear()
                            optimizer.step()
                    pair.assert_near(change.__name__)

    def test_a_gradient_without_memory_is_no_crash(self):
        for walk in (mock.patch.object(_native, "NATIVE", _native.NATIVE), PYTHON):
            with walk:
                params = three()
                optimizer = adamw.torch.AdamW(params)
                optimizer.step()
                before = params[1].detach().clone()
                params[1].grad = wrapped(params[1])
                with self.assertRaisesRegex(TypeError, "of a wrapper"):
                    optimizer.step()
                self.assertTrue(torch.equal(before, params[1]))
                params[1].grad = torch.ones(4, 3)
                optimizer.step()
                self.assertFalse(torch.equal(before, params[1]))

    def test_a_parameter_without_a_count_of_writes_is_no_crash(self):
        with torch.inference_mode():
            param = torch.ones(3)
        for walk in self.both([param], [UNSEEN], [[param]]):
            walk.count()

    def test_lives_are_the_same_without_c(self):
        with PYTHON:
            for seed in range(15):
                torch_lives.live(seed)

    def test_states_are_the_same_without_c(self):
        with PYTHON:
            result = unittest.TestResult()
            unittest.defaultTestLoader.loadTestsFromModule(torch_state).run(result)
        self.assertGreater(result.testsRun, 30)
        self.assertEqual(result.failures + result.errors, [])


class Fallback(unittest.TestCase):
    def reason(self):
        found = _native.found()
        self.assertIsInstance(found, str)
        with mock.patch.object(_native, "NATIVE", found):
            pair = Pair(parameters())
            for _ in range(3):
                pair.step()
            pair.assert_near("fallback")
            self.assertIsInstance(pair.adamw._plan._walk, Walk)
        return found

    def test_a_missing_function_is_named(self):
        for index, name in enumerate(_native.NAMES):
            names = (*_native.NAMES[:index], f"{name}_gone", *_native.NAMES[index + 1 :])
            with mock.patch.object(_native, "NAMES", names):
                self.assertIn(f"{name}_gone", self.reason())

    def test_a_missing_file_is_named(self):
        init = _native.Native.__init__
        nowhere = pathlib.Path("/nowhere/walker.so")
        with mock.patch.object(_native.Native, "__init__", lambda self: init(self, nowhere)):
            self.assertIn(str(nowhere), self.reason())

    def test_other_answers_are_noticed(self):
        """A function is in the place of another that takes the same arguments."""
        get, native = "aoti_torch_get_{}".format, "_ZN2at6native{}ERKNS_6TensorE".format
        swaps = [(get("sizes"), get("strides")), (get("strides"), get("sizes"))]
        swaps += [(get("dtype"), get("device_type")), (get("layout"), get("dtype"))]
        swaps += [(get("data_ptr"), get("sizes"))]
        swaps += [(native("6is_neg"), native("12is_inference"))]
        for name, other in swaps:
            with self.subTest(name, other=other):
                wrong = [other if kept == name else kept for kept in _native.NAMES]
                with mock.patch.object(_native, "NAMES", tuple(wrong)):
                    self.assertRegex(self.reason(), "C finds|cannot be watched")

    def test_another_layout_of_objects_is_noticed(self):
        cdata = property(lambda tensor: 12345)
        with mock.patch.object(torch.Tensor, "_cdata", cdata, create=True):
            self.assertIn("points to PyTorch's tensor at", self.reason())


if __name__ == "__main__":
    unittest.main()
