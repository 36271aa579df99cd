"""The cases that optimizers are compared on, and who takes part in each."""

import dataclasses

WIDTH = 768
BLOCK = [WIDTH, WIDTH, 3 * WIDTH * WIDTH, 3 * WIDTH, WIDTH * WIDTH, WIDTH, WIDTH, WIDTH, 4 * WIDTH * WIDTH, 4 * WIDTH]
GPT2 = [50257 * WIDTH, 1024 * WIDTH] + 12 * (BLOCK + [4 * WIDTH * WIDTH, WIDTH]) + [WIDTH, WIDTH]
TORCH = ["PyTorch fused", "PyTorch foreach", "DeepSpeed CPUAdam"]


@dataclasses.dataclass
class Case:
    name: str
    title: str
    lengths: list
    peers: list


ALL = [
    Case("flat", "f32, one tensor of 64 Mi", [64 << 20], ["the same traffic", *TORCH, "Paddle"]),
    Case("gpt2", "f32, GPT-2 124M", GPT2, [*TORCH, "Paddle"]),
    Case("clip and clear", "f32, GPT-2 124M, clip, step, clear", GPT2, [*TORCH, "Paddle"]),
    Case("bf16 master", "bf16, GPT-2 124M, exact f32 master", GPT2, TORCH),
    Case("thousand", "f32, 1,000 of 1,024", [1024] * 1000, [*TORCH, "Paddle"]),
    Case("tiny", "f32, 10,000 of 64", [64] * 10000, [*TORCH, "Paddle"]),
    Case("8-bit", "f32, 8-bit moments, 16 Mi", [16 << 20], ["bitsandbytes 8-bit"]),
]
CASES = {case.name: case for case in ALL}
