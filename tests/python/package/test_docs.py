"""The blocks of the pages about the package work as they stand, one after another.

environment: LIBADAMW
"""

import contextlib
import io
import pathlib
import re
import shlex
import subprocess
import sys
import tempfile
import unittest

from case import np

import adamw

ROOT = pathlib.Path(__file__).resolve().parents[3]
FORMULAS = "docs/pytorch.md", "docs/other-frameworks.md"


def blocks(page, language):
    """Returns the blocks of a page in a language, each with the number of its first line."""
    text = (ROOT / page).read_text()
    found = re.finditer(rf"^```{language}\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
    return [(text.count("\n", 0, match.start(1)) + 1, match[1]) for match in found]


class Docs(unittest.TestCase):
    def setUp(self):
        self.enterContext(contextlib.chdir(self.enterContext(tempfile.TemporaryDirectory())))

    def run_blocks(self, page):
        names = {}
        with contextlib.redirect_stdout(io.StringIO()) as shown:
            with contextlib.redirect_stderr(io.StringIO()):
                for line, block in blocks(page, "python"):
                    # The lines of errors are those of the page.
                    exec(compile("\n" * (line - 1) + block, page, "exec"), names)
        return shown.getvalue().splitlines()

    def test_blocks_of_python_work_and_print_what_they_say(self):
        self.assertGreater(len(blocks("docs/python.md", "python")), 9)
        shown = self.run_blocks("docs/python.md")
        page = (ROOT / "docs" / "python.md").read_text()
        said = re.findall(r"print\(.*\) +# (.*?)\.\.\.$", page, re.MULTILINE)
        self.assertEqual(len(shown), 2)
        self.assertEqual(len(said), 2)
        for line, beginning in zip(shown, said):
            self.assertEqual(line[: len(beginning)], beginning)

    def test_blocks_about_other_frameworks_work(self):
        self.assertEqual(len(blocks("docs/other-frameworks.md", "python")), 1)
        self.assertEqual(self.run_blocks("docs/other-frameworks.md"), [])

    def test_the_first_block_of_the_packages_own_page_works(self):
        self.assertEqual(self.run_blocks("python/README.md"), [])

    def test_commands_work(self):
        self.run_blocks("docs/python.md")
        golden = ROOT / "tests" / "golden"
        pathlib.Path("optimizer.pt").write_bytes((golden / "states-torch.pt").read_bytes())
        pathlib.Path("model.keras").write_bytes((golden / "states-keras.keras").read_bytes())
        pathlib.Path("names.txt").write_text("first.weight\nsecond.bias\n")
        pages = "docs/python.md", "docs/other-frameworks.md"
        text = "".join(block for page in pages for _, block in blocks(page, "sh"))
        lines = text.replace("\\\n", "").splitlines()
        commands = [shlex.split(line, comments=True) for line in lines]
        # test_wheel.py does what these two do.
        self.assertEqual(commands[:2], [["pip", "install", "./python"], ["make", "wheel"]])
        self.assertEqual([line[3] for line in commands[2:]], ["inspect", "convert", "convert"])
        for python, *arguments in commands[2:]:
            self.assertEqual(python, "python")
            done = subprocess.run([sys.executable, *arguments], capture_output=True, check=False)
            self.assertEqual((done.returncode, done.stderr), (0, b""), arguments)

    def test_formulas_are_what_a_step_computes(self):
        header = (ROOT / "include" / "adamw.h").read_text()
        formulas = [block for page in FORMULAS for _, block in blocks(page, "text")]
        formulas.append("".join(re.findall(r"^///     (\w+ +[+-]?= .*\n)", header, re.MULTILINE)))
        self.assertEqual([formula.count("\n") for formula in formulas], [4, 3, 4])
        random = np.random.default_rng(1)
        options = {"lr": 0.05, "betas": (0.8, 0.9), "eps": 0.03, "weight_decay": 0.4}
        for formula in formulas:
            param = random.standard_normal(100)
            names = {"sqrt": np.sqrt, "param": param.copy(), "beta1": 0.8, "beta2": 0.9} | options
            names |= dict.fromkeys(["m", "v", "exp_avg", "exp_avg_sq"], 0.0)
            with adamw.AdamW({"param": param}, **options) as optimizer:
                for step in range(1, 6):
                    names |= {"grad": random.standard_normal(100), "t": step, "step": step}
                    exec(formula.replace("^", "**"), names)
                    optimizer.step(grads={"param": names["grad"]})
            np.testing.assert_allclose(names["param"], param, rtol=1e-12, atol=1e-13)


if __name__ == "__main__":
    unittest.main()
