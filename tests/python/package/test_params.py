"""Parameters do what their options say, from the step on that follows.

environment: LIBADAMW
"""

import unittest

from case import Model, arrays, bits, np

import adamw
from adamw import AdamW


class Ranges(unittest.TestCase):
    def test_of_ranks_cut_the_whole(self):
        lengths, ranks = (1000, 2000, 600), range(3)
        ranges = [adamw.shard_ranges(lengths, rank=r, num_ranks=3, align=256) for r in ranks]
        self.assertEqual(ranges[1], [(0, 0), (256, 1024), (0, 0)])
        self.assertEqual(ranges[2], [(0, 0), (1280, 720), (0, 600)])
        with self.assertRaisesRegex(adamw.InvalidArgumentError, "less than num_ranks"):
            adamw.shard_ranges([4], rank=1, num_ranks=1)


class Options(unittest.TestCase):
    def setUp(self):
        self.param, self.other, self.grad = arrays(1, (4,), (4,), (4,))
        self.models = Model(self.param), Model(self.other)
        self.optimizer = AdamW({"w": self.param, "other": self.other})

    def tearDown(self):
        self.optimizer.close()

    def step_and_compare(self, *grads):
        """Steps both, the models by these gradients or not at all, and compares their bits."""
        self.optimizer.step(grads={"w": self.grad, "other": self.grad})
        for param, model, grad in zip((self.param, self.other), self.models, grads):
            if grad is not None:
                model.step(grad)
            self.assertEqual(bits(param), bits(model.param))

    def test_freeze_and_thaw(self):
        self.optimizer.set_options("w", frozen=True)
        self.step_and_compare(None, self.grad)
        self.optimizer.set_options("w", frozen=False)
        self.step_and_compare(self.grad, self.grad)
        self.assertEqual(self.optimizer.steps, {"w": 1, "other": 2})
        frozen = np.ones(4, np.float32)
        self.optimizer.add_param("frozen", frozen, frozen=True)
        self.optimizer.step(grads={"frozen": self.grad})
        self.assertTrue(np.all(frozen == 1))

    def test_scale_the_learning_rate(self):
        self.optimizer.set_options("w", lr_scale=0.5)
        self.models[0].lr = 5e-4
        self.step_and_compare(self.grad, self.grad)
        self.assertEqual(self.optimizer.param_lr("w"), 5e-4)
        self.optimizer.add_param("x", np.ones(2, np.float32), lr_scale=3.0)
        self.assertEqual(self.optimizer.param_lr("x"), 3e-3)

    def test_regularize(self):
        self.optimizer.set_options("w", regularizer="l2", regularizer_coeff=0.5)
        self.step_and_compare(self.grad + np.float32(0.5) * self.param, self.grad)
        self.optimizer.set_options("w", regularizer="l1", regularizer_coeff=0.25)
        self.step_and_compare(self.grad + np.float32(0.25) * np.sign(self.param), self.grad)
        self.optimizer.set_options("w", regularizer_coeff=0.0)
        self.step_and_compare(self.grad, self.grad)
        added = np.ones(4, np.float32)
        model = Model(added)
        self.optimizer.add_param("x", added, regularizer="l2", regularizer_coeff=0.5)
        for _ in range(2):
            model.step(self.grad + np.float32(0.5) * model.param)
            self.optimizer.step(grads={"x": self.grad})
            self.assertEqual(bits(added), bits(model.param))

    def test_leave_a_parameter_out_of_the_norm(self):
        names = {}
        for name, options in {"in": {}, "out": {"clip": False}, "later": {}}.items():
            names[name] = np.ones(4, np.float32)
        grads = {name: np.full(4, 2.0, np.float32) for name in names}
        with AdamW(clip_norm=0.5) as optimizer:
            optimizer.add_param("in", names["in"])
            optimizer.add_param("out", names["out"], clip=False)
            optimizer.add_param("later", names["later"])
            optimizer.set_options("later", clip=False)
            optimizer.step(grads=grads)
            self.assertEqual(optimizer.step_info().clip_factor, 0.125)
            optimizer.set_options("later", clip=True)
            optimizer.step(grads=grads)
            self.assertLess(optimizer.step_info().clip_factor, 0.125)

    def test_go_the_way_of_their_group(self):
        up, amsgrad, torch_like = (np.ones(4, np.float32) for _ in range(3))
        with AdamW({}, betas=(0.5, 0.5)) as optimizer:
            for array, own in (
                (up, {"maximize": True}),
                (amsgrad, {"amsgrad": True}),
                (torch_like, {"bias_correction": "current"}),
            ):
                name = next(iter(own))
                optimizer.add_param(name, array, group=optimizer.add_group(**own))
            grads = {name: np.ones(4, np.float32) for name in optimizer.names}
            optimizer.step(grads=grads)
            self.assertGreater(up[0], 1.0)
            self.assertLess(amsgrad[0], 1.0)
            self.assertIn("max_exp_avg_sq", optimizer.state("amsgrad"))
            optimizer.groups[3].betas = 0.75, 0.75
            optimizer.step(grads=grads)
            power = optimizer.get_state("state.bias_correction.beta1_power")
            self.assertEqual(power.item(), 0.75 * 0.75)
            with self.assertRaisesRegex(adamw.InvalidArgumentError, "'products', 'current'"):
                optimizer.add_group(bias_correction="none")

    def test_move_a_parameter_to_another_group(self):
        group = self.optimizer.add_group(weight_decay=0.0)
        self.step_and_compare(self.grad, self.grad)
        for own in (group, group.number):
            self.optimizer.set_options("w", group=own)
            self.models[0].weight_decay = 0.0
            self.assertEqual(self.optimizer.param("w").group, group.number)
            self.step_and_compare(self.grad, self.grad)

    def test_continue_after_steps_that_were_taken_elsewhere(self):
        for _ in range(3):
            self.models[0].step(self.grad)
        param, model = self.models[0].param.copy(), self.models[0]
        state = {"exp_avg": model.exp_avg.copy(), "exp_avg_sq": model.exp_avg_sq.copy()}
        self.optimizer.add_param("x", param, state=state, step=3)
        self.assertEqual(self.optimizer.param("x").step, 3)
        self.optimizer.step(grads={"x": self.grad})
        model.step(self.grad)
        self.assertEqual(bits(param), bits(model.param))


class Description(unittest.TestCase):
    def test_of_parameters_that_come_and_go(self):
        first, second = np.ones(3, np.float32), np.ones((2, 2), np.float64)
        with AdamW({"a": first, "b": second}) as optimizer:
            self.assertEqual((len(optimizer), list(optimizer)), (2, ["a", "b"]))
            self.assertIn("a", optimizer)
            self.assertEqual(
                optimizer.param("b"), adamw.ParamInfo("b", 1, 4, "float64", 0, 0, True)
            )
            optimizer.remove_param("a")
            self.assertNotIn("a", optimizer)
            optimizer.add_param("c", first)
            self.assertEqual(optimizer.names, ("b", "c"))
            self.assertEqual(optimizer.param("c").number, 0)
            optimizer.step(grads={"c": np.ones(3, np.float32)})
            self.assertEqual(optimizer.param("c").step, 1)
            self.assertEqual(repr(optimizer), "AdamW(2 params)")

    def test_of_the_memory_that_state_will_take(self):
        with AdamW(precision="split", moments="8bit", amsgrad=True) as optimizer:
            plan = optimizer.memory_plan(1 << 16, "bfloat16")
            moment = (1 << 16) + 4 * 256
            self.assertEqual(plan, adamw.Memory(3 * moment + (2 << 16), 0, 2 << 16, *[moment] * 3))
            self.assertEqual(optimizer.memory_plan(16, "float64").exp_avg, 128)
            self.assertEqual(optimizer.memory_plan(16, "float32").exp_avg, 64)
            shard = optimizer.memory_plan(256, "float32", whole_elements=1 << 16)
            self.assertEqual(shard.exp_avg, 260)
            group = optimizer.add_group(moments="bf16")
            self.assertEqual(optimizer.memory_plan(16, "float32", group=group).exp_avg, 32)

    def test_of_masters_that_follow_what_the_host_writes(self):
        param = np.ones(4, np.float16)
        with AdamW({"w": param}, precision="master") as optimizer:
            optimizer.step(grads={"w": np.ones(4, np.float32)})
            param[:] = 5
            optimizer.sync_master("w")
            self.assertTrue(np.all(optimizer.state("w")["master"] == 5))


if __name__ == "__main__":
    unittest.main()
