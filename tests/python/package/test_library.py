"""The package loads the library that it is told to, refuses one that does not fit, and has an
exception for each status.

environment: LIBADAMW, CC
"""

import os
import pathlib
import subprocess
import sys
import tempfile
import unittest

import case  # noqa: F401  (what the package needs)

import adamw
from adamw import _abi, _library, errors


def imported(library):
    """Returns the last line that an import of the package with this library prints of its error."""
    environment = {**os.environ, "LIBADAMW": str(library)}
    command = [sys.executable, "-c", "import adamw._library as l; print(l.version())"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    return done.stdout.strip() or done.stderr.strip().splitlines()[-1]


def stub(folder, version):
    """Returns the path of a library that has this version and nothing else."""
    path, source = pathlib.Path(folder, "stub.so"), pathlib.Path(folder, "stub.c")
    source.write_text(f'const char *adamw_version(void) {{ return "{version}"; }}')
    subprocess.run([os.environ.get("CC", "cc"), "-shared", "-fPIC", source, "-o", path], check=True)
    return path


class Library(unittest.TestCase):
    def test_is_the_one_that_the_variable_names(self):
        self.assertEqual(imported(os.environ["LIBADAMW"]), _library.version())

    def test_that_does_not_fit_is_an_import_error_that_names_it(self):
        with tempfile.TemporaryDirectory() as folder:
            for version, problem in [
                ("0.0.9", "its version is 0.0.9"),
                ("1.1.0", "its version is 1.1.0"),
                ("0.1.0", "undefined symbol: adamw_last_error"),
            ]:
                path = stub(folder, version)
                said = imported(path)
                self.assertIn(f"ImportError: {path} is no libadamw 0.1.0 or later", said)
                self.assertIn(problem, said)
        self.assertIn("ImportError: /nowhere.so is no libadamw", imported("/nowhere.so"))

    def test_that_is_missing_is_an_import_error_with_the_ways_out(self):
        said = imported("")
        bundled = pathlib.Path(adamw.__file__).with_name("libadamw.so")
        if not bundled.exists():
            self.assertIn(f"there is no {bundled}", said)
            self.assertIn("set LIBADAMW", said)


class Errors(unittest.TestCase):
    def test_have_a_class_for_each_status_of_the_header(self):
        statuses = {value for name, value in vars(_abi).items() if name.startswith("STATUS_")}
        self.assertEqual(set(errors.BY_STATUS), statuses - {_abi.STATUS_OK})

    def test_are_what_python_calls_such_errors(self):
        for status, natural in [
            (_abi.STATUS_INVALID_ARGUMENT, ValueError),
            (_abi.STATUS_OUT_OF_MEMORY, MemoryError),
            (_abi.STATUS_NOT_FOUND, LookupError),
            (_abi.STATUS_NONFINITE, FloatingPointError),
            (_abi.STATUS_IO, OSError),
            (_abi.STATUS_CORRUPT, ValueError),
            (_abi.STATUS_BUSY, RuntimeError),
        ]:
            self.assertTrue(issubclass(errors.BY_STATUS[status], natural), status)
            self.assertEqual(errors.BY_STATUS[status]("text").status, status)

    def test_have_the_text_of_the_library(self):
        with self.assertRaisesRegex(errors.BadHandleError, "optimizer is NULL"):
            _library.check(_library.library.adamw_step(None))


if __name__ == "__main__":
    unittest.main()
