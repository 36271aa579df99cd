"""`python -m adamw convert`: files of other frameworks into checkpoints, and back."""

from __future__ import annotations

import argparse
import pickle
import textwrap
from dataclasses import replace

import numpy as np

from .._optional import optional
from ..optimizer import AdamW
from . import written
from .built import NEEDED, RULES, described, groups_of, zeros
from .presets import PRESETS, Preset, take_preset
from .sources import SOURCES, Given, found_in

TARGETS = ("torch", "paddle")
HELP = """
Makes a checkpoint of what another library has saved of its AdamW, or, with --to, a file for another
library of a checkpoint. None of the libraries is needed. What a file does not say has to be given;
what it says otherwise is an error.
"""
OTHERS = """
Others: write their moments as state.<param>.exp_avg, .exp_avg_sq and .step into a safetensors file,
which is taken as of distributed, with the --preset of the library, or with what --corrected,
--counts and --rule say of it.
"""


def names_in(path: str | None) -> list[str] | None:
    """Returns the lines of a file that are not empty."""
    if path is None:
        return None
    with open(path, encoding="utf-8") as file:
        return [line.strip() for line in file if line.strip()]


def preset_of(name: str, args: argparse.Namespace) -> Preset:
    """Returns what the moments of a file are: what was given, or else what its library does."""
    preset = PRESETS.get(args.preset or name, PRESETS["torch"])
    knobs = {"corrected": args.corrected, "max_corrected": args.max_corrected}
    knobs["counts"] = args.counts
    if args.rule is not None:
        rule = dict.fromkeys(set(args.rule) - {"usual", "uncorrected"}, True)
        knobs["rule"] = rule | ({"bias_corrected": False} if "uncorrected" in args.rule else {})
    return replace(preset, **{key: value for key, value in knobs.items() if value is not None})


def checkpoint(args: argparse.Namespace) -> str:
    """Writes a checkpoint of what another framework has saved; returns what to print."""
    given = {key: getattr(args, key) for key in NEEDED if getattr(args, key) is not None}
    beside = Given(names_in(args.names), given.get("betas"), args.ignore, args.calls_per_update)
    name, found = found_in(args.source, args.key, args.whose, beside)
    preset, tensors = preset_of(name, args), described(args.params)
    values = {}
    if name == "deepspeed":  # whose masters are the parameters
        values = {name: param.parts.pop("master") for name, param in found.params.items()}
    if "master" in args.ignore:
        for param in found.params.values():
            param.parts.pop("master", None)
    params = {name: zeros(name, found, tensors) for name in found.params}
    has_masters = any("master" in param.parts for param in found.params.values())
    groups, shared = groups_of(found, params, preset, given, args.ignore)
    if has_masters:
        shared["precision"] = "master"
    with AdamW(groups, **shared) as optimizer:
        take_preset(optimizer, found, preset, {"ignore": args.ignore}, args.calls_per_update)
        for name, value in values.items():
            params[name].reshape(-1)[:] = value
        saved = optimizer.save(args.target, params=bool(values))
    return f"{args.target}: {len(params)} params of {name}, {saved.num_bytes} bytes"


def shapes_of(args: argparse.Namespace) -> dict[str, tuple[int, ...]]:
    """Returns the shapes of the parameters, which a checkpoint has not."""
    if args.params is None:
        raise ValueError("a checkpoint has no shapes: give the model's parameters by --params FILE")
    return {name: tensor.shape for name, tensor in described(args.params).items()}


def to_torch(args: argparse.Namespace) -> str:
    """Writes a checkpoint as `torch.save` would; returns what to print."""
    torch = optional("torch")
    if torch is None:
        raise ValueError("--to torch writes with torch, which is not installed")
    if args.names is None:
        raise ValueError(
            "PyTorch numbers its parameters: give their names by --names FILE, one a line, in its "
            "order, with an empty line between groups"
        )
    with open(args.names, encoding="utf-8") as file:
        groups = [part.split("\n") for part in file.read().strip().split("\n\n")]
    state = written.to_torch(args.source, groups, shapes_of(args))
    for number, parts in state["state"].items():
        tensors = {part: torch.tensor(np.array(values)) for part, values in parts.items()}
        state["state"][number] = tensors
    torch.save(state, args.target)
    return f"{args.target}: {len(state['state'])} params"


def to_paddle(args: argparse.Namespace) -> str:
    """Writes a checkpoint as `paddle.save` would; returns what to print."""
    shapes = shapes_of(args)
    with open(args.target, "wb") as file:
        pickle.dump(written.to_paddle(args.source, shapes), file, protocol=4)
    return f"{args.target}: {len(shapes)} params"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of the command."""
    width = max(map(len, SOURCES)) + 2
    listed = [f"  {name:{width}}{source.written_by}" for name, source in SOURCES.items()]
    parser.description = HELP
    parser.epilog = "\n".join(["sources:", *listed, "", *textwrap.wrap(OTHERS, 98)])
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("source", help="the file or folder to read")
    parser.add_argument("target", help="the file to write")
    ways = parser.add_mutually_exclusive_group()
    ways.add_argument(
        "--from",
        dest="whose",
        choices=SOURCES,
        metavar="NAME",
        help="whose file it has to be, which is seen in the file",
    )
    ways.add_argument("--to", choices=TARGETS, help="for whom to write, out of a checkpoint")
    parser.add_argument("--key", help="the entry of a file of torch.save that has the state_dict")
    parser.add_argument(
        "--names", metavar="FILE", help="the names of parameters that a file numbers, one a line"
    )
    parser.add_argument(
        "--params", metavar="FILE", help="a safetensors file with the model's parameters"
    )
    beside = parser.add_argument_group("settings of the run, where the file does not have them")
    beside.add_argument("--lr", type=float)
    beside.add_argument("--betas", type=float, nargs=2, metavar=("BETA1", "BETA2"))
    beside.add_argument("--eps", type=float)
    beside.add_argument("--weight-decay", type=float)
    parser.add_argument(
        "--ignore",
        nargs="+",
        default=(),
        metavar="WHAT",
        help="settings or parts of the state that are not taken over, such as eps_floor",
    )
    knobs = parser.add_argument_group(
        "what no file says, where it is otherwise than in the files of that library"
    )
    knobs.add_argument("--preset", choices=PRESETS, metavar="NAME", help=", ".join(PRESETS))
    yes_or_no = argparse.BooleanOptionalAction
    knobs.add_argument("--corrected", action=yes_or_no, help="moments are divided by 1 - beta^t")
    knobs.add_argument("--max-corrected", action=yes_or_no, help="so are the largest squares")
    knobs.add_argument(
        "--counts",
        choices=("updates", "calls", "beta2"),
        help="what the step counts; beta2: it is the power of beta2 that has been reached",
    )
    knobs.add_argument(
        "--calls-per-update",
        type=int,
        default=1,
        metavar="N",
        help="how many calls accumulate gradients for an update, where calls are counted",
    )
    knobs.add_argument(
        "--rule",
        nargs="+",
        choices=("usual", "uncorrected", *RULES),
        metavar="WHAT",
        help="in what the update is not the usual one: " + ", ".join(("uncorrected", *RULES)),
    )


def run(args: argparse.Namespace) -> str:
    """Converts, and returns what to print."""
    if args.betas is not None:
        args.betas = tuple(args.betas)
    if args.to is None:
        return checkpoint(args)
    return to_torch(args) if args.to == "torch" else to_paddle(args)
