"""The guide, for Sphinx: README, docs/ and what stands beside them, as they are, as one book.

Doxygen has run before: names of the header become links into its reference.
"""

import pathlib
import re
import xml.etree.ElementTree as ElementTree

from docutils import nodes
from pygments.lexers import get_lexer_for_filename
from sphinx.util import logging

ROOT = pathlib.Path(__file__).resolve().parents[2]
PROGRAMS = "tools/docs/programs"
PAGES = [f"{PROGRAMS}.md", "tools/docs/reference.md", "tools/docs/cpp.md"]
PROGRAMS_OF = ["examples-c/*.c", "examples-c/*.cpp", "examples/*/[Tt]rain.*"]

project = "libadamw"
version = re.search(r'^version = "(.*)"', (ROOT / "Cargo.toml").read_text(), re.MULTILINE)[1]
html_title = f"libadamw {version}"
html_theme = "furo"
html_copy_source = False
html_extra_path = ["index.html"]
html_static_path = ["book.css"]
html_css_files = ["book.css"]
extensions = ["myst_parser"]
root_doc = "README"
include_patterns = ["*.md", "docs/*.md", "tests/cuda-standin/README.md", *PAGES]
exclude_patterns = ["build", "target", ".*", "docs/gpu.md"]  # tests/gpu/run.sh writes the last
myst_heading_anchors = 4
nitpicky = True


def reference():
    """Returns where the reference has each name."""
    places = {}
    for compound in ElementTree.parse(ROOT / "build/docs/reference.tag").getroot():
        if compound.get("kind") == "struct":
            places[compound.findtext("name")] = compound.findtext("filename")
        for member in compound.findall("member"):
            name, anchor = member.findtext("name"), member.findtext("anchor")
            if member.get("kind") != "variable":
                places.setdefault(name, f"{member.findtext('anchorfile')}#{anchor}")
    return places


def link_names(app, doctree):
    """Links what the header declares to its reference. What no header declares is an error."""
    of_mpi = set(re.findall(r"adamw_mpi\w*", (ROOT / "include/adamw_mpi.h").read_text()))
    up = "../" * app.env.docname.count("/")
    for name in list(doctree.findall(nodes.literal)):
        text = name.astext()
        if place := app.reference.get(text):
            uri = f"{up}reference/{place}"
            name.replace_self(nodes.reference("", "", name.deepcopy(), refuri=uri))
        elif text in of_mpi or text == "adamw_checkpoint":  # a name in files
            continue
        elif re.fullmatch(r"adamw_\w+", text):
            logging.getLogger(__name__).warning("no header has %s", text, location=name)


def complete(app, docname, source):
    """Adds the contents to the README, and the programs to their page, where their folders are."""
    if docname == root_doc:
        source[0] += "\n" + (ROOT / "tools/docs/contents.md").read_text()
    if docname == PROGRAMS:
        paths = [path for form in PROGRAMS_OF for path in sorted(ROOT.glob(form))]
        source[0] += "".join(map(program, paths))
    up = "../" * docname.count("/")
    source[0] = re.sub(r"\]\((\.\./)*examples(-c)?\)", f"]({up}{PROGRAMS}.md)", source[0])


def program(path):
    """Returns a program under its name."""
    name = path.relative_to(ROOT)
    language = get_lexer_for_filename(path.name, path.read_text()).aliases[0]
    return f"\n## {name}\n\n```{{literalinclude}} ../../{name}\n:language: {language}\n```\n"


def setup(app):
    """Called by Sphinx."""
    app.reference = reference()
    app.connect("source-read", complete)
    app.connect("doctree-read", link_names)
