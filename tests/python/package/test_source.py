"""The source of the package: every function of the C interface is called, everything that a user
sees is documented, and files stay short.

environment: LIBADAMW
"""

import inspect
import pathlib
import re
import unittest

from case import np  # noqa: F401  (that of the package)

import adamw
from adamw import _abi, convert, schedules

SOURCE = pathlib.Path(adamw.__file__).parent
MOST_LINES, WIDEST = 350, 100
GENERATED = "_abi.py"

#: Functions that do less than those which the package calls in their place.
SHORT_FORMS = {
    "adamw_accumulate_grad_array",
    "adamw_add_array",
    "adamw_add_array_to_group",
    "adamw_find_param",
    "adamw_load",
    "adamw_num_params",
    "adamw_save",
    "adamw_set_grad_array",
    "adamw_status_name",
}


def undocumented(thing, name):
    """Returns the names of a class or function, and of what is in it, without a docstring."""
    found = [] if inspect.getdoc(thing) else [name]
    if inspect.isclass(thing):
        for inner, value in vars(thing).items():
            is_code = inspect.isfunction(value) or isinstance(value, property)
            if is_code and not inner.startswith("_"):
                found += undocumented(value, f"{name}.{inner}")
    return found


class Source(unittest.TestCase):
    def setUp(self):
        self.files = sorted(SOURCE.rglob("*.py"))
        self.assertGreater(len(self.files), 20)

    def test_calls_every_function_of_the_c_interface(self):
        texts = [path.read_text() for path in self.files if path.name != GENERATED]
        called = set(re.findall(r"library\.(adamw_\w+)", "\n".join(texts)))
        self.assertEqual(set(_abi.PROTOTYPES) - called, SHORT_FORMS)
        self.assertEqual(called - set(_abi.PROTOTYPES), set())

    def test_documents_what_a_user_sees(self):
        missing = []
        for module in (adamw, schedules, convert):
            for name in getattr(module, "__all__", [n for n in vars(module) if n[0] != "_"]):
                thing = getattr(module, name)
                if getattr(thing, "__module__", "").startswith("adamw"):
                    missing += undocumented(thing, name)
        for base in adamw.AdamW.__mro__[:-1]:
            missing += undocumented(base, base.__name__)
        self.assertEqual(missing, [])

    def test_is_in_short_files_of_short_lines(self):
        for path in self.files:
            lines = path.read_text().splitlines()
            if path.name != GENERATED:
                self.assertLessEqual(len(lines), MOST_LINES, path)
            wide = [line for line in lines if len(line) > WIDEST]
            self.assertEqual(wide, [], path)


if __name__ == "__main__":
    unittest.main()
