"""Files of PyTorch (`torch.save`), Paddle (`paddle.save`) and DeepSpeed, read without any of them.

bf16 comes as float32, which holds it exactly; from Paddle's files as uint16, which they do not tell
from it. Arrays are read-only.
"""

from __future__ import annotations

import functools
import glob
import io
import os
import re
import zipfile
from typing import IO, Any

import numpy as np

from .made import STORAGES, Array, Packed
from .pickled import Reader

Path = str | os.PathLike[str]

#: What a file starts with, and what it then seems to be.
STARTS = {
    b"PK\x03\x04": "a zip archive",
    b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19": (
        "of PyTorch before 1.6: torch.save(torch.load(path), path) writes it anew"
    ),
    b"\x80": "a pickle",
    b"\x89HDF": "HDF5",
    b"\x93NUMPY": "NumPy's .npy",
    b"GGUF": "GGUF",
    b"": "something else",
}


def seems(start: bytes) -> str:
    """Returns what a file that starts like this seems to be."""
    if len(start) > 8 and start[8:9] == b"{":
        return "a safetensors file"
    return next(what for known, what in STARTS.items() if start.startswith(known))


def entries_of(file: zipfile.ZipFile, path: Any) -> dict[str, zipfile.ZipInfo]:
    """Returns the entries of an archive of PyTorch's, by their names below its folder."""
    infos = sorted(file.infolist(), key=lambda entry: entry.header_offset)
    end = 0
    for entry in infos:
        if entry.compress_type != zipfile.ZIP_STORED:
            raise ValueError(
                f"{path}: {entry.filename} is compressed, which PyTorch's files are not"
            )
        if entry.header_offset < end:
            raise ValueError(f"{path}: entries of the archive share bytes")
        end = entry.header_offset + entry.compress_size
    if infos and infos[0].header_offset != 0:
        raise ValueError(
            f"{path}: there are {infos[0].header_offset} bytes in front of the archive, such as "
            f"another one: give a file for each; for a part of a distributed checkpoint "
            f"(.distcp), its folder"
        )
    entries = {entry.filename.partition("/")[2]: entry for entry in infos}
    if "data.pkl" not in entries:
        raise ValueError(f"{path}: there is no data.pkl, which PyTorch's files have")
    return entries


def load_torch(path: Path | IO[bytes]) -> Any:
    """Returns what `torch.save` has written, with arrays in the place of tensors. Objects of other
    classes are there as what cannot be used."""
    if isinstance(path, (str, os.PathLike)):
        if os.path.isdir(path):
            raise ValueError(f"{path} is a folder: from_distributed takes what read_folder reads")
        with open(path, "rb") as opened:
            start = opened.read(16)
        if not start.startswith(b"PK"):
            raise ValueError(f"{path} is no file of PyTorch's, but {seems(start)}")
    what = path if isinstance(path, (str, os.PathLike)) else "the archive"
    try:
        with zipfile.ZipFile(path) as file:
            return _load(file, entries_of(file, what))
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError) as error:
        raise ValueError(f"{what} is no whole file of PyTorch's: {error}") from error


def _load(file: zipfile.ZipFile, entries: dict[str, zipfile.ZipInfo]) -> Any:
    """Returns what is in an archive of PyTorch's."""
    if "byteorder" in entries and file.read(entries["byteorder"]) != b"little":
        raise ValueError(f"{file.filename}: the tensors are big-endian")

    @functools.cache
    def data(key: str) -> bytes:
        return file.read(entries[f"data/{key}"])

    @functools.cache
    def storage(kind: str, key: str) -> Array:
        if STORAGES[kind] is None:
            return (np.frombuffer(data(key), "<u2").astype(np.uint32) << 16).view(np.float32)
        return np.frombuffer(data(key), STORAGES[kind])

    return Reader(io.BytesIO(file.read(entries["data.pkl"])), storage).load()


def array_in(value: Any) -> Any:
    """Returns the array in what it was read as. Paddle's tensors inside of containers are pairs of
    a name and an array."""
    if isinstance(value, tuple) and len(value) == 2 and isinstance(value[1], Packed):
        value = value[1]
    return value.values if isinstance(value, Packed) else value


def unwrap(saved: dict[Any, Any]) -> None:
    """Puts arrays in the place of what they were read as, in a dict and those in it."""
    todo, seen = [saved], set[int]()
    while todo:
        container = todo.pop()
        seen.add(id(container))
        for name, value in container.items():
            container[name] = array_in(value)
            if isinstance(value, dict) and id(value) not in seen:
                todo.append(value)


def load_paddle(path: Path) -> dict[str, Any]:
    """Returns what `paddle.save` has written of an optimizer: a dict of tensors, and of dicts of
    tensors such as `master_weights`."""
    with open(path, "rb") as file:
        contents = file.read()
    if not contents.startswith(b"\x80"):
        raise ValueError(f"{path} is no file of Paddle's, but {seems(contents[:16])}")
    saved = Reader(io.BytesIO(contents)).load()
    if not isinstance(saved, dict):
        raise ValueError(f"{path}: holds a {type(saved).__name__}, expected a dict")
    unwrap(saved)
    return saved


def load_deepspeed(folder: Path) -> list[dict[str, Any]]:
    """Returns what the ranks of DeepSpeed's ZeRO have saved in a folder (`<tag>` below that of
    `save_checkpoint`), in their order, which is not that of the files' names from ten ranks on."""
    ranks = {}
    for path in glob.glob(os.path.join(glob.escape(os.fspath(folder)), "*_optim_states.pt")):
        found = re.fullmatch(
            r"(?:bf16_)?zero_pp_rank_(\d+)_mp_rank_00_optim_states\.pt", os.path.basename(path)
        )
        if not found:
            raise ValueError(
                f"{path}: expected zero_pp_rank_<rank>_mp_rank_00_optim_states.pt, without model "
                f"parallelism"
            )
        ranks[int(found[1])] = load_torch(path)["optimizer_state_dict"]
    if sorted(ranks) != list(range(len(ranks))) or not ranks:
        raise ValueError(f"{folder}: has the states of the ranks {sorted(ranks)}")
    return [ranks[rank] for rank in sorted(ranks)]
