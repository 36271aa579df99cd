"""The error of 8-bit and 4-bit codes on real moments of Adam: `make quantization`.

Takes the moments that examples-c/chargpt has after training, codes each block in several ways, and compares what becomes
of the update m / (sqrt(v) + eps). Codes of 8 bits are held against each other rounded to nearest, codes of 4 bits rounded
at random: to nearest, a moment in so few values would never move.
"""

import subprocess
import sys

import numpy as np

EPS = 1e-8
BLOCK = 256


def float_code(exponent_bits, fraction_bits):
    """Magnitudes of a small float without a sign, the largest 1, and 0."""
    n = 2 ** (exponent_bits + fraction_bits)
    below = np.arange(n - 1)  # codes from the one of 1 down
    octave, part = -(below // 2**fraction_bits), below % 2**fraction_bits
    octave = np.where(part > 0, octave - 1, octave)
    fraction = np.where(part > 0, 2 - part / 2**fraction_bits, 1)
    return np.concatenate([[0], np.sort(fraction * 2.0**octave)])


def tapered_code(n):
    """Of n codes: 1, then sixteen to an octave for half of them, eight to an octave for the others, and 0."""
    values, top = [1.0], 1.0
    while len(values) < n:
        each = 16 if len(values) <= n // 2 else 8
        values += [top * (1 - k / (2 * each)) for k in range(1, each + 1)]
        top /= 2
    return np.sort([0.0] + values[: n - 1])


def linear_code(n):
    return np.arange(n) / (n - 1)


def dynamic_code(signed, decades=7):
    """The dynamic map of bitsandbytes (Dettmers et al., "8-bit Optimizers via Block-wise Quantization", ICLR 2022):
    decades, each with twice the values of the one below, at the middles of equal parts of 0.1 to 1."""
    values = [0.0, 1.0]
    for decade in range(decades):
        edges = np.linspace(0.1, 1, 2 ** (decade if signed else decade + 1) + 1)
        values += list(10.0 ** (decade - decades + 1) * (edges[:-1] + edges[1:]) / 2)
    return np.sort(np.array(values))


FIRST = {
    "dynamic map": dynamic_code(True),
    "linear": linear_code(128),
    "float e2m5": float_code(2, 5),
    "float e3m4": float_code(3, 4),
    "float e4m3": float_code(4, 3),
    "float e5m2": float_code(5, 2),
    "tapered": tapered_code(128),
}
SECOND = {
    "dynamic map": dynamic_code(False),
    "linear": linear_code(256),
    "float e3m5": float_code(3, 5),
    "float e4m4": float_code(4, 4),
    "float e5m3": float_code(5, 3),
    "float e6m2": float_code(6, 2),
    "tapered": tapered_code(256),
}


def octaves(n, each=1):
    """Of n codes: 1, then so many to an octave, evenly in the exponent, and 0."""
    return np.concatenate([[0], 2.0 ** (-np.arange(n - 2, -1, -1) / each)])


def squares(n):
    return linear_code(n) ** 2


FIRST_OF_4 = {
    "dynamic map": dynamic_code(True, 3),
    "linear": linear_code(8),
    "squares": squares(8),
    "half octaves": octaves(8, 2),
    "octaves": octaves(8),
}
SECOND_OF_4 = {
    "dynamic map": dynamic_code(False, 3),
    "linear": linear_code(16),
    "squares": squares(16),
    "half octaves": octaves(16, 2),
    "octaves": octaves(16),
}


def coded(values, magnitudes, keep_positive=False, rng=None, block=BLOCK):
    """The nearest values (with rng: one of the two neighbours, right on average) of blocks with a scale each."""
    blocks = values.reshape(-1, block)
    scales = np.abs(blocks).max(axis=1, keepdims=True)
    scales[scales == 0] = 1
    normal = np.abs(blocks) / scales
    above = np.clip(np.searchsorted(magnitudes, normal, side="right"), 1, len(magnitudes) - 1)
    lower, upper = magnitudes[above - 1], magnitudes[above]
    part = (normal - lower) / (upper - lower)
    goes_up = part >= 0.5 if rng is None else part > rng.random(part.shape)
    code = np.where(goes_up, upper, lower)
    if keep_positive:
        code = np.where((normal > 0) & (code == 0), magnitudes[1], code)
    return (code * scales * np.sign(blocks)).reshape(values.shape)


def rms(values):
    return float(np.sqrt(np.mean(np.square(values, dtype=np.float64))))


def read(path):
    """All larger tensors' moments, in whole blocks."""
    data = open(path, "rb").read()
    pairs, at = [], 0
    while at < len(data):
        n = int(np.frombuffer(data, np.uint64, 1, at)[0])
        m = np.frombuffer(data, np.float32, n, at + 8).astype(np.float64)
        v = np.frombuffer(data, np.float32, n, at + 8 + 4 * n).astype(np.float64)
        at += 8 + 8 * n
        whole = n // BLOCK * BLOCK
        pairs.append((m[:whole], v[:whole]))
    return np.concatenate([m for m, _ in pairs]), np.concatenate([v for _, v in pairs])


def update(m, v):
    with np.errstate(divide="ignore", over="ignore"):
        return m / (np.sqrt(v) + EPS)


def main(chargpt, plot):
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams["svg.hashsalt"] = "libadamw"
    from matplotlib import pyplot

    subprocess.run([chargpt, "--dump", "build/moments.bin"], check=True, capture_output=True)
    m, v = read("build/moments.bin")
    exact = update(m, v)
    size = rms(exact)
    print(f"{len(m)} elements after 400 steps of chargpt; errors are root mean squares, relative to the update's\n")

    print("| code of exp_avg | rms error of m / rms m | m becomes 0 | error of the update |\n|---|---|---|---|")
    first, second = {}, {}
    for name, code in FIRST.items():
        c = coded(m, code)
        first[name] = rms(update(c, v) - exact) / size
        print(f"| {name} | {rms(c - m) / rms(m):.4f} | {np.mean((c == 0) & (m != 0)):.4f} | {first[name]:.4f} |")

    print("\n| code of exp_avg_sq | v becomes 0 | error of the update | never 0: error of the update |\n|---|---|---|---|")
    for name, code in SECOND.items():
        c, kept = coded(v, code), coded(v, code, keep_positive=True)
        zero = np.mean((c == 0) & (v > 0))
        second[name] = rms(update(m, kept) - exact) / size
        print(f"| {name} | {zero:.4f} | {rms(update(m, c) - exact) / size:.4g} | {second[name]:.4f} |")
    randomly = coded(v, SECOND["tapered"], True, np.random.default_rng(1))
    print(f"| tapered, rounded at random | 0.0000 | | {rms(update(m, randomly) - exact) / size:.4f} |")
    print("\n| both coded to nearest | error of the update |\n|---|---|")
    for name in ("dynamic map", "tapered"):
        both = update(coded(m, FIRST[name]), coded(v, SECOND[name], keep_positive=True))
        print(f"| {name} | {rms(both - exact) / size:.4f} |")

    print("\n| 4 bits, rounded at random | exp_avg: error of the update | exp_avg_sq, never 0 | both |\n|---|---|---|---|")
    for name in FIRST_OF_4:
        rng = np.random.default_rng(1)
        c = coded(m, FIRST_OF_4[name], rng=rng, block=128)
        d = coded(v, SECOND_OF_4[name], True, rng, block=128)
        errors = [rms(update(*pair) - exact) / size for pair in ((c, v), (m, d), (c, d))]
        print(f"| {name} | " + " | ".join(f"{error:.3f}" for error in errors) + " |")

    figure, axes = pyplot.subplots(1, 3, figsize=(15, 4))
    axes[0].barh(list(first), list(first.values()), color="C0")
    axes[0].set(title="error of the update with exp_avg coded", xlabel="root mean square, relative")
    axes[1].barh(list(second), list(second.values()), color="C1")
    axes[1].set(title="with exp_avg_sq coded, never to 0", xlabel="root mean square, relative")
    for label, values in (("exp_avg", np.abs(m)), ("exp_avg_sq", v)):
        blocks = values.reshape(-1, BLOCK)
        ratios = (blocks / blocks.max(axis=1, keepdims=True).clip(1e-300)).ravel()
        axes[2].hist(np.log2(ratios[ratios > 0]), bins=60, range=(-30, 0), histtype="step", density=True, label=label)
    axes[2].axvline(-12, color="C0", linestyle=":", linewidth=1)
    axes[2].axvline(-24, color="C1", linestyle=":", linewidth=1)
    axes[2].set(title="where elements lie (dots: ends of the codes)", xlabel="octaves below the largest of the block")
    axes[2].legend()
    figure.tight_layout()
    figure.savefig(plot, metadata={"Date": None})


if __name__ == "__main__":
    main(*sys.argv[1:])
