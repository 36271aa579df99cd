"""The package passes mypy --strict, and so do programs that use it as it says; others do not."""

import importlib.util
import pathlib
import re
import subprocess
import sys
import tempfile
import textwrap
import unittest

import case  # noqa: F401  (what the package needs)

PYTHON = pathlib.Path(__file__).resolve().parents[3] / "python"
SOURCE = PYTHON / "src"

if importlib.util.find_spec("mypy") is None:
    print("mypy is missing")
    sys.exit(77)

#: A program of a user's. Lines that mypy has to refuse end with "# refused".
PROGRAM = """
    import io
    import numpy as np
    import adamw
    from adamw import AdamW, schedules

    w = np.ones((2, 3), np.float32)
    groups: list[adamw.Settings] = [{"lr": 1e-3, "betas": (0.9, 0.99)}, {"lr": "1"}]  # refused
    with AdamW([{"params": [w], "weight_decay": 0.0}], lr=1e-2, moments="8bit") as optimizer:
        loss: float | None = optimizer.step(lambda: 1.0)
        loss = optimizer.minimize(lambda: 1.0)
        count: int = optimizer.step_info().n_elements
        norm: float = optimizer.step_info().grad_norm  # refused
        optimizer.lr = 3.0
        AdamW(precision="fp32")  # refused
        optimizer.add_group(moments="16bit")  # refused
        optimizer.lr = "3"  # refused
        optimizer.learning_rate  # refused
        optimizer.set_schedule(schedules.cosine_with_warmup(warmup_steps=1, total_steps=9))
        optimizer.set_schedule(schedules.cosine_with_warmup(warmup_steps=1))  # refused
        optimizer.set_lr_ratio(lambda param: 0.5 if param.name == "w" else 1.0)
        optimizer.set_lr_ratio(lambda param: param.name)  # refused
        group: adamw.Group = optimizer.add_group(lr_scale=0.5, clip_norm=None)
        optimizer.add_group(learning_rate=0.5)  # refused
        group.betas = 0.9, 0.999
        group.betas = 0.9  # refused
        moment: np.ndarray = optimizer.state("0")["exp_avg"]
        saved: adamw.Saved = optimizer.save(io.BytesIO(), progress=lambda done, total: None)
        optimizer.load(["a", b"b"], rename={"0": "w"})
        optimizer.load(3)  # refused
        optimizer.set_grads({"0": w})
        optimizer.set_grads([w])  # refused
"""


class Types(unittest.TestCase):
    def test_are_those_that_the_package_says(self):
        with tempfile.TemporaryDirectory() as folder:
            program = pathlib.Path(folder, "program.py")
            program.write_text(textwrap.dedent(PROGRAM))
            options = "--config-file", PYTHON / "pyproject.toml", "--cache-dir", folder
            command = [sys.executable, "-m", "mypy", *options, SOURCE / "adamw", program]
            environment = {"MYPYPATH": str(SOURCE)}
            done = subprocess.run(
                command, capture_output=True, text=True, check=False, env=environment, cwd=folder
            )
        self.assertEqual(done.stderr, "")
        errors = [line for line in done.stdout.splitlines() if " error: " in line]
        of_program = [re.match(r"(?:.*/)?program\.py:(\d+): error", line) for line in errors]
        self.assertEqual([line for line, own in zip(errors, of_program) if own is None], [])
        lines = textwrap.dedent(PROGRAM).splitlines()
        refused = {number for number, line in enumerate(lines, 1) if line.endswith("# refused")}
        self.assertEqual({int(own[1]) for own in of_program if own}, refused, done.stdout)


if __name__ == "__main__":
    unittest.main()
