"""`adamw._abi` and adamw.cffi.h are what the header gives now, and what a C compiler makes of the header.

environment: CC
"""

import ctypes
import os
import pathlib
import subprocess
import sys
import tempfile
import unittest

import case  # noqa: F401  (what the package needs)

from adamw import _abi

ROOT = pathlib.Path(__file__).resolve().parents[3]

STRUCTS = {
    value.__doc__.strip("`"): value
    for value in vars(_abi).values()
    if isinstance(value, type) and issubclass(value, ctypes.Structure)
}
CONSTANTS = {name: value for name, value in vars(_abi).items() if isinstance(value, int)}


def compiled(*arguments):
    """Returns what the C compiler says of a program that includes the header."""
    command = [os.environ.get("CC", "cc"), "-Wall", "-Wconversion", "-Werror", *arguments]
    return subprocess.run([*command, f"-I{ROOT}/include"], capture_output=True, text=True)


def printed(program):
    """Returns the words that a C program prints, in pairs."""
    with tempfile.TemporaryDirectory() as folder:
        source = pathlib.Path(folder, "abi.c")
        source.write_text(f"#include <adamw.h>\n#include <stdio.h>\nint main(void) {{ {program} }}")
        done = compiled(source, "-o", f"{folder}/abi")
        assert done.returncode == 0, done.stderr
        words = subprocess.run([f"{folder}/abi"], capture_output=True, text=True, check=True).stdout
    words = words.split()
    return dict(zip(words[::2], map(int, words[1::2])))


class Abi(unittest.TestCase):
    def test_is_what_the_header_gives_now(self):
        script = ROOT / "python" / "generate_abi.py"
        done = subprocess.run([sys.executable, script, "--check"], capture_output=True, text=True)
        self.assertEqual(done.returncode, 0, done.stderr)

    def test_has_the_sizes_and_offsets_of_c(self):
        ours, program = {}, ""
        for name, struct in STRUCTS.items():
            ours[name] = ctypes.sizeof(struct)
            program += f'printf("{name} %zu\\n", sizeof({name}));'
            for field, *_ in struct._fields_:
                at = getattr(struct, field)
                ours[f"{name}.{field}"], ours[f"sizeof({name}.{field})"] = at.offset, at.size
                program += f'printf("{name}.{field} %zu\\n", offsetof({name}, {field}));'
                size = f"sizeof((({name} *)0)->{field})"
                program += f'printf("sizeof({name}.{field}) %zu\\n", {size});'
        self.assertEqual(ours, printed(program))
        self.assertGreater(len(STRUCTS), 20)

    def test_has_the_numbers_of_c(self):
        program = "".join(f'printf("{name} %d\\n", ADAMW_{name});' for name in CONSTANTS)
        self.assertEqual(CONSTANTS, printed(program))
        self.assertGreater(len(CONSTANTS), 100)

    def test_has_the_parameters_of_c(self):
        numbers = {
            ctypes.c_double: "double",
            ctypes.c_int32: "int32_t",
            ctypes.c_uint32: "uint32_t",
            ctypes.c_uint64: "uint64_t",
        }
        lines = []
        for name, (_, types) in _abi.PROTOTYPES.items():
            arguments = ", ".join(f"({numbers.get(ctype, 'void *')})0" for ctype in types)
            lines.append(f"  (void){name}({arguments});")
        with tempfile.NamedTemporaryFile("w", suffix=".c") as source:
            calls = "\n".join(lines)
            source.write(
                f"#include <adamw.h>\nvoid calls(void);\nvoid calls(void) {{\n{calls}\n}}\n"
            )
            source.flush()
            done = compiled(source.name, "-fsyntax-only")
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertGreater(len(lines), 60)

    def test_refuses_a_field_that_a_struct_has_not(self):
        with self.assertRaises(AttributeError):
            _abi.Config(learning_rate=1.0)


if __name__ == "__main__":
    unittest.main()
