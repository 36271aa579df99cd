"""Packs machine code for several GPUs into the one file that the library carries, kernels.fatbin in
src/cuda/kernels. `make ptx` runs this.

A driver takes the image of its device's major compute capability, and of the highest minor one that
is not above the device's. So 8.9 runs the image of 8.6, whose code ptxas makes for 8.9 too. Images
are compressed in a way that drivers for CUDA 12.4 and newer read; older ones refuse the file.
"""

import ctypes
import pathlib
import struct
import sys
import zlib

PACKED = ["sm_80", "sm_86", "sm_90", "sm_100", "sm_120"]
# Architectures that have no image of their own, with that whose code is theirs, byte for byte.
SHARED = {"sm_89": "sm_86"}
OPTIONS = ["-compress-all", "-compress-mode=size"]
MOST_BYTES = 1_500_000


def package(path):
    """A file of an installed nvidia wheel."""
    for folder in sys.path:
        for found in sorted(pathlib.Path(folder).glob(f"nvidia/{path}")):
            return found
    sys.exit(f"nvidia/{path} is not installed: run `make ptx-check`")


def packed(cubins, ptx):
    """The file. Each image bears the checksum of its PTX: tests see from it that one is too old."""
    library = ctypes.CDLL(str(package("nvfatbin/lib/libnvfatbin.so*")))
    name = f"kernels.ptx {zlib.crc32(ptx):08x}".encode()

    def call(function, *arguments):
        if status := getattr(library, f"nvFatbin{function}")(*arguments):
            sys.exit(f"nvFatbin{function} failed: {status}")

    handle, size = ctypes.c_void_p(), ctypes.c_size_t()
    options = (ctypes.c_char_p * len(OPTIONS))(*[option.encode() for option in OPTIONS])
    call("Create", ctypes.byref(handle), options, ctypes.c_size_t(len(OPTIONS)))
    for architecture in PACKED:
        image, number = cubins[architecture], architecture.removeprefix("sm_").encode()
        call("AddCubin", handle, image, ctypes.c_size_t(len(image)), number, name)
    call("Size", handle, ctypes.byref(size))
    file = ctypes.create_string_buffer(size.value)
    call("Get", handle, file)
    call("Destroy", ctypes.byref(handle))
    return file.raw


def code(cubin):
    """The machine code of each kernel: sections of an ELF file."""
    (start,) = struct.unpack_from("<Q", cubin, 40)
    length, count, names_at = struct.unpack_from("<3H", cubin, 58)
    headers = [struct.unpack_from("<2I4Q", cubin, start + i * length) for i in range(count)]
    names = cubin[headers[names_at][4] :]
    found = {}
    for name_at, _, _, _, at, size in headers:
        name = names[name_at : names.index(0, name_at)].decode()
        if name.startswith(".text."):
            found[name] = cubin[at : at + size]
    return found


def wrong(cubins, file):
    """What is wrong with the file, and with the choice of the images in it."""
    found = []
    for one, other in SHARED.items():
        if code(cubins[one]) != code(cubins[other]):
            found.append(f"{one} has other code than {other}: pack an image of its own")
    if len(file) > MOST_BYTES:
        found.append(f"kernels.fatbin has {len(file)} bytes, {MOST_BYTES} at most are wanted")
    return found
