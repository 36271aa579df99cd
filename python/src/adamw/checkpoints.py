"""Checkpoints: all that a run needs to continue with the same bits."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, BinaryIO, Literal

import numpy as np

from . import _abi, _callbacks
from ._base import Base
from ._library import check, library, reraise
from ._optional import optional
from .errors import InvalidArgumentError
from .settings import choice, sized

Scope = Literal["all", "subset", "shared"]
SCOPES = {"all": _abi.LOAD_ALL, "subset": _abi.LOAD_SUBSET, "shared": _abi.LOAD_SHARED}

Path = str | os.PathLike[str]
Source = Path | bytes | bytearray | memoryview
#: True shows a bar, if tqdm is installed; a function gets the bytes done and their total.
Progress = bool | Callable[[int, int], object] | None


@dataclass(frozen=True)
class Saved:
    """What was saved."""

    num_bytes: int
    #: Whether the file and its name survive a power failure. False if it is no file, or if the file
    #: system has no way to ensure it.
    durable: bool


@dataclass(frozen=True)
class SaveProgress:
    """How far a save has come that was begun."""

    running: bool
    #: The number of bytes of tensors that are done, and of all.
    done: int
    total: int


@dataclass(frozen=True)
class Entry:
    """An entry of a checkpoint: a text, or a tensor."""

    name: str
    #: None if it is a tensor.
    text: str | None
    #: The element type of a tensor, as safetensors names it.
    dtype: str | None
    n_elements: int
    #: The offset in the file of a tensor's first byte.
    offset: int
    #: The value, if it is one number of 64 bits, such as a counter.
    value: float | None


@contextmanager
def _shown(progress: Progress, what: str) -> Iterator[Any]:
    """Gives what the library takes as a progress function."""
    tqdm = optional("tqdm.auto") if progress is True else None
    if tqdm is not None:
        with tqdm.tqdm(desc=what, unit="B", unit_scale=True) as bar:

            def update(done: int, total: int) -> None:
                bar.total = total
                bar.update(done - bar.n)

            yield _callbacks.progress(update)
    elif callable(progress):
        yield _callbacks.progress(progress)
    else:
        yield _abi.Progress()


def _source(source: Source) -> tuple[_abi.Source, Any]:
    """Returns where a checkpoint is, and what has to live meanwhile."""
    if isinstance(source, (str, os.PathLike)):
        return sized(_abi.Source, path=_path(source)), None
    data = np.frombuffer(source, np.uint8)
    return sized(_abi.Source, data=data.ctypes.data, num_bytes=data.size), data


def _path(path: Path) -> bytes:
    own = os.fsencode(path)
    if b"\0" in own:
        raise InvalidArgumentError(f"the path {os.fspath(path)!r} has a NUL in it, expected none")
    return own


class Checkpoints(Base):
    """Saves and loads state."""

    def save(
        self, target: Path | BinaryIO, *, params: bool = False, progress: Progress = None
    ) -> Saved:
        """Saves the state of all parameters to a path or an open file; with `params`, the
        parameters themselves, too. At any time the path names the complete new file, or what it
        named before."""
        durable = ctypes.c_uint32()
        args = sized(_abi.SaveArgs, params=int(params), out_durable=ctypes.pointer(durable))
        if isinstance(target, (str, os.PathLike)):
            args.path = _path(target)
        else:
            args.write = _callbacks.write(target)
        return Saved(self._save(args, progress), bool(durable.value))

    def save_begin(self, path: Path, *, params: bool = False) -> None:
        """Begins to save what `save` saves, as it is now, and returns while a thread writes the
        file: steps go on meanwhile. One save is written at a time, so that this waits for the one
        before. If that one has failed and nobody has been told, its error is raised here, and
        nothing is begun."""
        args = sized(_abi.SaveArgs, params=int(params), path=_path(path))
        self._handle.call(library.adamw_save_begin, args)

    def save_poll(self) -> SaveProgress:
        """Returns how far the save that was begun last has come, without waiting. Raises its error
        if it has failed."""
        running, done, total = ctypes.c_uint32(), ctypes.c_uint64(), ctypes.c_uint64()
        self._handle.call(library.adamw_save_poll, running, done, total)
        return SaveProgress(bool(running.value), done.value, total.value)

    def save_wait(self) -> Saved:
        """Waits for the save that was begun last, and returns what was saved or raises its
        error."""
        num_bytes, durable = ctypes.c_uint64(), ctypes.c_uint32()
        self._handle.call(library.adamw_save_wait, num_bytes, durable)
        return Saved(num_bytes.value, bool(durable.value))

    def to_bytes(self, *, params: bool = False) -> bytes:
        """Returns what `save` would write to a file."""
        size = self._save(sized(_abi.SaveArgs, params=int(params), size_only=1), None)
        data = np.empty(size, np.uint8)
        where = {"data": data.ctypes.data, "capacity": data.size}
        self._save(sized(_abi.SaveArgs, params=int(params), **where), None)
        return data.tobytes()

    def _save(self, args: _abi.SaveArgs, progress: Progress) -> int:
        num_bytes = ctypes.c_uint64()
        with _shown(progress, "saving") as args.progress:
            self._handle.call(library.adamw_save_to, args, num_bytes)
        return num_bytes.value

    def load(
        self,
        sources: Source | Sequence[Source],
        *,
        scope: Scope = "all",
        params: bool = False,
        convert: bool = False,
        keep_schedule: bool = False,
        extend: bool = False,
        rename: Mapping[str, str] | Callable[[str], str] | None = None,
        progress: Progress = None,
    ) -> None:
        """Loads a checkpoint, from a path or from memory, or one of several ranks from the sources
        of all of them. Everything is checked before anything changes.

        `scope`: "all" (the same parameters in both), "subset" (the checkpoint may have more) or
        "shared" (the state of those that both have, and nothing else). `params` loads parameters
        that were saved. `convert` allows other floating types, and makes codes or split masters of
        them; `extend` allows amsgrad or masters that the saved optimizer had not; with
        `keep_schedule`, schedule and learning rate stay. `rename` gives the name in the checkpoint
        of a parameter here.
        """
        if isinstance(sources, (str, os.PathLike, bytes, bytearray, memoryview)):
            sources = [sources]
        found = [_source(source) for source in sources]
        options = sized(
            _abi.LoadOptions,
            scope=choice("scope", scope, SCOPES),
            params=int(params),
            convert=int(convert),
            keep_schedule=int(keep_schedule),
            extend=int(extend),
        )
        if rename is not None:
            function = _renaming(rename) if isinstance(rename, Mapping) else rename
            options.rename = _callbacks.rename(function)
        pointers = [ctypes.pointer(raw) for raw, _ in found]
        array = (ctypes.POINTER(_abi.Source) * len(found))(*pointers)
        with _shown(progress, "loading") as options.progress:
            self._handle.call(library.adamw_load_from, array, len(found), options)
            reraise()  # what progress has raised while the state was being written


def _renaming(names: Mapping[str, str]) -> Callable[[str], str]:
    return lambda name: names.get(name, name)


def inspect(source: Source) -> list[Entry]:
    """Checks a checkpoint and returns its entries: texts, then tensors, ordered by name."""
    entries: list[Entry] = []

    def visit(entry: _abi.Entry) -> None:
        text = None if entry.text is None else entry.text.decode()
        dtype = None if entry.dtype is None else entry.dtype.decode()
        value = None if entry.value != entry.value else entry.value
        name = (entry.name or b"").decode()
        entries.append(Entry(name, text, dtype, entry.n_elements, entry.offset, value))

    raw, kept = _source(source)
    check(library.adamw_inspect(raw, _callbacks.visit(visit), None))
    del kept
    return entries
