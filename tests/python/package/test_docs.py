"""The blocks of the pages about the package work as they stand, one after another.

environment: LIBADAMW
"""

import contextlib
import io
import pathlib
import re
import subprocess
import sys
import tempfile
import unittest

from case import np  # noqa: F401  (the blocks' own import)

ROOT = pathlib.Path(__file__).resolve().parents[3]


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
        text = "".join(block for _, block in blocks("docs/python.md", "sh"))
        commands = [line.split() for line in text.splitlines() if line.startswith("python -m")]
        self.assertEqual([command[3] for command in commands], ["inspect", "convert"])
        golden = ROOT / "tests" / "golden"
        pathlib.Path("optimizer.pt").write_bytes((golden / "states-torch.pt").read_bytes())
        pathlib.Path("names.txt").write_text("first.weight\nsecond.bias\n")
        for command in commands:
            done = subprocess.run([sys.executable, *command[1:]], capture_output=True, check=False)
            self.assertEqual((done.returncode, done.stderr), (0, b""), command)


if __name__ == "__main__":
    unittest.main()
