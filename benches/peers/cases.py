"""The cases that optimizers are compared on, and who takes part in each."""

import dataclasses

WIDTH = 768
BLOCK = [WIDTH, WIDTH, 3 * WIDTH * WIDTH, 3 * WIDTH, WIDTH * WIDTH, WIDTH, WIDTH, WIDTH, 4 * WIDTH * WIDTH, 4 * WIDTH]
GPT2 = [50257 * WIDTH, 1024 * WIDTH] + 12 * (BLOCK + [4 * WIDTH * WIDTH, WIDTH]) + [WIDTH, WIDTH]

EAGER = ["PyTorch fused", "PyTorch foreach", "DeepSpeed CPUAdam"]
COMPILED = ["PyTorch fused, compiled", "PyTorch foreach, compiled", "optax, jit"]
EVERYONE = [*EAGER, *COMPILED, "Paddle"]


@dataclasses.dataclass
class Case:
    name: str
    title: str
    lengths: list
    peers: list
    dtype: str = "float32"
    master: bool = False


ALL = [
    Case("flat", "f32, one tensor of 64 Mi", [64 << 20], ["the same traffic", *EVERYONE]),
    Case("gpt2", "f32, GPT-2 124M", GPT2, EVERYONE),
    Case("clip-clear", "f32, GPT-2 124M, clip, step, clear", GPT2, EVERYONE),
    Case("bf16-master", "bf16, GPT-2 124M, exact f32 master", GPT2, [*EAGER, *COMPILED], "bfloat16", True),
    Case("f16-master", "f16, GPT-2 124M, f32 master", GPT2, [*EAGER, *COMPILED], "float16", True),
    Case("f16", "f16, GPT-2 124M, f32 moments", GPT2, ["DeepSpeed CPUAdam"], "float16"),
    # PyTorch had not compiled the foreach step of 1,000 tensors after 6 minutes of processor time.
    Case("thousand", "f32, 1,000 of 1,024", [1024] * 1000, [*EAGER, "optax, jit", "Paddle"]),
    Case("tiny", "f32, 10,000 of 64", [64] * 10000, [*EAGER, "Paddle"]),
    Case("8-bit", "f32, 8-bit moments, 16 Mi", [16 << 20], ["bitsandbytes 8-bit", "torchao 8-bit"]),
]
CASES = {case.name: case for case in ALL}
