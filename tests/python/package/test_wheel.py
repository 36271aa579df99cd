"""The wheel needs nothing but pip and numpy, and no newer glibc than it says.

environment: CARGO_TARGET_DIR
"""

import importlib.util
import json
import os
import pathlib
import re
import subprocess
import sys
import tempfile
import unittest
import venv
import zipfile

import case  # noqa: F401  (what the package needs)

ROOT = pathlib.Path(__file__).resolve().parents[3]

for package in ("hatchling", "ziglang"):
    if importlib.util.find_spec(package) is None:
        print(f"{package} is missing")
        sys.exit(77)


def run(*command, **options):
    """Returns what a command prints; AssertionError with its errors if it fails."""
    done = subprocess.run(command, capture_output=True, text=True, check=False, **options)
    assert done.returncode == 0, done.stderr
    return done.stdout


def pip(python, *arguments, **options):
    """Runs pip quietly."""
    return run(python, "-m", "pip", "--quiet", "--disable-pip-version-check", *arguments, **options)


class Wheel(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = pathlib.Path(cls.enterClassContext(tempfile.TemporaryDirectory()))
        options = "--no-build-isolation", "--no-deps", "--wheel-dir", cls.folder
        pip(sys.executable, "wheel", *options, ROOT / "python")
        (cls.wheel,) = cls.folder.glob("*.whl")

    def test_is_one_for_all_pythons_and_names_the_glibc_that_it_needs(self):
        machine = os.uname().machine
        version = re.search(r'(?m)^version = "(.*)"', (ROOT / "Cargo.toml").read_text())[1]
        name = f"libadamw-{version}-py3-none-manylinux_2_17_{machine}.whl"
        self.assertEqual(self.wheel.name, name)
        with zipfile.ZipFile(self.wheel) as archive:
            library = archive.extract("adamw/libadamw.so", self.folder)
        symbols = run("objdump", "-T", library)
        needed = {tuple(map(int, v.split("."))) for v in re.findall(r"GLIBC_([\d.]+)", symbols)}
        self.assertTrue(needed)
        self.assertLessEqual(max(needed), (2, 17))
        exported = [line for line in symbols.splitlines() if " g " in line and "UND" not in line]
        self.assertGreater(len(exported), 60)
        self.assertTrue(all(line.split()[-1].startswith("adamw_") for line in exported), exported)

    def test_has_the_package_its_types_and_the_stripped_library_alone(self):
        with zipfile.ZipFile(self.wheel) as archive:
            sizes = {entry.filename: entry.file_size for entry in archive.infolist()}
        source = ROOT / "python" / "src" / "adamw"
        modules = {f"adamw/{path.relative_to(source)}" for path in source.rglob("*.py")}
        info = {name for name in sizes if ".dist-info/" in name}
        libraries = {"adamw/libadamw.so", "adamw/torch/walker.so"}
        self.assertEqual(set(sizes) - info, modules | {"adamw/py.typed"} | libraries)
        self.assertEqual(sum("/licenses/LICENSE-" in name for name in info), 2)
        self.assertLess(sizes["adamw/libadamw.so"], 7_000_000)

    def test_works_in_a_clean_environment(self):
        home = self.folder / "venv"
        venv.create(home, with_pip=True)
        python = home / "bin" / "python"
        pip(python, "install", self.wheel)
        program = """if True:
            import sys, numpy as np, adamw
            w = np.ones(3, np.float32)
            with adamw.AdamW({"w": w}) as optimizer:
                optimizer.step(grads={"w": np.ones(3, np.float32)})
            print(adamw.__file__, adamw.__version__, w[0] < 1)
        """
        nothing = {"PATH": "", "HOME": str(self.folder)}
        said = run(python, "-I", "-c", program, cwd=self.folder, env=nothing).split()
        self.assertTrue(said[0].startswith(str(home)), said)
        self.assertEqual(said[2], "True")
        listed = json.loads(run(python, "-m", "pip", "list", "--format", "json"))
        packages = {package["name"] for package in listed} - {"pip", "setuptools"}
        self.assertEqual(packages, {"libadamw", "numpy"})


if __name__ == "__main__":
    unittest.main()
