"""Writes python/src/adamw/_abi.py and include/adamw.cffi.h from include/adamw.h, or with --check says
whether they are current.

usage: generate_abi.py [--check]
"""

import pathlib
import re
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
HEADER = ROOT / "include" / "adamw.h"
ABI = ROOT / "python" / "src" / "adamw" / "_abi.py"
CFFI = ROOT / "include" / "adamw.cffi.h"

WIDTH = 100

# The numbers of C, as ctypes names them and as Python's type checkers see them.
NUMBERS = {
    "double": ("c_double", "float"),
    "float": ("c_float", "float"),
    "int32_t": ("c_int32", "int"),
    "int64_t": ("c_int64", "int"),
    "uint8_t": ("c_uint8", "int"),
    "uint16_t": ("c_uint16", "int"),
    "uint32_t": ("c_uint32", "int"),
    "uint64_t": ("c_uint64", "int"),
    "size_t": ("c_size_t", "int"),
}

START = '''"""The C interface for ctypes: its constants, structs and prototypes, without the prefix.

Generated from include/adamw.h, which says what each means, by python/generate_abi.py: do not edit.
"""

from __future__ import annotations

import ctypes
from ctypes import (
    CFUNCTYPE,
    POINTER,
    c_char_p,
    c_double,
    c_float,
    c_int32,
    c_int64,
    c_size_t,
    c_uint8,
    c_uint16,
    c_uint32,
    c_uint64,
    c_void_p,
)
from typing import Any
'''

END = '''

def declare(library: ctypes.CDLL) -> ctypes.CDLL:
    """Returns the library with the types of its functions set."""
    for name, (result, arguments) in PROTOTYPES.items():
        function = getattr(library, name)
        function.restype, function.argtypes = result, arguments
    return library
'''


def class_name(name):
    """Returns the name in Python of a struct or callback: `ParamConfig` of `adamw_param_config`."""
    return "".join(word.capitalize() for word in name.removeprefix("adamw_").split("_"))


class Types:
    """The types that the header has defined so far."""

    def __init__(self):
        self.numbers, self.structs, self.callbacks, self.opaque = dict(NUMBERS), set(), set(), set()

    def of(self, declared):
        """Returns a type of C as one of ctypes, and as Python's type checkers see it."""
        declared = re.sub(r"\b(const|struct)\b", " ", declared)
        base, stars = declared.replace("*", " ").strip(), declared.count("*")
        if stars and base in self.opaque | {"void"}:
            base, stars = "void", stars - 1
            python = ("c_void_p", "int | None")
        elif stars and base == "char":
            stars, python = stars - 1, ("c_char_p", "bytes | None")
        elif base in self.numbers:
            python = self.numbers[base]
        elif base in self.structs:
            python = (class_name(base), class_name(base))
        elif base in self.callbacks:
            python = (class_name(base), "Any")
        elif base == "void":
            python = ("None", "None")
        else:
            raise ValueError(f"the header uses {declared.strip()!r} before it defines it")
        name, annotation = python
        for _ in range(stars):
            name, annotation = f"POINTER({name})", "Any"
        return name, annotation

    def parameters(self, text):
        """Returns the types of the parameters of a function."""
        if text.strip() == "void":
            return []
        declared = [re.sub(r"\w+\s*$", "", parameter) for parameter in text.split(",")]
        return [self.of(one)[0] for one in declared]


def struct(types, name, body):
    """Returns the lines of a struct. Its fields come after the class, to which they may point."""
    types.structs.add(name)
    fields = []
    for declaration in filter(None, (part.strip() for part in body.split(";"))):
        declared, field = re.fullmatch(r"(.*?)(\w+)", declaration, re.DOTALL).groups()
        fields.append((field, *types.of(declared)))
    own = class_name(name)
    lines = ["", "", f"class {own}(ctypes.Structure):"]
    lines += [f'    """`{name}`"""', "", "    __slots__ = ()"]
    lines += [f"    {field}: {annotation}" for field, _, annotation in fields]
    lines += ["", "", f"{own}._fields_ = ["]
    return lines + [f'    ("{field}", {ctype}),' for field, ctype, _ in fields] + ["]"]


def prototype(name, result, arguments):
    """Returns the lines of a function in the table, none of them too wide."""
    listed = ", ".join(arguments)
    line = f'    "{name}": ({result}, [{listed}]),'
    if len(line) <= WIDTH:
        return [line]
    if len(listed) <= WIDTH - len("        [],"):
        lines = [f"        [{listed}],"]
    else:
        lines = ["        [", *(f"            {argument}," for argument in arguments), "        ],"]
    return [f'    "{name}": (', f"        {result},", *lines, "    ),"]


def statuses(body):
    """Returns the lines of the enumeration of statuses."""
    return [f"{name} = {number}" for name, number in re.findall(r"ADAMW_(\w+) = (\d+)", body)]


DEFINITION = re.compile(
    r"#define ADAMW_(?P<constant>\w+) (?P<value>\d+)"
    r"|enum adamw_status_code \{(?P<statuses>.*?)\};"
    r"|typedef (?P<number>u?int\d+_t) (?P<alias>\w+);"
    r"|typedef struct (?P<opaque>\w+) (?P=opaque);"
    r"|typedef struct (?P<struct>\w+) \{(?P<fields>.*?)\} (?P=struct);"
    r"|typedef (?P<result>\w+) \(\*(?P<callback>\w+)\)\((?P<callback_parameters>[^)]*)\);"
    r"|^(?P<returned>adamw_status|const char \*) ?(?P<function>\w+)\((?P<parameters>[^)]*)\);",
    re.DOTALL | re.MULTILINE,
)


def generated(header):
    """Returns the text of _abi.py for the text of a header."""
    types, lines, prototypes, in_constants = Types(), [START.rstrip()], [], False
    code = re.sub(r"/\*.*?\*/|//[^\n]*", "", header, flags=re.DOTALL)
    for part in (match.groupdict() for match in DEFINITION.finditer(code)):
        is_constant = part["constant"] is not None
        if is_constant:
            lines += ([] if in_constants else [""]) + [f"{part['constant']} = {part['value']}"]
        elif part["statuses"]:
            lines += ["", *statuses(part["statuses"])]
        elif part["alias"]:
            types.numbers[part["alias"]] = NUMBERS[part["number"]]
        elif part["opaque"]:
            types.opaque.add(part["opaque"])
        elif part["struct"]:
            lines += struct(types, part["struct"], part["fields"])
        elif part["callback"]:
            types.callbacks.add(part["callback"])
            result, _ = types.of(part["result"])
            arguments = ", ".join([result, *types.parameters(part["callback_parameters"])])
            lines += ["", f"{class_name(part['callback'])} = CFUNCTYPE({arguments})"]
        else:
            result, _ = types.of(part["returned"])
            prototypes += prototype(part["function"], result, types.parameters(part["parameters"]))
        in_constants = is_constant
    lines += ["", "PROTOTYPES: dict[str, tuple[Any, list[Any]]] = {", *prototypes, "}"]
    return "\n".join(lines) + "\n" + END


def for_cffi(header):
    """Returns what cffi takes of the header: no comment, no directive but numbers, nothing of C++."""
    header = re.sub(r"/\*.*?\*/|//[^\n]*", "", header, flags=re.DOTALL)
    header = re.sub(r"#ifdef __cplusplus.*?#endif", "", header, flags=re.DOTALL)
    header = re.sub(r"#(ifndef|include|endif|define ADAMW_H\b).*", "", header)
    lines = [line.rstrip() for line in header.splitlines() if line.strip()]
    start = "/* include/adamw.h for cffi, without its comments: python/generate_abi.py makes it. */"
    return "\n".join([start, *lines]) + "\n"


def main():
    """Writes or checks the files; the exit status says whether they were current."""
    header = HEADER.read_text()
    for path, text in (ABI, generated(header)), (CFFI, for_cffi(header)):
        if sys.argv[1:] != ["--check"]:
            path.write_text(text)
        elif path.read_text() != text:
            sys.exit(f"{path} is not what {HEADER} gives: `make header` writes it anew")


if __name__ == "__main__":
    main()
