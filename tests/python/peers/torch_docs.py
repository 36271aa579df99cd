"""The blocks of docs/pytorch.md under "In Python" work as they stand, one after another.

usage: LIBADAMW=libadamw.so torch_docs.py
"""

import contextlib
import io
import math
import pathlib
import re
import unittest

PAGE = pathlib.Path(__file__).resolve().parents[3] / "docs" / "pytorch.md"


class Docs(unittest.TestCase):
    def test_every_block_works(self):
        text = PAGE.read_text()
        start, end = text.index("## In Python\n"), text.index("## The formula\n")
        blocks = list(re.finditer(r"```python\n(.*?)^```$", text[start:end], re.S | re.M))
        self.assertGreater(len(blocks), 3)
        names = {}
        with contextlib.redirect_stdout(io.StringIO()) as shown:
            for block in blocks:
                line = text.count("\n", 0, start + block.start(1))
                exec(compile("\n" * line + block[1], str(PAGE), "exec"), names)
        self.assertTrue(math.isfinite(float(shown.getvalue())))


if __name__ == "__main__":
    unittest.main()
