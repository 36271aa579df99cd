"""The commands of `python -m adamw`: `convert` and `inspect`."""

from __future__ import annotations

import argparse
import pickle
import sys

from . import AdamWError, __version__, inspect
from .convert import command


def lines(path: str) -> str:
    """Returns the entries of a checkpoint, one a line."""
    shown = []
    for entry in inspect(path):
        what = entry.text if entry.dtype is None else f"{entry.dtype} [{entry.n_elements}]"
        value = "" if entry.value is None else f" {entry.value:.17g}"
        shown.append(f"{entry.name}: {what}{value}")
    return "\n".join(shown)


def main() -> None:
    """Runs a command; what goes wrong is the last line of the errors."""
    parser = argparse.ArgumentParser("python -m adamw", description="Checkpoints of libadamw.")
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(dest="command", required=True)
    convert = commands.add_parser(
        "convert", help="state of other frameworks to and from checkpoints"
    )
    command.add_arguments(convert)
    commands.add_parser("inspect", help="what is in a checkpoint").add_argument("path")
    args = parser.parse_args()
    try:
        print(lines(args.path) if args.command == "inspect" else command.run(args))
    except KeyError as error:
        sys.exit(f"{parser.prog}: {args.source} has no {error}")
    except (AdamWError, OSError, ValueError, pickle.UnpicklingError) as error:
        sys.exit(f"{parser.prog}: {error}")


if __name__ == "__main__":
    main()
