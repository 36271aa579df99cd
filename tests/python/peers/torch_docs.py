"""The blocks of docs/pytorch.md in Python work as they stand, one after another.

usage: LIBADAMW=libadamw.so torch_docs.py
"""

import contextlib
import io
import math
import pathlib
import re
import unittest

import torch

PAGE = pathlib.Path(__file__).resolve().parents[3] / "docs" / "pytorch.md"


def loss_of(micro_batch):
    """Returns a loss of the model below."""
    return model(micro_batch).square().mean()


# What the blocks of PyTorch's, which stand beside those in C, take as given.
model = torch.nn.Linear(4, 1)
GIVEN = {
    "torch": torch,
    "model": model,
    "weights": [model.weight],
    "biases": [model.bias],
    "lr": 1e-3,
    "batch": torch.ones(2, 3, 4),
    "loss_of": loss_of,
    "loss": loss_of(torch.ones(4)),
    "path": io.BytesIO(),
}


class Docs(unittest.TestCase):
    def run_blocks(self, text, line, names):
        """Runs the blocks of a text whose first line has this number."""
        blocks = list(re.finditer(r"^```python\n(.*?)^```$", text, re.DOTALL | re.MULTILINE))
        self.assertGreater(len(blocks), 3)
        for block in blocks:
            above = line + text.count("\n", 0, block.start(1)) - 1
            exec(compile("\n" * above + block[1], str(PAGE), "exec"), names)

    def test_every_block_works(self):
        text = PAGE.read_text()
        of_class, beside_c = text.split("## The formula\n")
        with contextlib.redirect_stdout(io.StringIO()) as shown:
            self.run_blocks(of_class, 1, {})
        self.assertTrue(math.isfinite(float(shown.getvalue())))
        self.run_blocks(beside_c, of_class.count("\n") + 2, dict(GIVEN))


if __name__ == "__main__":
    unittest.main()
