"""A checkpoint as Python's safetensors reads it: every tensor, and its checksum by zlib.

usage: checkpoint.py CHECKPOINT...
"""

import json
import sys
import zlib

try:
    import numpy as np
    from safetensors import safe_open
    from safetensors.numpy import load_file
except ImportError as missing:
    print(missing)
    sys.exit(77)


def header(path):
    """The bytes of a file's header, its length included, and those of its tensors."""
    with open(path, "rb") as file:
        contents = file.read()
    end = 8 + int.from_bytes(contents[:8], "little")
    return contents[:end], contents[end:]


for path in sys.argv[1:]:
    with safe_open(path, "np") as file:
        texts = file.metadata()
        is_packed = texts["adamw_checkpoint"] == "2"
        assert is_packed or texts["adamw_checkpoint"] == "1"
        names = list(file.keys())
        steps = {name for name in names if name.startswith("state.") and name.endswith(".step")}
        if not is_packed:
            assert steps and all(f"param_groups.{name[6:-5]}" in texts for name in steps)

    # The header's own checksum is computed with zeros in its place.
    start, data = header(path)
    own = texts["header_crc32"].encode()
    assert zlib.crc32(start.replace(b'"header_crc32":"' + own, b'"header_crc32":"00000000', 1)) == int(own, 16)

    # The checksums of the tensors stand in the order of their bytes.
    entries = json.loads(start[8:])
    entries.pop("__metadata__")
    in_order = sorted(entries.values(), key=lambda entry: entry["data_offsets"])
    for i, entry in enumerate(in_order):
        first, last = entry["data_offsets"]
        assert zlib.crc32(data[first:last]) == int(texts["crc32"][8 * i : 8 * i + 8], 16), entry

    if not any(entry["dtype"] == "BF16" for entry in entries.values()):  # numpy has no bf16
        tensors = load_file(path)
        assert set(tensors) == set(names)
        for name in steps:
            assert tensors[name].dtype == np.uint64 and tensors[name].shape == ()
            assert np.all(np.isfinite(tensors[name[:-5] + ".exp_avg"]))
            step, power = int(tensors[name]), float(tensors[name[:-5] + ".beta1_power"])
            assert abs(power - 0.9**step) < 1e-12
    print(path, len(names), "tensors")
