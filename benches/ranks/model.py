"""What a step costs on many ranks: a model of its phases, held against measurements.

usage: model.py <lines that benches/ranks/step.c has printed> <plot.svg>

Assumptions, all per rank and step, for n parameters on r ranks, of which each is one process with
one link:

- add_grads: a rank sends its gradients of the other ranks' parts, and receives as many bytes of its
  own part, at the speed of its link in both directions at once: g n (r - 1) / r bytes each way.
- Adding reads each received gradient, and reads and writes a sum that is in cache for the most part:
  n / r (r (g + 4) + 8) bytes at the speed of memory, where the 4 and the 8 are fitted.
- step: n / r times the bytes that a step of the format moves, at the speed of memory, and the
  gradient once more for clipping. Codes cost more than their bytes: their speed is an input, too.
- all_gather: p n (r - 1) / r bytes each way.
- Messages: r - 1 each way for a bucket of 4 MiB (or 64 KiB of each rank, if that is more), which
  cost the processor some time each; and 4 all-reduces of few numbers, log2 r deep, at one latency.
- A network card moves bytes while the processor adds (the longer of the two counts). Where ranks
  share memory, the processor does both (their sum counts). The step overlaps with neither.
- Computing the gradients is not part of it, and no link is shared with it or with other ranks.
"""

import math
import sys
from dataclasses import dataclass


@dataclass(frozen=True)
class Format:
    """Bytes of an element: of a gradient and a parameter that travel, what a step moves, the state."""

    name: str
    grad: int
    param: int
    step: float
    state: float


FORMATS = {
    "f32": Format("f32", 4, 4, 32, 8),
    "split": Format("bf16 split", 2, 2, 32, 10),
    "8bit": Format("bf16 split, 8-bit moments", 2, 2, 20, 4.03),
}
BUCKET, LEAST = 4 << 20, 64 << 10


@dataclass(frozen=True)
class Machine:
    link: float  # bytes/s, each way
    memory: float  # bytes/s
    coded: float  # bytes/s of a step with moments in codes
    message: float  # s of the processor
    latency: float  # s
    overlaps: bool  # adding and the link


def phases(form, n, ranks, machine):
    """The seconds of add_grads, step and all_gather."""
    part = n / ranks
    away = n * (ranks - 1) / ranks
    adding = part * (ranks * (form.grad + 4) + 8) / machine.memory
    sending = form.grad * away / machine.link
    rate = machine.coded if form.name == FORMATS["8bit"].name else machine.memory
    buckets = math.ceil(part * form.grad / max(BUCKET / ranks, LEAST))
    messages = (ranks - 1) * buckets * machine.message
    agreeing = 4 * math.ceil(math.log2(ranks)) * machine.latency
    both = max(adding, sending) if machine.overlaps else adding + sending
    step = part * form.step / rate + agreeing
    return both + messages, step, form.param * away / machine.link + messages


def bytes_held(form, ranks):
    """Bytes for each parameter on a rank: the parameter and its gradient, sums and state."""
    return form.param + form.grad + (4 + form.state) / ranks


def compare(lines):
    """Predicts each phase from the speeds that were measured beside it, and says how much of what
    travels a whole step hides."""
    print("| ranks | format | add_grads, ms | model | step, ms | model | all_gather, ms | model |")
    print("|---|---|---|---|---|---|---|---|")
    every = [line.split() for line in lines]
    rows = [row[:3] + row[4:] for row in every if row[3] == "clipped"]
    memory = {ranks: float(rate) * 1e9 for ranks, name, *_, rate in rows if name == "split"}
    for ranks, name, n, *numbers in rows:
        grads, step, gather, _, _, link, rate = map(float, numbers)
        speeds = Machine(max(link, 1e-9) * 1e9, memory[ranks], rate * 1e9, 1e-6, 1e-6, False)
        at = [1e3 * s for s in phases(FORMATS[name], int(n), int(ranks), speeds)]
        cells = [f"{m:.1f} | {p:.1f}" for m, p in zip((grads, step, gather), at)]
        print(f"| {ranks} | {FORMATS[name].name} | " + " | ".join(cells) + " |")


def overlap(lines):
    """What the step as one call saves, as a share of the phases in which bytes travel."""
    print("\n| ranks | format | | phases one by one, ms | adamw_mpi_step, ms | hidden |")
    print("|---|---|---|---|---|---|")
    for ranks, name, _, clip, *numbers in map(str.split, lines):
        grads, step, gather, whole = map(float, numbers[:4])
        if int(ranks) > 1:
            apart = grads + step + gather
            hidden = (apart - whole) / (grads + gather)
            cells = f"{clip} | {apart:.1f} | {whole:.1f} | {hidden:.0%}"
            print(f"| {ranks} | {FORMATS[name].name} | {cells} |")


# A node of 2026 with one rank for each of its network cards of 400 Gbit/s.
NODE = Machine(link=45e9, memory=300e9, coded=150e9, message=5e-7, latency=3e-6, overlaps=True)
SIZES = (1e9, 1e10, 1e11, 1e12)


def table():
    print("\n| parameters | ranks | format | GB on a rank | add_grads, s | step, s | all_gather, s |")
    print("|---|---|---|---|---|---|---|")
    for n in SIZES:
        for ranks in (64, 1024):
            for form in FORMATS.values():
                held = bytes_held(form, ranks) * n / 1e9
                cells = " | ".join(f"{s:.3g}" for s in phases(form, n, ranks, NODE))
                print(f"| {n:.0e} | {ranks} | {form.name} | {held:.3g} | {cells} |")


def plot(path):
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams["svg.hashsalt"] = "libadamw"
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, len(SIZES), figsize=(13, 3.6), layout="constrained")
    counts = [2**i for i in range(11)]
    for axis, n in zip(axes, SIZES):
        for form in FORMATS.values():
            all_of_it = [sum(phases(form, n, r, NODE)) for r in counts]
            (line,) = axis.plot(counts, all_of_it, label=form.name)
            alone = [phases(form, n, r, NODE)[1] for r in counts]
            axis.plot(counts, alone, linestyle=":", color=line.get_color())
        axis.set(xscale="log", yscale="log", xlabel="ranks", title=f"{n:.0e} parameters")
    axes[0].set_ylabel("seconds a step (dotted: the update alone)")
    axes[0].legend(fontsize="small")
    figure.savefig(path, metadata={"Date": None})


if __name__ == "__main__":
    with open(sys.argv[1], encoding="utf-8") as file:
        measured = file.read().splitlines()
    compare(measured)
    overlap(measured)
    table()
    plot(sys.argv[2])
