"""Writes man pages of include/adamw.h: adamw(7), and one in section 3 for each function and type.

usage: man.py adamw.h VERSION FOLDER
"""

import os
import pathlib
import re
import sys
import time

import header

DATE = time.strftime("%Y-%m-%d", time.gmtime(int(os.environ.get("SOURCE_DATE_EPOCH", time.time()))))
STATUS = (
    "`ADAMW_STATUS_OK`, which is 0, or the `adamw_status` that says why the call has failed. "
    "`adamw_last_error` then returns the text of the failure."
)
STRING = "A string that belongs to the library."
NAME = re.compile(r"`([^`]*)`|\b((?:adamw|ADAMW)_\w+)")


def plain(text):
    """Returns text that roff shows as it stands."""
    return text.replace("\\", "\\e").replace("^", "\\(ha").replace("~", "\\(ti")


def code(lines):
    """Returns lines as they stand."""
    lines = [plain(line.removeprefix("    ")).replace("-", "\\-") for line in lines]
    return "\n".join([".EX", *lines, ".EE"])


def filled(text):
    """Returns a paragraph, with names and code in bold."""
    text = plain(text.replace("\n", " "))
    text = NAME.sub(lambda match: rf"\fB\%{match[1] or match[2]}\fR", text)
    return re.sub(r"^(?=[.'])", r"\\&", text)


def body(lines, between=".PP"):
    """Returns the paragraphs of a comment."""
    texts = "\n".join(lines).strip("\n").split("\n\n")
    shown = [code(text.split("\n")) if text.startswith("  ") else filled(text) for text in texts]
    return f"\n{between}\n".join(shown)


class Pages:
    """The pages of one header."""

    def __init__(self, path, version):
        self.conventions, self.sections = header.read(path)
        self.version = version
        self.declarations = [one for section in self.sections for one in section.declarations]
        # The page on which each name is described.
        self.at = {one.name: one.name for one in self.declarations}
        for one in self.declarations:
            if one.kind == "enumeration":
                self.at |= {member.name: one.name for member in one.members}

    def page(self, name, section, summary, parts):
        """Returns a page of titles with their texts."""
        start = f'.TH {name.upper()} {section} {DATE} "libadamw {self.version}" "libadamw"\n.ad l\n'
        parts = {"NAME": f"{name} \\- {filled(summary)}"} | parts
        return start + "".join(f".SH {title}\n{text}\n" for title, text in parts.items() if text)

    def see_also(self, own):
        """Returns the pages of what a declaration names, and of what has one of its type."""
        text = "\n".join([*own.comment, own.code])
        names = {self.at.get(name) for name in re.findall(r"\b(?:adamw|ADAMW)_\w+", text)}
        field = re.compile(rf"^  .*\b{own.name}\b.*[;,)]", re.M)
        names |= {one.name for one in self.declarations if field.search(one.code)}
        others = sorted(names - {own.name, None})
        return ",\n".join([f".BR \\%{name} (3)" for name in others] + [".BR adamw (7)"])

    def of(self, declaration):
        """Returns the page of a function or type."""
        comment = "\n".join(declaration.comment)
        sentence = re.match(r"(.*?)(?:\.\s|[.:]?\n\n|\.?$)", comment, re.DOTALL)[1]
        description, _, ensured = comment.partition("The caller ensures:\n")
        lines = declaration.code.split("\n")
        lines = [line for line in lines if not line.lstrip().startswith("///")]
        parts = {
            "SYNOPSIS": code(["#include <adamw.h>", "", *lines]),
            "DESCRIPTION": body(description.split("\n")),
        }
        if declaration.members:
            title = "CONSTANTS" if declaration.kind == "enumeration" else "FIELDS"
            members = declaration.members
            parts[title] = "\n".join(f".TP\n.B {m.name}\n{body(m.comment, '.IP')}" for m in members)
        if declaration.kind == "function":
            returns_status = declaration.code.startswith("adamw_status")
            parts["RETURN VALUE"] = filled(STATUS if returns_status else STRING)
        parts["THE CALLER ENSURES"] = body(ensured.split("\n"))
        parts["SEE ALSO"] = self.see_also(declaration)
        return self.page(declaration.name, 3, sentence[0].lower() + sentence[1:], parts)

    def overview(self):
        """Returns the page about the library: its conventions, and what the header declares."""
        first, _, *paragraphs = "\n".join(self.conventions).strip().split("\n\n")
        parts, title = {}, ""
        for paragraph in paragraphs:
            if header.is_title(paragraph):
                title = paragraph.split(",")[0]
            elif title == "FUNCTIONS":
                parts[title] = "\n".join(map(self.index, self.sections))
            elif paragraph.startswith("  "):
                parts[title] = code(paragraph.split("\n"))
            else:
                parts[title] = parts.get(title, "") + f"\n.PP\n{filled(paragraph)}"
        for section in self.sections:
            parts[section.title.upper()] = body(section.introduction)
        parts = {title: text.removeprefix("\n.PP\n") for title, text in parts.items()}
        return self.page("adamw", 7, first.split(": ")[1].rstrip("."), parts)

    def index(self, section):
        """Returns the names of a section."""
        pages = ",\n".join(f".BR \\%{one.name} (3)" for one in section.declarations)
        return f".TP\n.B {section.title}\n{pages}"


def main(path, version, folder):
    """Writes the pages."""
    pages = Pages(path, version)
    shown = {f"man3/{one.name}.3": pages.of(one) for one in pages.declarations}
    shown["man7/adamw.7"] = pages.overview()
    for name, text in shown.items():
        file = pathlib.Path(folder) / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)


if __name__ == "__main__":
    main(*sys.argv[1:])
