"""Says which device the CUDA driver finds first, and fails if there is none or if the driver is the one that interprets kernels."""

import ctypes
import sys

CAPABILITY_MAJOR, CAPABILITY_MINOR, MULTIPROCESSORS = 75, 76, 16


def driver():
    for name in ("libcuda.so", "libcuda.so.1"):  # in the order in which libadamw looks
        try:
            return ctypes.CDLL(name)
        except OSError:
            pass
    sys.exit("no CUDA driver is installed")


cuda = driver()
if hasattr(cuda, "standin_name"):
    sys.exit("this libcuda.so is the stand-in, which is no GPU: take it out of LD_LIBRARY_PATH (or give --dry)")
if status := cuda.cuInit(0):
    sys.exit(f"the CUDA driver finds no device: error {status}")

name, version, n_bytes = ctypes.create_string_buffer(100), ctypes.c_int(), ctypes.c_size_t()
cuda.cuDeviceGetName(name, len(name), 0)
cuda.cuDriverGetVersion(ctypes.byref(version))
cuda.cuDeviceTotalMem_v2(ctypes.byref(n_bytes), 0)


def attribute(number):
    value = ctypes.c_int()
    cuda.cuDeviceGetAttribute(ctypes.byref(value), number, 0)
    return value.value


print(
    f"{name.value.decode()}, compute capability {attribute(CAPABILITY_MAJOR)}.{attribute(CAPABILITY_MINOR)}, "
    f"{attribute(MULTIPROCESSORS)} multiprocessors, {n_bytes.value / 2**30:.1f} GiB; "
    f"a driver for CUDA {version.value // 1000}.{version.value % 1000 // 10}"
)
