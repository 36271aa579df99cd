"""How fast a step is on a GPU, beside a copy of as many bytes and, where PyTorch is installed, its fused AdamW.

    bandwidth.py <libadamw.so> <elements>...

One line a case: the median of the rounds, what the step must move, and that by the time. f32: 16 bytes are read and
12 written for each element; a copy of 14 bytes moves as many.
"""

import ctypes
import statistics
import sys
import time

ROUNDS = 20


class Tensor(ctypes.Structure):
    """DLPack's DLTensor."""

    _fields_ = [
        ("data", ctypes.c_void_p),
        ("device_type", ctypes.c_int32),
        ("device_id", ctypes.c_int32),
        ("ndim", ctypes.c_int32),
        ("code", ctypes.c_uint8),
        ("bits", ctypes.c_uint8),
        ("lanes", ctypes.c_uint16),
        ("shape", ctypes.POINTER(ctypes.c_int64)),
        ("strides", ctypes.POINTER(ctypes.c_int64)),
        ("byte_offset", ctypes.c_uint64),
    ]

    @staticmethod
    def of(address, n):
        shape = (ctypes.c_int64 * 1)(n)
        tensor = Tensor(address, 2, 0, 1, 2, 32, 1, shape, None, 0)
        tensor.keeps = shape
        return tensor


class ParamConfig(ctypes.Structure):
    """The first fields of adamw_param_config; the library takes the rest as 0."""

    _fields_ = [
        ("struct_size", ctypes.c_size_t),
        ("name", ctypes.c_char_p),
        ("param", ctypes.POINTER(Tensor)),
        ("state", ctypes.c_void_p * 4),
        ("step", ctypes.c_uint64),
        ("group", ctypes.c_uint32),
        ("no_clip", ctypes.c_uint32),
        ("regularizer_coeff", ctypes.c_double),
        ("regularizer", ctypes.c_uint32),
        ("reserved", ctypes.c_uint32),
    ]


class Driver:
    """The few functions of the CUDA driver that a host of tensors needs."""

    def __init__(self):
        try:
            self.library = ctypes.CDLL("libcuda.so.1")
        except OSError:
            self.library = ctypes.CDLL("libcuda.so")
        device, context = ctypes.c_int(), ctypes.c_void_p()
        self("cuInit", 0)
        self("cuDeviceGet", ctypes.byref(device), 0)
        self("cuDevicePrimaryCtxRetain", ctypes.byref(context), device)
        self("cuCtxSetCurrent", context)

    def __call__(self, name, *arguments):
        error = getattr(self.library, name)(*arguments)
        if error:
            sys.exit(f"{name}: CUDA error {error}")

    def zeros(self, n_bytes):
        address = ctypes.c_uint64()
        self("cuMemAlloc_v2", ctypes.byref(address), ctypes.c_size_t(n_bytes))
        self("cuMemsetD8_v2", address, ctypes.c_ubyte(0), ctypes.c_size_t(n_bytes))
        return address

    def free(self, address):
        self("cuMemFree_v2", address)


class Handle:
    """An optimizer of one parameter on the device."""

    def __init__(self, library, address, n, grad):
        self.library, self.handle = library, ctypes.c_void_p()
        self.ok(library.adamw_create(None, ctypes.byref(self.handle)))
        number, tensor = ctypes.c_uint32(), Tensor.of(address, n)
        config = ParamConfig(ctypes.sizeof(ParamConfig), b"w", ctypes.pointer(tensor))
        self.ok(library.adamw_add_param(self.handle, ctypes.byref(config), ctypes.byref(number)))
        self.ok(library.adamw_set_grad(self.handle, number, ctypes.byref(Tensor.of(grad, n))))

    def ok(self, status):
        if status:
            sys.exit(self.library.adamw_last_error().decode())

    def __getattr__(self, name):
        return lambda *arguments: self.ok(getattr(self.library, f"adamw_{name}")(self.handle, *arguments))


def timed(work, wait):
    """The median of some rounds, in seconds."""
    work()
    wait()
    times = []
    for _ in range(ROUNDS):
        start = time.perf_counter()
        work()
        wait()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def show(case, n, bytes_each, seconds):
    print(f"{case:34} {n:>13,}  {seconds * 1e3:9.3f} ms  {n * bytes_each / seconds / 1e9:8.1f} GB/s", flush=True)


def main():
    library = ctypes.CDLL(sys.argv[1])
    library.adamw_last_error.restype = ctypes.c_char_p
    driver = Driver()
    wait = lambda: driver("cuCtxSynchronize")
    for n in (int(float(size)) for size in sys.argv[2:]):
        param, grad = driver.zeros(4 * n), driver.zeros(4 * n)
        handle = Handle(library, param.value, n, grad.value)
        show("step, f32", n, 28, timed(handle.step, wait))
        handle.destroy()
        source, target = driver.zeros(14 * n), driver.zeros(14 * n)
        copy = lambda: driver("cuMemcpyDtoD_v2", target, source, ctypes.c_size_t(14 * n))
        show("a copy of as many bytes", n, 28, timed(copy, wait))
        for address in (param, grad, source, target):
            driver.free(address)
        beside_torch(library, n)


def beside_torch(library, n):
    try:
        import torch
    except ImportError:
        return
    if not torch.cuda.is_available():
        return
    theirs = torch.zeros(n, device="cuda", requires_grad=True)
    theirs.grad = torch.ones_like(theirs)
    optimizer = torch.optim.AdamW([theirs], fused=True)
    show("torch.optim.AdamW(fused=True)", n, 28, timed(optimizer.step, torch.cuda.synchronize))
    try:
        from apex.optimizers import FusedAdam

        optimizer = FusedAdam([theirs])
        show("apex FusedAdam", n, 28, timed(optimizer.step, torch.cuda.synchronize))
    except ImportError:
        pass
    # On PyTorch's own tensors and stream, captured by PyTorch.
    ours, grad, lr = torch.zeros(n, device="cuda"), torch.ones(n, device="cuda"), torch.full((1,), 1e-3, device="cuda")
    handle = Handle(library, ours.data_ptr(), n, grad.data_ptr())
    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        handle.set_stream(ctypes.c_void_p(stream.cuda_stream))
        inputs = (ctypes.c_size_t * 4)(32, lr.data_ptr(), 0, 0)
        handle.set_device_inputs(inputs)
        handle.prepare()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, stream=stream):
            handle.step()
        show("the step as a graph of PyTorch's", n, 28, timed(graph.replay, torch.cuda.synchronize))
    handle.destroy()


main()
