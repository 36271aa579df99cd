"""Compiles src/cuda/kernels/kernels.cu to the PTX and the machine code that the library carries, and looks at what becomes of it.

    ptx.py            writes src/cuda/kernels/kernels.ptx and kernels.fatbin
    ptx.py --check    says whether the committed files are what the source gives now, and holds the machine code that
                      ptxas makes of it for each architecture to what src/cuda promises

The compiler is NVRTC 11.8, whose PTX (7.8) drivers from R520 on accept; contraction is off, so that a driver's own compiler
cannot fuse either. None of it needs a GPU. `make ptx` and `make ptx-check` install the packages.
"""

import ctypes
import pathlib
import re
import subprocess
import sys
import tempfile
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import fatbin

FOLDER = pathlib.Path(__file__).resolve().parent.parent / "src" / "cuda" / "kernels"
PTX = FOLDER / "kernels.ptx"
FATBIN = FOLDER / "kernels.fatbin"
OPTIONS = ["--gpu-architecture=compute_70", "--fmad=false", "--std=c++17", "-default-device"]
ARCHITECTURES = ["sm_75", "sm_80", "sm_86", "sm_89", "sm_90", "sm_100", "sm_120"]
# With 256 threads a block, so that two blocks or more fit a multiprocessor's 65,536 registers.
MOST_REGISTERS = 128


def compiled():
    """The PTX of kernels.cu."""
    ctypes.CDLL(str(fatbin.package("cuda_nvrtc/lib/libnvrtc-builtins.so*")), mode=ctypes.RTLD_GLOBAL)
    nvrtc = ctypes.CDLL(str(fatbin.package("cuda_nvrtc/lib/libnvrtc.so*")))
    headers = sorted(FOLDER.glob("*.cuh"))
    strings = lambda values: (ctypes.c_char_p * len(values))(*values)
    program = ctypes.c_void_p()
    source = (FOLDER / "kernels.cu").read_bytes()
    texts, names = strings([h.read_bytes() for h in headers]), strings([h.name.encode() for h in headers])
    assert nvrtc.nvrtcCreateProgram(ctypes.byref(program), source, b"kernels.cu", len(headers), texts, names) == 0
    failed = nvrtc.nvrtcCompileProgram(program, len(OPTIONS), strings([o.encode() for o in OPTIONS]))

    def text(kind):
        size = ctypes.c_size_t()
        getattr(nvrtc, f"nvrtcGet{kind}Size")(program, ctypes.byref(size))
        buffer = ctypes.create_string_buffer(size.value)
        getattr(nvrtc, f"nvrtcGet{kind}")(program, buffer)
        return buffer.value

    log = text("ProgramLog").decode().strip()
    if log or failed:
        sys.exit(log or f"NVRTC failed: {failed}")
    return text("PTX")


# What one kernel for codes tells apart while it runs.
WAYS = {"f32": ["itself"], "f16": ["itself", "master", "kahan"], "bf16": ["itself", "master", "split", "kahan", "stochastic"]}


def elements(kernel):
    """How many elements a thread steps at a time."""
    return 4 if "f64" in kernel else 8


def ways(kernel):
    """The ways to keep parameters that a kernel serves."""
    words = kernel.split("_")
    if kernel.endswith("bit"):
        return WAYS[words[1]]
    return [word for word in words[2:] if word in WAYS["bf16"]] or ["itself"]


def streams(kernel):
    """The vectors of four elements that a kernel reads and writes, by bytes of an element, with gradients of both types of which one
    is there: in the loop over whole runs, and in the one over any, which has amsgrad too and takes one run at a time. Every tensor
    that is written is read but for a parameter beside its master. Codes take two runs at a time, and are no vectors."""
    words = kernel.split("_")
    size = {"f32": 4, "f64": 8}.get(words[1], 2)
    loads, stores = [], []
    for way in ways(kernel):
        rest = {"master": [4], "split": [2], "kahan": [size]}.get(way, [])
        loads += ([] if way == "master" else [size]) + rest
        stores += [size] + rest
    grads = [size] if size == 4 else [size, 4]
    loads, stores = loads + grads, stores + grads
    if kernel.endswith("bit"):
        return 4 * loads, 4 * stores
    moment = [2] if words[-1] == "bf16" and len(words) > 2 else [8 if size == 8 else 4]
    runs = elements(kernel) // 4
    both = lambda others: runs * (others + 2 * moment) + others + 3 * moment
    return both(loads), both(stores)


def accesses(sizes):
    """How many instructions of how many bytes: four elements of 8 bytes are two vectors."""
    return Counter(width for size in sizes for width in ([16, 16] if size == 8 else [4 * size]))


def assembled(architecture, ptx):
    """What ptxas reports, and its machine code."""
    with tempfile.TemporaryDirectory() as folder:
        cubin = pathlib.Path(folder, "kernels.cubin")
        ptxas = [fatbin.package("cuda_nvcc/bin/ptxas"), "-v", f"-arch={architecture}", ptx, "-o", cubin]
        report = subprocess.run(ptxas, capture_output=True, text=True, check=True).stderr
        return report, cubin.read_bytes()


def disassembled(cubin):
    """The machine code of each kernel as a text."""
    with tempfile.NamedTemporaryFile() as file:
        file.write(cubin)
        file.flush()
        command = [fatbin.package("cu13/bin/nvdisasm"), "-c", file.name]
        code = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    kernels = re.split(r"^\s*\.text\.(\w+):", code, flags=re.M)
    return dict(zip(kernels[1::2], kernels[2::2]))


def look_at(architecture, report, cubin):
    """What is wrong with the machine code of one architecture."""
    kernels, wrong = disassembled(cubin), []
    for kernel, spilled, registers in re.findall(
        r"properties for (\w+)\n\s+(\d+ bytes stack frame, \d+ bytes spill stores, \d+ bytes spill loads).*?Used (\d+) registers", report, re.S
    ):
        if set(re.findall(r"\d+", spilled)) != {"0"}:
            wrong.append(f"{kernel}: {spilled}")
        if int(registers) > MOST_REGISTERS:
            wrong.append(f"{kernel}: {registers} registers")
    for kernel, text in kernels.items():
        memory = re.findall(r"\b((?:LD|ST)[GL]?(?:\.[A-Z0-9]+)*) ", text)
        generic = [m for m in memory if m.split(".")[0] in ("LD", "ST", "LDL", "STL")]
        if generic:
            wrong.append(f"{kernel}: {generic[0]}")
        if kernel.startswith("step_"):
            # Elements are read and written past the caches (.EF), tables are not.
            vectors = lambda name: Counter(
                16 if ".128" in m else 8 for m in memory if m.startswith(name) and ".EF" in m and (".128" in m or ".64" in m)
            )
            for name, sizes in zip(("LDG", "STG"), streams(kernel)):
                expected, seen = accesses(sizes), vectors(name)
                if kernel == "step_f64":
                    del seen[8]  # single elements, which are as long as vectors of 16-bit ones
                # There are more where ptxas has copied the end of a loop.
                if expected - seen:
                    wrong.append(f"{kernel}: {name} {dict(seen)}, expected {dict(expected)}")
    return [f"{architecture}: {what}" for what in wrong]


def main():
    check, ptx = sys.argv[1:] == ["--check"], compiled()
    if check and PTX.read_bytes() != ptx:
        sys.exit(f"{PTX.name} is not what kernels.cu gives: run `make ptx`")
    if not check:
        PTX.write_bytes(ptx)
    architectures = ARCHITECTURES if check else fatbin.PACKED
    with ThreadPoolExecutor() as pool:
        made = dict(zip(architectures, pool.map(lambda architecture: assembled(architecture, PTX), architectures)))
        cubins = {architecture: cubin for architecture, (_, cubin) in made.items()}
        packed = fatbin.packed(cubins, ptx)
        if not check:
            FATBIN.write_bytes(packed)
            print(f"{PTX.name}: {len(ptx)} bytes, {ptx.count(b'.entry')} kernels; {FATBIN.name}: {len(packed)} bytes")
            return
        if FATBIN.read_bytes() != packed:
            sys.exit(f"{FATBIN.name} is not what ptxas makes of {PTX.name}: run `make ptx`")
        wrong = fatbin.wrong(cubins, packed)
        for found in pool.map(lambda architecture: look_at(architecture, *made[architecture]), architectures):
            wrong += found
    print("\n".join(wrong) or f"{PTX.name} and {FATBIN.name} are what the source gives, and hold on {', '.join(architectures)}")
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
