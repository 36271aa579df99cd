"""Folders of `torch.distributed.checkpoint`, read without PyTorch, and without calling what is in
them."""

from __future__ import annotations

import io
import os
import pickle
from typing import Any

import numpy as np

from .files import Path, load_torch
from .made import Array, Held, short
from .pickled import Reader


def read_folder(folder: Path) -> dict[str, Any]:
    """Returns the tensors, and all else, that `torch.distributed.checkpoint.save` has written to a
    folder, by their flat names. All ranks' files have to be there."""
    path = os.path.join(folder, ".metadata")
    if not os.path.exists(path):
        raise ValueError(
            f"{os.fspath(folder)} has no .metadata, as a folder of torch.distributed.checkpoint has"
        )
    with open(path, "rb") as file:
        metadata = Reader(io.BytesIO(file.read())).load()
    try:
        kinds, places = metadata.state_dict_metadata, metadata.storage_data
        check_apart(list(places.values()))
        chunks: dict[str, list[tuple[tuple[int, ...], Held]]] = {}
        for index, place in places.items():
            offset = tuple(index.offset) if hasattr(index, "offset") and index.offset else ()
            chunks.setdefault(index.fqn, []).append((offset, place))
        return {name: _whole(folder, name, kinds[name], chunks.get(name, [])) for name in kinds}
    except (AttributeError, KeyError, TypeError) as error:
        raise ValueError(
            f"{path} is not what torch.distributed.checkpoint writes: {error}"
        ) from error


def check_apart(places: list[Held]) -> None:
    """Refuses parts that share bytes, which would take more memory than the files."""
    ends: dict[str, int] = {}
    for place in sorted(places, key=lambda place: (place.relative_path, place.offset)):
        if place.offset < ends.get(place.relative_path, 0) or place.length < 0:
            raise ValueError(f"parts of {short(place.relative_path)} share bytes")
        ends[place.relative_path] = place.offset + place.length


def _whole(folder: Path, name: str, kind: Held, chunks: list[tuple[tuple[int, ...], Held]]) -> Any:
    """Puts the parts of a tensor together; returns all else as it is."""
    parts = [(offset, _read(folder, name, place)) for offset, place in chunks]
    if not hasattr(kind, "size"):
        return parts[0][1] if parts else None
    size = tuple(kind.size)
    if len(parts) == 1 and np.shape(parts[0][1]) == size:
        return parts[0][1]
    n_elements = sum(part.size for _, part in parts)
    # Checked before memory is taken: parts that overlap leave a gap.
    if n_elements != int(np.prod(size, dtype=object)):
        raise ValueError(f"{name} has {n_elements} elements in its parts, expected {size}")
    whole: Array = np.empty(size, parts[0][1].dtype)
    seen = np.zeros(size, bool)
    for offset, part in parts:
        place = tuple(slice(first, first + n) for first, n in zip(offset, part.shape))
        if whole[place].shape != part.shape:
            raise ValueError(f"{name} has a part of {part.shape} at {offset} of {size}")
        whole[place], seen[place] = part, True
    if not seen.all():
        raise ValueError(f"{name} is not whole: parts of it overlap")
    return whole


def _read(folder: Path, name: str, place: Held) -> Any:
    """Reads what lies at a place of a file: an archive of its own."""
    file, start, length = place.relative_path, place.offset, place.length
    if not isinstance(file, str) or os.path.basename(file) != file:
        raise ValueError(f"{name} is in {short(file)}, expected a file of the folder")
    if getattr(place, "transform_descriptors", None):
        raise ValueError(f"{name} is compressed, expected it as it is")
    path = os.path.join(folder, file)
    with open(path, "rb") as opened:
        opened.seek(start)
        contents = opened.read(length)
    if len(contents) != length:
        raise ValueError(f"{path} ends in the middle of {name}")
    try:
        return load_torch(io.BytesIO(contents))
    except (ValueError, pickle.UnpicklingError) as error:
        raise ValueError(f"{path}: {name}: {error}") from error
