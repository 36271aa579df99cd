"""The README's Python block works as it stands, with the library at another path.

    python readme.py README.md libadamw.so
"""
import re
import sys

readme, library = sys.argv[1:]
try:
    import numpy  # noqa: F401  (the block's own import)
except ImportError:
    print("numpy is not installed")
    sys.exit(77)

with open(readme, encoding="utf-8") as text:
    (block,) = re.findall(r"```python\n(.*?)```", text.read(), re.DOTALL)
path = "target/release/libadamw.so"
assert path in block
names = {}
exec(block.replace(path, library), names)
error = abs(names["w"] - range(4)).max()
assert error < 0.05, f"w is {names['w']}, not 0, 1, 2, 3"
