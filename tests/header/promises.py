"""Keeps tests/header/promises.c: what programs rely on that were compiled with include/adamw.h.

usage: promises.py [--check | --break]

Lines are added for what the header has got. A line that would change or go is an error, unless
--break says that this is wanted. --check writes nothing, and fails where there is something to write.
"""

import pathlib
import re
import sys

HERE = pathlib.Path(__file__).resolve().parent
HEADER = HERE.parent.parent / "include" / "adamw.h"
PROMISES = HERE / "promises.c"

START = """\
/* What programs rely on that were compiled with adamw.h: the number of each constant, the place and the type of each field, how
 * structs are aligned, what each name of a type and each callback stands for, and that each function is exported and has its type.
 * Parameters have their names, so that none change places. Kept by tests/header/promises.py. */
#include <adamw.h>

#define IS(value, ...) _Generic(value, __VA_ARGS__ : 1, default : 0)
#define TYPE(name, number) _Static_assert(IS((name)0, number), #name);
#define HANDLE(name) _Static_assert(IS((name *)0, struct name *), #name);
#define CONSTANT(name, number) _Static_assert(name == number, #name);
#define FIELD(struct, field, at, ...) \\
  _Static_assert(offsetof(struct, field) == at, #struct "." #field); \\
  _Static_assert(IS(((struct *)0)->field, __VA_ARGS__), #struct "." #field);
#define SIZE(struct, size) _Static_assert(sizeof(struct) == size, #struct);
#define ALIGNED(struct, to) _Static_assert(_Alignof(struct) == to, #struct);
#define CALLBACK(name, ...) _Static_assert(IS((name)0, __VA_ARGS__), #name);
#define FUNCTION(name, ...) \\
  _Static_assert(IS(&name, __VA_ARGS__), #name); \\
  extern void (*const from_##name)(void); \\
  void (*const from_##name)(void) = (void (*)(void))name;

"""

BROKEN = """\
These lines of tests/header/promises.c no longer hold, so programs that were compiled with the header break:

{lines}

libadamw.so.0 runs every program of its past. Keep what these lines say, and add a function, a constant, or a field at the end of
a struct. If the break is wanted (before the first release, or for a new SONAME, which build.rs sets):
python3 tests/header/promises.py --break, and a line in CHANGELOG.md."""

STALE = "tests/header/promises.c lacks what the header has got: `make header` adds it"

SIZES = {"uint8_t": 1, "uint16_t": 2, "int32_t": 4, "uint32_t": 4, "float": 4}  # the others have 8
ALIGNMENTS = {"adamw_device": 4, "adamw_data_type": 2}  # the other structs have 8
# The library alone allocates it, so that it may grow like those that begin with their size.
GROWS = "adamw_entry"

DEFINITION = re.compile(
    r"#define (?P<constant>(?!ADAMW_VERSION)ADAMW_\w+) (?P<number>\d+)"
    r"|\b(?P<status>ADAMW_STATUS_\w+) = (?P<value>\d+)"
    r"|typedef (?P<type>\w+) (?P<alias>\w+);"
    r"|typedef struct (?P<handle>\w+) (?P=handle);"
    r"|typedef struct (?P<struct>\w+) \{(?P<fields>.*?)\}"
    r"|typedef (?P<result>\w+) \(\*(?P<callback>\w+)\)\((?P<taken>[^)]*)\);"
    r"|^(?P<returned>\w[\w ]*?[ *]+)(?P<function>adamw_\w+)\((?P<parameters>[^)]*)\);",
    re.DOTALL | re.MULTILINE,
)


def plain(text):
    """Returns a type as one would write it, without the word struct."""
    return re.sub(r"\s+", " ", re.sub(r"\bstruct\b", "", text)).strip()


def promises(header):
    """Returns one line for each thing that the header promises."""
    sizes = dict(SIZES)
    code = re.sub(r"/\*.*?\*/|//[^\n]*", "", header, flags=re.DOTALL)
    for part in (match.groupdict() for match in DEFINITION.finditer(code)):
        if part["constant"] or part["status"]:
            name, number = part["constant"] or part["status"], part["number"] or part["value"]
            yield f"CONSTANT({name}, {number})"
        elif part["alias"]:
            sizes[part["alias"]] = sizes.get(part["type"], 8)
            yield f"TYPE({part['alias']}, {part['type']})"
        elif part["handle"]:
            yield f"HANDLE({part['handle']})"
        elif part["struct"]:
            end, struct = 0, part["struct"]
            fields = re.findall(r"([^;]*?)(\w+);", part["fields"])
            for declared, field in fields:  # one behind the other: structs have no holes
                if not field.startswith("reserved"):
                    yield f"FIELD({struct}, {field}, {end}, {plain(declared)})"
                end += sizes.get(plain(declared), 8)
            sizes[struct] = end
            yield f"ALIGNED({struct}, {ALIGNMENTS.get(struct, 8)})"
            if fields[0][1] != "struct_size" and struct != GROWS:
                yield f"SIZE({struct}, {end})"
        elif part["callback"]:
            yield f"CALLBACK({part['callback']}, {part['result']} (*)({plain(part['taken'])}))"
        else:
            result = plain(part["returned"])
            yield f"FUNCTION({part['function']}, {result} (*)({plain(part['parameters'])}))"


def kept():
    """Returns the lines that were kept."""
    return PROMISES.read_text().split("\n\n")[-1].splitlines() if PROMISES.exists() else []


def main():
    """Keeps the file as the first comment says; the exit status says whether it holds."""
    now = list(promises(HEADER.read_text()))
    broken = [line for line in kept() if line not in now]
    if broken and sys.argv[1:] != ["--break"]:
        sys.exit(BROKEN.format(lines="\n".join(broken)))
    if sys.argv[1:] != ["--check"]:
        PROMISES.write_text(START + "\n".join(now) + "\n")
    elif kept() != now:
        sys.exit(STALE)


if __name__ == "__main__":
    main()
