"""The blocks of docs/paddle.md work as they stand, one after another.

usage: LIBADAMW=libadamw.so paddle_docs.py
"""

import contextlib
import pathlib
import re
import tempfile
import unittest
import warnings

PAGE = pathlib.Path(__file__).resolve().parents[3] / "docs" / "paddle.md"


class Docs(unittest.TestCase):
    def test_every_block_works(self):
        text = PAGE.read_text()
        blocks = list(re.finditer(r"```python\n(.*?)^```$", text, re.S | re.M))
        self.assertGreater(len(blocks), 2)
        names = {}
        with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
            for block in blocks:
                line = text.count("\n", 0, block.start(1))
                exec(compile("\n" * line + block[1], str(PAGE), "exec"), names)


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    unittest.main()
