"""What include/adamw.h declares, in its order, with its comments."""

import dataclasses
import pathlib
import re

BANNER = re.compile(r"/\* ---- (.*?) -+ \*/\n")
# What a declaration is, and the name that it gives.
KINDS = {
    "struct": re.compile(r"typedef struct (\w+) \{"),
    "callback": re.compile(r"typedef [\w ]+\(\*(\w+)\)\("),
    "handle": re.compile(r"typedef struct \w+ (\w+);"),
    "enumeration": re.compile(r"typedef \w+ (\w+);"),
    "function": re.compile(r"\w[\w ]*?[ *]+(\w+)\("),
}
# A constant, or a field of a struct.
MEMBER = re.compile(r"(?:#define |(?P<type>[\w *]*?))(?P<name>\w+)(?:;|(?: =)? (?P<number>\d+),?)")
BRACE = re.compile(r"enum \w+ \{|\}")


@dataclasses.dataclass
class Member:
    """A constant with its number, or a field with its type."""

    name: str
    what: str
    comment: list[str]


@dataclasses.dataclass
class Declaration:
    """A function, or a type with its constants or fields."""

    kind: str
    name: str
    comment: list[str]
    code: str
    members: list[Member]


@dataclasses.dataclass
class Section:
    """What stands under one title."""

    title: str
    introduction: list[str]
    declarations: list[Declaration]


def is_title(line):
    """Returns whether a line of the first comment is a title."""
    return re.fullmatch(r"[A-Z][A-Z ]+[A-Z](, .*)?", line)


def comment(lines):
    """Returns the text of comment lines."""
    return [re.sub(r"^\s*/// ?", "", line) for line in lines]


def members(lines):
    """Yields what the lines of a declaration list."""
    above = []
    for line in lines:
        if line.lstrip().startswith("///"):
            above.append(line)
        elif match := MEMBER.fullmatch(line.strip()):
            yield Member(match["name"], match["number"] or match["type"].strip(), comment(above))
            above = []
        elif not BRACE.match(line):
            raise ValueError(f"neither a constant nor a field: {line}")


def declaration(block):
    """Returns what a block of lines without a blank one declares."""
    lines = block.split("\n")
    height = next(at for at, line in enumerate(lines) if not line.startswith("///"))
    code = "\n".join(lines[height:])
    kind, match = next((kind, match) for kind, form in KINDS.items() if (match := form.match(code)))
    inside = list(members(lines[height + 1 :])) if kind in ("struct", "enumeration") else []
    return Declaration(kind, match[1], comment(lines[:height]), code, inside)


def section(title, text):
    """Returns what stands between two banners."""
    blocks = text.split("#ifdef __cplusplus")[0].strip("\n").split("\n\n")
    introduction = []
    if blocks[0].startswith("// "):
        introduction = [re.sub("^// ?", "", line) for line in blocks.pop(0).split("\n")]
    return Section(title, introduction, [declaration(block) for block in blocks])


def read(path):
    """Returns the lines of the first comment, and the sections."""
    first, *parts = BANNER.split(pathlib.Path(path).read_text())
    conventions = [re.sub("^ \\* ?", "", line) for line in first.split("*/")[0].split("\n")[1:]]
    return conventions, [section(*pair) for pair in zip(parts[::2], parts[1::2])]
