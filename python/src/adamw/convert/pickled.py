"""Pickles of tensors, read without calling anything that they name.

A pickle may name any function of Python's to be called. Here nothing is imported or called but what
makes tensors and containers. All else becomes a `Held`, which says what it is where somebody asks
for it. What is made shares its memory with the pickle: no file takes more memory than some times
its own size, however often it repeats a thing.
"""

from __future__ import annotations

import pickle
import struct
from collections.abc import Callable, Mapping
from typing import IO, Any, ClassVar

from .made import KNOWN, STORAGES, Dtype, Global, Held, Packed, short

SCALARS = (str, bytes, int, float, bool, type(None), Global, Held)


def check_key(key: Any) -> None:
    """Refuses keys whose hash may take forever, such as tuples of tuples that are one tuple."""
    parts = key if type(key) is tuple else (key,)
    if not all(isinstance(part, SCALARS) for part in parts):
        raise pickle.UnpicklingError(f"a key {short(key)}, expected a text or a number")


class Reader(pickle._Unpickler):
    """A pickle that can make nothing but what is known; `storage` reads those of PyTorch. The
    faster unpickler, in C, would take 16 bytes times whatever number a file gives to an object."""

    # Those of the base, whose types nobody says.
    stack: list[Any]
    read: Callable[[int], bytes]
    readline: Callable[[], bytes]
    pop_mark: Callable[[], list[Any]]

    def __init__(self, file: IO[bytes], storage: Callable[..., Any] | None = None) -> None:
        super().__init__(file)
        self.storage = storage
        self.calls = *KNOWN.values(), self.encode
        self.encoded: dict[int, tuple[str, bytes]] = {}

    def find_class(self, module: str, name: str) -> Any:
        full = f"{module}.{name}".replace("__builtin__.", "builtins.")
        if full == "_codecs.encode":
            return self.calls[-1]
        if module == "torch" and name in STORAGES:
            return name
        return KNOWN.get(full) or Global(full)

    def encode(self, text: str, kind: str) -> bytes:
        """Returns the bytes that a text of the older protocols stands for, once for each text."""
        if not (isinstance(text, str) and kind == "latin1"):
            raise pickle.UnpicklingError(f"bytes in {short(kind)}, expected latin1")
        if id(text) not in self.encoded:
            self.encoded[id(text)] = text, text.encode(kind)
        return self.encoded[id(text)][1]

    def persistent_load(self, saved: Any) -> Any:
        is_known = isinstance(saved, tuple) and all(type(part) is str for part in saved[:3:2])
        if self.storage is None or not is_known or saved[0] != "storage":
            raise pickle.UnpicklingError(f"the file refers to {short(saved)}, expected a storage")
        if type(saved[1]) is not str:
            return Held(saved[1], None)
        return self.storage(*saved[1:3])

    def load(self) -> Any:
        try:
            return super().load()
        except pickle.UnpicklingError:
            raise
        except Exception as error:  # whatever Python raises where a file makes no sense
            raise pickle.UnpicklingError(
                f"the file is damaged: {type(error).__name__}: {short(str(error))}"
            ) from error

    def _make(self, function: Any, made_of: Any) -> None:
        """Puts on the stack what a file makes by a call."""
        if isinstance(function, Global):
            self.stack.append(Held(function, made_of))
        elif any(function is call for call in self.calls):
            self.stack.append(function(*made_of))
        else:
            raise pickle.UnpicklingError(f"a call of {short(function)}, expected a class")

    def get_extension(self, code: int) -> None:
        raise pickle.UnpicklingError(f"an extension ({code}), expected none")

    def _bytes(self) -> None:
        (length,) = struct.unpack("<Q", self.read(8))
        self.stack.append(self.read(length))

    def _call(self) -> None:
        made_of = self.stack.pop()
        self._make(self.stack.pop(), made_of)

    def _call_with_keywords(self) -> None:
        keywords, made_of = self.stack.pop(), self.stack.pop()
        self._make(self.stack.pop(), (*made_of, keywords) if keywords else made_of)

    def _instance(self) -> None:
        module, name = (self.readline()[:-1].decode("ascii") for _ in range(2))
        made_of = self.pop_mark()
        self._make(self.find_class(module, name), made_of)

    def _object(self) -> None:
        function, *made_of = self.pop_mark()
        self._make(function, made_of)

    def _build(self) -> None:
        state, built = self.stack.pop(), self.stack[-1]
        if isinstance(built, Held):
            built.state = state
        elif isinstance(built, (Packed, Dtype)):
            built.__setstate__(state)
        elif not isinstance(built, dict):  # whose attributes are of no use
            raise pickle.UnpicklingError(f"attributes of {short(built)}, expected an object")

    def _put(self, items: list[Any]) -> None:
        """Puts pairs of keys and values into what is on the stack."""
        into = self.stack[-1]
        for key, value in zip(items[::2], items[1::2]):
            check_key(key)
            if isinstance(into, dict):
                into[key] = value
            elif not isinstance(into, Held):
                raise pickle.UnpicklingError(f"entries of {short(into)}, expected a dict")

    def _set_item(self) -> None:
        value, key = self.stack.pop(), self.stack.pop()
        self._put([key, value])

    def _set_items(self) -> None:
        self._put(self.pop_mark())

    def _dict(self) -> None:
        items = self.pop_mark()
        self.stack.append({})
        self._put(items)

    def _extend(self, items: list[Any]) -> None:
        into = self.stack[-1]
        if isinstance(into, list):
            into.extend(items)
        elif not isinstance(into, Held):
            raise pickle.UnpicklingError(f"elements of {short(into)}, expected a list")

    def _append(self) -> None:
        self._extend([self.stack.pop()])

    def _appends(self) -> None:
        self._extend(self.pop_mark())

    def _add_items(self) -> None:
        items = self.pop_mark()
        for item in items:
            check_key(item)
        self.stack[-1] |= set(items)

    def _frozen_set(self) -> None:
        self.stack.append(set())
        self._add_items()

    dispatch: ClassVar[Mapping[int, Any]] = {  # type: ignore[assignment]
        **pickle._Unpickler.dispatch,
        pickle.BYTEARRAY8[0]: _bytes,
        pickle.REDUCE[0]: _call,
        pickle.NEWOBJ[0]: _call,
        pickle.NEWOBJ_EX[0]: _call_with_keywords,
        pickle.INST[0]: _instance,
        pickle.OBJ[0]: _object,
        pickle.BUILD[0]: _build,
        pickle.SETITEM[0]: _set_item,
        pickle.SETITEMS[0]: _set_items,
        pickle.DICT[0]: _dict,
        pickle.APPEND[0]: _append,
        pickle.APPENDS[0]: _appends,
        pickle.ADDITEMS[0]: _add_items,
        pickle.FROZENSET[0]: _frozen_set,
    }
