"""Makes C++ of the kernels, for a processor: assembly becomes calls, and shared memory that of the block.

usage: translate.py <compiler> <kernels.cu> <out.cpp>
"""

import re
import subprocess
import sys

TYPES = {"f32": "float", "f64": "double"}
TYPES |= {f"{letter}{bits}": f"uint{bits}_t" for letter in "ub" for bits in (8, 16, 32, 64)}
LITERAL = re.compile(r'"((?:[^"\\]|\\.)*)"')


def closing(text, start):
    """Returns where the parenthesis ends that opens at `start`."""
    depth, quoted = 0, False
    for at in range(start, len(text)):
        if text[at] == '"':
            quoted = not quoted
        if not quoted:
            depth += {"(": 1, ")": -1}.get(text[at], 0)
            if depth == 0:
                return at
    sys.exit("a parenthesis that is not closed")


def split(text, separator):
    """Cuts at separators outside of quotes, parentheses and brackets."""
    parts, depth, quoted = [""], 0, False
    for letter in text:
        quoted ^= letter == '"'
        depth += 0 if quoted else {"(": 1, "[": 1, ")": -1, "]": -1}.get(letter, 0)
        if letter == separator and depth == 0 and not quoted:
            parts.append("")
        else:
            parts[-1] += letter
    return [part.strip() for part in parts]


def operands(text):
    """Returns the expressions of `"constraint"(expression)`, one after the other."""
    return [part[part.index("(") : closing(part, part.index("(")) + 1] for part in split(text, ",") if part]


def call(text):
    """Returns the C++ of what stands within asm(...)."""
    sections = [*split(text.replace("::", ": :"), ":"), "", ""]
    code = "".join(LITERAL.findall(sections[0])).strip().rstrip(";")
    values = operands(sections[1]) + operands(sections[2])
    operation, _, arguments = code.partition(" ")
    words = operation.split(".")
    args = [values[int(n)] for n in re.findall(r"%(\d+)", arguments)]
    if words[:2] == ["ld", "global"] or words[:2] == ["st", "global"]:
        kind = TYPES[words[-1]]
        loads = words[0] == "ld"
        address, data = (args[-1], args[:-1]) if loads else (args[0], args[1:])
        lines = [f"const uint64_t accessed = access({address}, {len(data)} * sizeof({kind}));"]
        for i, value in enumerate(data):
            place = f"(({kind} *)accessed)[{i}]"
            lines.append(f"{value} = {place};" if loads else f"{place} = ({kind}){value};")
        return "do { " + " ".join(lines) + " } while (0)"
    if words == ["atom", "global", "exch", "b64"]:
        return f"{args[0]} = exchange({args[1]}, {args[2]})"
    if words == ["cvt", "f32", "f16"]:
        return f"{args[0]} = widened_f16({args[1]})"
    if words == ["cvt", "rn", "f16", "f32"]:
        return f"{args[0]} = narrowed_f16({args[1]})"
    sys.exit(f"what does this do? {code}")


def without_assembly(source):
    out, rest = "", source
    while found := re.search(r"\basm\b(\s+volatile)?\s*\(", rest):
        end = closing(rest, found.end() - 1)
        out += rest[: found.start()] + call(rest[found.end() : end])
        rest = rest[end + 1 :]
    return out + rest


def without_shared(source):
    """Finds arrays that threads of a block share in the block's memory."""
    number = 0

    def array(declared):
        nonlocal number
        lines = ""
        for name, size in re.findall(r"(\w+)\[([^\]]*)\]", declared[2]):
            lines += f"static const Shared<{declared[1]}, {size}, {number}> {name};"
            number += 1
        return lines

    return re.sub(r"__shared__\s+(\w+)\s+([^;]+);", array, source)


def with_offsets(source):
    """Asks for the place of a field as C++ compilers on hosts let it be asked."""
    return re.sub(r"\(u64\) & \(\((\w+) \*\)0\)->([\w.\[\]]+) ==", r"offsetof(\1, \2) ==", source)


compiler, path, out = sys.argv[1:]
flags = ["-E", "-P", "-x", "c++", "-std=c++17"]
expanded = subprocess.run([compiler, *flags, path], check=True, capture_output=True, text=True).stdout
names = re.findall(r'extern "C" __global__ void __launch_bounds__\(256, 2\)\s+(\w+)\(', expanded)
lines = [f'  kernel("{name}", {name}),' for name in names]
with open(out, "w") as file:
    file.write('#include "kernel.h"\n')
    file.write(with_offsets(without_shared(without_assembly(expanded))))
    file.write("\nconst Kernel kernels[] = {\n" + "\n".join(lines) + "\n};\n")
    file.write(f"const size_t num_kernels = {len(names)};\n")
