"""Prints include/adamw.h as Doxygen takes it.

Sections become groups, a type and its constants one part of them, and names of the header links.

usage: filter.py adamw.h
"""

import re
import sys

import header


NAME = re.compile(r"\bADAMW_\w+|\badamw_\w+")


def linked(lines, names, own=""):
    """Returns lines with links where they name something of the header, unless they are code."""

    def link(match):
        name = match[0]
        return f'@ref {name} "{name}"' if name in names and name != own else name

    def in_backticks(match):  # where there are no links
        return f"<tt>{match[1]}</tt>" if "@ref" in match[1] else match[0]

    text = "\n".join(line if line.startswith("    ") else NAME.sub(link, line) for line in lines)
    text = re.sub(r"`([^`]*)`", in_backticks, text)
    return text.replace("The caller ensures:", "@par The caller ensures")


def paragraphs(lines, names):
    """Returns lines as `linked` does, with the first word in bold where it stands for a title."""
    return linked([re.sub(r"^([A-Z]\w+)\. ", r"<b>\1.</b> ", line) for line in lines], names)


def overview(lines, names):
    """Yields the lines of the first comment, as a page."""
    title = ""
    for line in lines:
        if header.is_title(line):
            title = line.split(",")[0]
            yield f"## {line.capitalize()}"
        elif line.startswith("  ") and title == "FUNCTIONS":
            begins, functions = re.fullmatch(r"  ([A-Z][\w -]*: )?(.*)", line).groups()
            functions = re.sub(r"\w+", r'@ref adamw_\g<0> "\g<0>"', functions)
            yield f"- {begins}{functions}" if begins else f"  {functions}"
        elif line.startswith("  "):
            yield f"  {line}"
        elif not line.startswith("Generated from"):
            yield paragraphs([line], names)


def show_comment(text):
    """Prints a comment, unless it says nothing. Lists show its first sentence."""
    if text:
        first, _, rest = text.partition("\n\n")
        sentence, more = re.fullmatch(r"(.*?(?:\.(?=\s)|$))\s*(.*)", first, re.DOTALL).groups()
        parts = [part for part in (f"@brief {sentence}", more, rest) if part]
        print("/** " + "\n\n".join(parts) + " */")


def show(declaration, names):
    """Prints a declaration."""
    text = linked(declaration.comment, names, declaration.name)
    if declaration.kind == "enumeration":
        print(f"/** @name {declaration.name}\n @{{ */")
        show_comment(text)
        print(declaration.code.split("\n")[0])
        for member in declaration.members:
            show_comment(linked(member.comment, names, member.name))
            print(f"#define {member.name} {member.what}")
        print("/** @} */")
    elif declaration.kind == "struct":
        show_comment(text)
        print(f"typedef struct {declaration.name} {{")
        for member in declaration.members:
            show_comment(linked(member.comment, names))
            print(f"{member.what} {member.name};")
        print(f"}} {declaration.name};")
    else:
        show_comment(text)
        print(declaration.code)


def main(path):
    """Prints the header."""
    conventions, sections = header.read(path)
    declarations = [declaration for section in sections for declaration in section.declarations]
    names = {declaration.name for declaration in declarations}
    names |= {m.name for d in declarations if d.kind == "enumeration" for m in d.members}
    guide = '<a href="../README.html">The guide</a> tells how all this is used.'
    print("/** @mainpage", guide, *overview(conventions, names), "*/", sep="\n")
    for section in sections:
        group = re.sub(r"\W+", "_", section.title.lower())
        introduction = paragraphs(section.introduction, names)
        print(f"/** @defgroup {group} {section.title}\n{introduction}\n@{{ */")
        for declaration in section.declarations:
            show(declaration, names)
        print("/** @} */")


if __name__ == "__main__":
    main(sys.argv[1])
