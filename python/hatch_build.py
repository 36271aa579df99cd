"""Builds the library with cargo, and walker.c of adamw.torch, and puts both into the wheel.

If ziglang is installed where the wheel is built, the library is linked against a glibc of 2014, so
that the wheel runs on every Linux since; otherwise against that of this machine.
"""

import importlib.util
import os
import pathlib
import platform
import subprocess
import sys
import tempfile

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

GLIBC = "2.17"
# Only the C interface is seen, and threads keep the library mapped, as build.rs says.
EXPORTS = "{ global: adamw_*; local: *; };\n"
SYSTEM = ["-lpthread", "-ldl", "-lm", "-lgcc_s"]


class CustomBuildHook(BuildHookInterface):
    """Adds the library to the wheel, whose name says where it runs."""

    def initialize(self, version, build_data):
        """Builds the library, and places it beside the modules of the package."""
        repository = pathlib.Path(self.root).parent
        self.folder = tempfile.TemporaryDirectory()
        library = pathlib.Path(self.folder.name, "libadamw.so")
        machine, has_zig = platform.machine(), importlib.util.find_spec("ziglang") is not None
        zig = [sys.executable, "-m", "ziglang", "cc", "-target", f"{machine}-linux-gnu.{GLIBC}"]
        compiler = zig if has_zig else [os.environ.get("CC", "cc")]
        link(archive(repository), library, compiler)
        walker = pathlib.Path(self.folder.name, "walker.so")
        source = pathlib.Path(self.root, "src", "adamw", "torch", "walker.c")
        subprocess.run([*compiler, "-O2", "-shared", "-fPIC", "-s", "-o", walker, source], check=True)
        system = f"manylinux_{GLIBC.replace('.', '_')}" if has_zig else "linux"
        build_data["tag"] = f"py3-none-{system}_{machine}"
        build_data["pure_python"] = False
        build_data["force_include"][str(library)] = "adamw/libadamw.so"
        build_data["force_include"][str(walker)] = "adamw/torch/walker.so"

    def finalize(self, version, build_data, artifact_path):
        """Removes what was built beside the wheel."""
        self.folder.cleanup()


def archive(repository):
    """Returns the path of the static library, which cargo builds."""
    if not (repository / "Cargo.toml").exists():
        raise SystemExit(f"there is no {repository}/Cargo.toml: build from a checkout of libadamw")
    command = ["cargo", "build", "--release", "--locked", "--lib"]
    try:
        subprocess.run(command, cwd=repository, check=True)
    except FileNotFoundError:
        raise SystemExit("cargo is missing: install Rust, or a wheel, which needs none") from None
    target = pathlib.Path(repository, os.environ.get("CARGO_TARGET_DIR", "target"))
    return target / "release" / "libadamw.a"


def link(static, shared, compiler):
    """Links a shared library without debug information."""
    with tempfile.NamedTemporaryFile("w", suffix=".map") as exports:
        exports.write(EXPORTS)
        exports.flush()
        options = ["-shared", "-s", "-Wl,--gc-sections", "-Wl,-z,nodelete"]
        options += [f"-Wl,--version-script={exports.name}", "-o", shared]
        whole = ["-Wl,--whole-archive", static, "-Wl,--no-whole-archive"]
        subprocess.run([*compiler, *options, *whole, *SYSTEM], check=True)
