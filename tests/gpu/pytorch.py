"""PyTorch's own tensors, stepped in place through the C interface: bits beside the CPU's, capture by torch.cuda.graph, and the time of a
step beside PyTorch's fused AdamW and apex's. (tests/gpu/run.sh runs it.)

    python pytorch.py libadamw.so cuda|cpu <elements>...

On the CPU, which shows only that the program itself works, nothing is captured."""

import ctypes
import importlib.util
import statistics
import sys
import time

import torch

LR, ROUNDS, STEPS = 0.01, 11, 10
OUT_OF_MEMORY = 3  # ADAMW_STATUS_OUT_OF_MEMORY


class Tensor(ctypes.Structure):
    """adamw_tensor, which is DLPack's."""

    _fields_ = [
        ("data", ctypes.c_void_p),
        ("device_type", ctypes.c_int32),
        ("device_id", ctypes.c_int32),
        ("ndim", ctypes.c_int32),
        ("code", ctypes.c_uint8),
        ("bits", ctypes.c_uint8),
        ("lanes", ctypes.c_uint16),
        ("shape", ctypes.POINTER(ctypes.c_int64)),
        ("strides", ctypes.c_void_p),
        ("byte_offset", ctypes.c_uint64),
    ]


class ParamConfig(ctypes.Structure):
    """adamw_param_config; what is not named here is zero, its default."""

    _fields_ = [
        ("struct_size", ctypes.c_size_t),
        ("name", ctypes.c_char_p),
        ("param", ctypes.POINTER(Tensor)),
        ("rest", ctypes.c_uint64 * 13),
    ]


class DeviceInputs(ctypes.Structure):
    _fields_ = [
        ("struct_size", ctypes.c_size_t),
        ("lr", ctypes.c_void_p),
        ("grad_scale", ctypes.c_void_p),
        ("found_inf", ctypes.c_void_p),
    ]


def described(tensor):
    assert tensor.is_contiguous() and tensor.dtype == torch.float32
    n = (ctypes.c_int64 * 1)(tensor.numel())
    device_type, device_id = (2, tensor.device.index) if tensor.is_cuda else (1, 0)
    return Tensor(tensor.data_ptr(), device_type, device_id, 1, 2, 32, 1, n, None, 0)


class AdamW:
    """A handle with these parameters and gradients, on the stream that is PyTorch's at the time."""

    def __init__(self, library, params, grads):
        self.library = library
        self.handle = ctypes.c_void_p()
        self.call("adamw_create", None, ctypes.byref(self.handle))
        self.set_lr(LR)
        for number, (param, grad) in enumerate(zip(params, grads)):
            added = ParamConfig(ctypes.sizeof(ParamConfig), b"w%d" % number, ctypes.pointer(described(param)))
            self.on_handle("adamw_add_param", ctypes.byref(added), ctypes.byref(ctypes.c_uint32()))
            self.on_handle("adamw_set_grad", ctypes.c_uint32(number), ctypes.byref(described(grad)))

    def call(self, function, *arguments):
        if status := getattr(self.library, function)(*arguments):
            failure = MemoryError if status == OUT_OF_MEMORY else RuntimeError
            raise failure(self.library.adamw_last_error().decode())

    def on_handle(self, function, *arguments):
        self.call(function, self.handle, *arguments)

    def set_lr(self, lr):
        self.on_handle("adamw_set_lr", ctypes.c_double(lr))

    def set_stream(self, stream):
        self.on_handle("adamw_set_stream", ctypes.c_void_p(stream.cuda_stream))

    def step(self):
        self.on_handle("adamw_step")

    def destroy(self):
        self.on_handle("adamw_destroy")


def several(device):
    """Parameters of awkward lengths, and memory for their gradients."""
    torch.manual_seed(1)
    params = [torch.randn(n).to(device) for n in (40_003, 1, 4_096, 131)]
    return params, [torch.empty_like(param) for param in params]


def write(grads, step):
    torch.manual_seed(step)
    for grad in grads:
        grad.copy_(torch.randn(grad.shape))


def same_bits(params, others):
    return all(torch.equal(a.cpu().view(torch.int32), b.cpu().view(torch.int32)) for a, b in zip(params, others))


def steps(library, device):
    params, grads = several(device)
    host_params, host_grads = several("cpu")
    torch_params, torch_grads = several(device)
    ours, host = AdamW(library, params, grads), AdamW(library, host_params, host_grads)
    for param, grad in zip(torch_params, torch_grads):
        param.grad = grad
    theirs = torch.optim.AdamW(torch_params, lr=LR, weight_decay=0.01, fused=True)
    for step in range(20):
        for some in (grads, host_grads, torch_grads):
            write(some, step)
        ours.step()
        host.step()
        theirs.step()
    assert same_bits(params, host_params), "other bits than on the CPU"
    far = max((a - b).abs().max().item() for a, b in zip(params, torch_params))
    assert far < 1e-5, f"{far} from PyTorch's"
    print(f"- 20 steps of PyTorch's tensors on {device}: the CPU's bits; at most {far:.1e} from torch.optim.AdamW")
    ours.destroy()
    host.destroy()


def graph(library):
    """A gradient and a step, captured together, beside the same on the CPU."""
    params, grads = several("cuda")
    host_params, host_grads = several("cpu")
    targets = [torch.full_like(param, 0.5) for param in params]
    lr = torch.full((1,), LR, device="cuda")
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    ours, host = AdamW(library, params, grads), AdamW(library, host_params, host_grads)
    ours.set_stream(stream)
    inputs = DeviceInputs(ctypes.sizeof(DeviceInputs), lr.data_ptr())
    ours.on_handle("adamw_set_device_inputs", ctypes.byref(inputs))
    ours.on_handle("adamw_prepare")
    captured = torch.cuda.CUDAGraph()
    with torch.cuda.graph(captured, stream=stream):
        for param, target, grad in zip(params, targets, grads):
            torch.sub(param, target, out=grad)
        ours.step()
    for step in range(10):
        now = torch.tensor(LR / (1 + step))
        lr.fill_(now)
        captured.replay()
        for param, grad in zip(host_params, host_grads):
            torch.sub(param, torch.full_like(param, 0.5), out=grad)
        host.set_lr(now.item())
        host.step()
    torch.cuda.synchronize()
    assert same_bits(params, host_params), "other bits than on the CPU"
    print("- torch.cuda.graph of a gradient and a step, replayed 10 times with another learning rate each: the CPU's bits")
    ours.destroy()
    host.destroy()


def seconds(step, device):
    """The median of a step's time, after a round that is not counted."""
    wait = torch.cuda.synchronize if device == "cuda" else lambda: None
    rounds = []
    for _ in range(ROUNDS + 1):
        wait()
        start = time.perf_counter()
        for _ in range(STEPS):
            step()
        wait()
        rounds.append((time.perf_counter() - start) / STEPS)
    return statistics.median(rounds[1:])


def peers(params):
    yield "torch.optim.AdamW(fused=True)", torch.optim.AdamW(params, lr=LR, fused=True)
    if params[0].is_cuda and importlib.util.find_spec("apex"):
        from apex.optimizers import FusedAdam

        yield "apex FusedAdam", FusedAdam(params, lr=LR, weight_decay=0.01)


def time_of(library, device, n_elements, n_tensors):
    params = [torch.full((n_elements // n_tensors,), 0.5, device=device) for _ in range(n_tensors)]
    grads = [torch.full_like(param, 0.01) for param in params]
    ours = AdamW(library, params, grads)
    if device == "cuda":
        ours.set_stream(torch.cuda.current_stream())
    took = seconds(ours.step, device)
    ours.destroy()
    for param, grad in zip(params, grads):
        param.grad = grad
    for name, optimizer in peers(params):
        theirs = seconds(optimizer.step, device)
        print(f"| {n_elements:.0e} | {n_tensors} | {took * 1e3:.4f} | {name} | {theirs * 1e3:.4f} | {theirs / took:.2f} |", flush=True)
        optimizer.state.clear()


def main(path, device, *lengths):
    library = ctypes.CDLL(path)
    library.adamw_last_error.restype = ctypes.c_char_p
    print(f"PyTorch {torch.__version__}:\n")
    steps(library, device)
    if device == "cuda":
        graph(library)
    print("\n| elements, f32 | tensors | libadamw, ms | another | ms | its time over libadamw's |\n|---|---|---|---|---|---|")
    for n_elements in map(int, map(float, lengths)):
        for n_tensors in (1, 1000):
            torch.cuda.empty_cache()  # memory that PyTorch keeps for itself is none of libadamw's
            try:
                time_of(library, device, n_elements, n_tensors)
            except (MemoryError, torch.cuda.OutOfMemoryError):
                print(f"| {n_elements:.0e} | {n_tensors} | does not fit | | | |")


if __name__ == "__main__":
    main(*sys.argv[1:])
