"""Files of other frameworks are read without running what is in them, in memory that their size
bounds, and what is not read is said.

environment: LIBADAMW
"""

import argparse
import collections
import io
import json
import pathlib
import pickle
import struct
import tempfile
import tracemalloc
import unittest
import zipfile

from case import np

import adamw
from adamw import convert
from adamw.convert import made

GOLDEN = pathlib.Path(__file__).resolve().parents[2] / "golden"
ZIP = zipfile.ZIP_STORED
GET = b"h\x01"


def archive(pkl, storage=bytes(16), names=("data/0",)):
    """Returns an archive as `torch.save` writes one."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", ZIP) as written:
        written.writestr("archive/data.pkl", pkl)
        for name in names:
            written.writestr(f"archive/{name}", storage)
    return file.getvalue()


def described(tail=b"tR."):
    """Returns the pickle of a tensor of 4 elements, without the end of its arguments."""
    storage = b"(X\x07\x00\x00\x00storagectorch\nFloatStorage\nX\x01\x00\x00\x000X\x03\x00\x00\x00cpuK\x04tQ"
    rebuild = b"ctorch._utils\n_rebuild_tensor_v2\n"
    return b"\x80\x02" + rebuild + b"(" + storage + b"K\x00K\x04\x85K\x01\x85\x89N" + tail


class Same:
    """An array of bytes that others have, too."""

    def __init__(self, data):
        self.data = data

    def __reduce__(self):
        made = np.ones(1).__reduce__()[:2]
        return *made, (1, (len(self.data) // 4,), np.dtype("<f4"), False, self.data)


class Thing:
    """An object of attributes."""

    def __init__(self, **attributes):
        self.__dict__.update(attributes)


class Files(unittest.TestCase):
    def setUp(self):
        self.folder = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory()))
        self.path = self.folder / "file"

    def loaded(self, load, contents):
        self.path.write_bytes(contents)
        return load(self.path)

    def assert_refused(self, load, contents, text):
        with self.assertRaisesRegex((pickle.UnpicklingError, ValueError), text):
            self.loaded(load, contents)

    def test_keeps_what_is_beside_the_tensors_as_what_cannot_be_used(self):
        beside = {
            "args": argparse.Namespace(lr=1.0),
            "counts": collections.defaultdict(int, {"a": 1}),
            "seen": {1, 2},
            "type": np.dtype("f4"),
            "loss": np.float64(0.5),
            "weights": np.arange(3.0),
            "ordered": collections.OrderedDict(a=1),
        }
        for protocol in range(6):
            with self.subTest(protocol):
                saved = self.loaded(convert.load_torch, archive(pickle.dumps(beside, protocol)))
                self.assertEqual(saved["counts"], {"a": 1})
                self.assertEqual(saved["ordered"], {"a": 1})
                self.assertEqual(saved["loss"], 0.5)
                self.assertIsInstance(saved["args"], made.Held)

    def test_keeps_storages_of_other_types_as_what_cannot_be_used(self):
        other = described().replace(b"FloatStorage", b"UntypedStorage")
        self.assertIsInstance(self.loaded(convert.load_torch, archive(other)), made.Held)

    def test_reads_arrays_of_every_protocol(self):
        saved = {
            "w_moment1_0": np.arange(6, dtype="<f4").reshape(2, 3),
            "f": np.ones((2, 3), order="F"),
        }
        for protocol in range(2, 6):
            with self.subTest(protocol):
                seen = self.loaded(convert.load_paddle, pickle.dumps(saved, protocol))
                for name, values in saved.items():
                    self.assertTrue(np.array_equal(seen[name], values))

    def test_says_what_stands_where_a_tensor_should(self):
        state = {0: {"step": 1, "exp_avg": argparse.Namespace(), "exp_avg_sq": 1.0}}
        groups = [{"params": [0]}]
        contents = archive(pickle.dumps({"state": state, "param_groups": groups}, 2))
        saved = self.loaded(convert.load_torch, contents)
        with adamw.AdamW({"w": np.ones(1, np.float32)}) as optimizer:
            with self.assertRaisesRegex(ValueError, "exp_avg of 'w' is <a argparse.Namespace>"):
                convert.from_torch(optimizer, ["w"], saved)

    def test_refuses_files_that_are_no_single_archive(self):
        one = archive(described())
        self.assertEqual(self.loaded(convert.load_torch, one).shape, (4,))
        shared = archive(described(), names=("data/0", "data/1"))
        at = [shared.rindex(b"PK\x01\x02", 0, shared.rindex(b"PK\x05\x06")) + 42]
        first = shared.index(b"archive/data/0") - 30
        same = shared[: at[0]] + struct.pack("<I", first) + shared[at[0] + 4 :]
        for contents, text in [
            (one + one, "bytes in front of the archive, such as another one"),
            (b"0" * 32 + one, "no file of PyTorch's, but something else"),
            (same, "share bytes"),
            (pickle.dumps(1), "is no file of PyTorch's, but a pickle"),
            (b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.", "of PyTorch before 1.6: torch.save"),
            (b"", "but something else"),
            (one[:-30], "is no whole file of PyTorch's: File is not a zip file"),
            (one.replace(bytes(16), b"1" * 16), "the file is damaged: BadZipFile: .Bad CRC-32"),
            (archive(described(b"}X\x03\x00\x00\x00neg\x88stR.")), "save its resolve_neg"),
        ]:
            self.assert_refused(convert.load_torch, contents, text)
        with self.assertRaisesRegex(ValueError, "is a folder: from_distributed takes"):
            convert.load_torch(self.folder)
        self.assert_refused(convert.load_paddle, one, "is no file of Paddle's, but a zip archive")

    def test_changes_nothing_of_its_own(self):
        for built in (
            b"ctorch._utils\n_rebuild_tensor_v2\n",
            b"cnumpy\nndarray\n",
            b"ctorch\nSize\n",
        ):
            self.assert_refused(
                convert.load_paddle,
                b"\x80\x02" + built + b"}X\x01\x00\x00\x00aK\x01sb.",
                "attributes",
            )
        self.assertFalse(hasattr(made.tensor, "a"))
        for contents, text in [
            (b"\x80\x02\x82\x01.", "an extension"),
            (b"\x80\x02ctorch\nFloatStorage\n)R.", "a call of 'FloatStorage'"),
            (b"\x80\x02}((K\x01K\x02t\x85K\x01u.", "expected a text or a number"),
            (b"\x80\x05\x96\xff\xff\xff\xff\xff\x00\x00\x00.", "damaged|expected a dict"),
        ]:
            self.assert_refused(convert.load_paddle, contents, text)

    def test_hands_no_address_of_a_file_to_numpy(self):
        interface = {"shape": (1,), "typestr": "<f4", "data": (8, False), "version": 3}
        held = argparse.Namespace(__array_interface__=interface)
        saved = self.loaded(convert.load_paddle, pickle.dumps({"w_moment1_0": held}, 2))
        self.assertFalse(hasattr(saved["w_moment1_0"], "__array_interface__"))

    def test_takes_memory_that_the_file_bounds(self):
        many = 20_000
        big = b"(" + b"K\x01" * 2000  # a mark, and 2,000 numbers
        ordered, size = b"ccollections\nOrderedDict\n", b"ctorch\nSize\n"
        numbers = b"".join(b"M" + struct.pack("<H", n) + b"K\x01" for n in range(2000))
        cases = {
            "a list made a tuple": big + b"lq\x010" + (size + GET + b"\x85R0") * many,
            "a tuple made a tuple": big + b"tq\x010" + (size + GET + b"\x85R0") * many,
            "arguments of an object": big + b"tq\x010" + (b"ca\nb\n" + GET + b"Rq\x020") * many,
            "a dict made another": b"(" + numbers + b"dq\x010" + (ordered + GET + b"\x85R0") * many,
            "a dict of attributes": b"("
            + numbers
            + b"dq\x010"
            + (b"ca\nb\n)\x81" + GET + b"b0") * many,
        }
        for what, body in cases.items():
            kept = b"\x80\x02]q\x05(" + body.replace(b"R0", b"R").replace(b"b0", b"b") + b"e."
            with self.subTest(what):
                self.path.write_bytes(kept)
                tracemalloc.start()
                try:
                    convert.load_paddle(self.path)
                except (pickle.UnpicklingError, ValueError):
                    pass
                most = tracemalloc.get_traced_memory()[1]
                tracemalloc.stop()
                self.assertLess(most, 100 * len(kept))

    def test_shares_the_bytes_of_arrays(self):
        data = bytes(1 << 18)
        many = pickle.dumps({f"w{number}": Same(data) for number in range(100)}, 4)
        tracemalloc.start()
        seen = self.loaded(convert.load_paddle, many)
        most = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        self.assertEqual(len(seen), 100)
        self.assertEqual(seen["w7"].size, 1 << 16)
        self.assertLess(most, 4 * len(many))


class Tensors(unittest.TestCase):
    def setUp(self):
        self.folder = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory()))

    def written(self, name, tensors, cut=0):
        header, data = {}, b""
        for key, (dtype, shape, values) in tensors.items():
            offsets = [len(data), len(data) + len(values)]
            header[key] = {"dtype": dtype, "shape": shape, "data_offsets": offsets}
            data += values
        text = json.dumps(header).encode()
        whole = len(text).to_bytes(8, "little") + text + data
        (self.folder / name).write_bytes(whole[: len(whole) - cut])
        return self.folder / name

    def test_reads_what_numpy_has_and_passes_over_the_rest(self):
        whole = {
            "count": ("I64", [], np.int64(7).tobytes()),
            "short": ("I32", [2], np.arange(2, dtype="<i4").tobytes()),
            "byte": ("I8", [2], b"\x00\x01"),
            "flag": ("BOOL", [2], b"\x00\x01"),
            "number": ("U32", [1], b"\x01\x00\x00\x00"),
            "complex": ("C64", [1], np.complex64(1j).tobytes()),
            "eight": ("F8_E4M3", [2], b"\x00\x01"),
            "four": ("F4", [2], b"\x00"),
        }
        _, tensors = convert.read(self.written("a", whole))
        self.assertEqual(set(whole) - set(tensors), {"eight", "four"})
        self.assertEqual(tensors["count"], 7)
        self.assertEqual(tensors["flag"].tolist(), [False, True])

    def test_reads_all_files_of_an_index(self):
        one = np.ones(2, np.float32)
        names = "step", "exp_avg", "exp_avg_sq"
        files = {}
        for number, part in enumerate(names):
            values = one[:1] if part == "step" else one
            tensors = {f"state.w.{part}": ("F32", [values.size], values.tobytes())}
            files[f"state.w.{part}"] = self.written(f"m-{number}.safetensors", tensors).name
        index = self.folder / "m.safetensors.index.json"
        index.write_text(json.dumps({"metadata": {}, "weight_map": files}))
        with adamw.AdamW({"w": np.ones(2, np.float32)}) as optimizer:
            convert.from_distributed(optimizer, convert.read(index)[1])
            self.assertEqual(optimizer.param("w").step, 1)
        index.write_text(json.dumps({"weight_map": {"w": "../m"}}))
        with self.assertRaisesRegex(ValueError, "names '../m', expected a file beside it"):
            convert.read(index)

    def test_says_what_a_file_is_that_is_no_safetensors_file(self):
        one = {"a": ("F32", [2], bytes(8))}
        whole = self.written("a", one)
        for path, text in [
            (self.written("cut", one, cut=4), "it ends before a does"),
            (self.written("header", one, cut=30), "it ends in its header"),
            (GOLDEN / "states-torch.pt", "it is a zip archive"),
            (self.folder / "empty", "it is something else"),
        ]:
            (self.folder / "empty").write_bytes(b"")
            with self.assertRaisesRegex(ValueError, text):
                convert.read(path)
        contents = bytearray(whole.read_bytes())
        contents[contents.index(b"8]}")] = ord("7")
        whole.write_bytes(contents)
        with self.assertRaisesRegex(ValueError, "no whole safetensors file: buffer size"):
            convert.read(whole)

    def assert_folder(self, text, *parts, size=(4,)):
        """Checks what is said of a folder whose tensor has these parts: their offset in it, and
        where they lie in the file."""
        one = archive(described())
        (self.folder / "__0_0.distcp").write_bytes(one * 2)
        places = {
            Thing(fqn="w", offset=(offset,)): Thing(
                relative_path=path, offset=start * len(one), length=len(one)
            )
            for offset, start, path in parts
        }
        whole = Thing(state_dict_metadata={"w": Thing(size=size)}, storage_data=places)
        (self.folder / ".metadata").write_bytes(pickle.dumps(whole, 2))
        with self.assertRaisesRegex(ValueError, text):
            convert.read_folder(self.folder)

    def test_puts_a_tensor_together_only_of_parts_that_are_it(self):
        file = "__0_0.distcp"
        for text, parts, options in [
            ("parts of '__0_0.distcp' share bytes", [(0, 0, file), (4, 0, file)], {"size": (8,)}),
            ("has 4 elements in its parts, expected .8,.", [(0, 0, file)], {"size": (8,)}),
            ("w is not whole: parts", [(0, 0, file), (0, 1, file)], {"size": (8,)}),
            ("has a part of .4,. at .6,.", [(0, 0, file), (6, 1, file)], {"size": (8,)}),
            ("expected a file of the folder", [(0, 0, "../x")], {}),
            ("ends in the middle of w", [(0, 2, file)], {}),
        ]:
            with self.subTest(text):
                self.assert_folder(text, *parts, **options)

    def test_refuses_a_folder_that_is_no_distributed_checkpoint(self):
        with self.assertRaisesRegex(ValueError, "has no .metadata"):
            convert.read_folder(self.folder)
        (self.folder / ".metadata").write_bytes(pickle.dumps({}))
        with self.assertRaisesRegex(ValueError, "is not what torch.distributed.checkpoint writes"):
            convert.read_folder(self.folder)


if __name__ == "__main__":
    unittest.main()
