"""What a step costs on many ranks: a model of its phases, held against measurements.

usage: model.py <lines that benches/ranks/step.c has printed> <plot.svg>
       model.py --link <such lines over benches/ranks/link.sh, each with the rate in front>

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
  cost the processor and the link some time each; and 4 all-reduces of few numbers, log2 r deep, at
  one latency.
- A link moves bytes while the processor works: the longer of the two counts. What travels costs the
  processor some time for each byte, too: all of it where ranks share memory, some with TCP, none
  with a network card that reads and writes memory by itself.
- adamw_mpi_step does its phases piece by piece: the processor works and the link moves bytes all the
  time. If it clips, no parameter travels before all gradients have come and are measured.
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
    copy: float  # s of the processor for a byte that is sent, and one that is received
    memory: float  # bytes/s
    coded: float  # bytes/s of a step with moments in codes
    message: float  # s of the processor
    latency: float  # s


@dataclass(frozen=True)
class Line:
    """What benches/ranks/step.c prints, in seconds, bytes and bytes/s."""

    ranks: int
    form: Format
    n: int
    clip: str
    apart: tuple
    together: float
    hidden: str
    link: float
    local: float

    @property
    def clips(self):
        return self.clip == "clipped"

    @staticmethod
    def of(line):
        ranks, name, n, clip, *numbers = line.split()
        *times, median, low, high, _, link, local = map(float, numbers)
        grads, step, gather, together = (1e-3 * ms for ms in times)
        return Line(
            int(ranks),
            FORMATS[name],
            int(n),
            clip,
            (grads, step, gather),
            together,
            f"{median:.0%} ({low:.0%} to {high:.0%})",
            1e9 * link,
            1e9 * local,
        )


def works(form, n, ranks, machine):
    """The seconds of the processor in add_grads, step and all_gather, and those of the link."""
    part = n / ranks
    away = n * (ranks - 1) / ranks
    adding = part * (ranks * (form.grad + 4) + 8) / machine.memory
    rate = machine.coded if form.name == FORMATS["8bit"].name else machine.memory
    buckets = math.ceil(part * form.grad / max(BUCKET / ranks, LEAST))
    messages = (ranks - 1) * buckets * machine.message
    agreeing = 4 * math.ceil(math.log2(ranks)) * machine.latency
    grads = adding + form.grad * away * machine.copy + messages
    gather = form.param * away * machine.copy + messages
    step = part * form.step / rate + agreeing
    links = [size * away / machine.link + messages for size in (form.grad, form.param)]
    return (grads, step, gather), links


def phases(form, n, ranks, machine):
    """The seconds of add_grads, step and all_gather, one by one."""
    (grads, step, gather), (grads_link, params_link) = works(form, n, ranks, machine)
    return max(grads, grads_link), step, max(gather, params_link)


def whole(form, n, ranks, machine, clips):
    """The seconds of adamw_mpi_step."""
    (grads, step, gather), (grads_link, params_link) = works(form, n, ranks, machine)
    if not clips:
        return max(grads + step + gather, grads_link + params_link)
    measuring = n / ranks * 4 / machine.memory
    return max(grads + measuring, grads_link) + max(step - measuring + gather, params_link)


def hidden(apart, together):
    """What a step as one call saves, as a share of the phases in which bytes travel."""
    grads, _, gather = apart
    return (sum(apart) - together) / (grads + gather)


def bytes_held(form, ranks):
    """Bytes for each parameter on a rank: the parameter and its gradient, sums and state."""
    return form.param + form.grad + (4 + form.state) / ranks


def compare(lines):
    """Predicts each phase from the speeds that were measured beside it, where ranks share memory."""
    print("| ranks | format | add_grads, ms | model | step, ms | model | all_gather, ms | model |")
    print("|---|---|---|---|---|---|---|---|")
    rows = [line for line in map(Line.of, lines) if line.clips]
    memory = {line.ranks: line.local for line in rows if line.form is FORMATS["split"]}
    for line in rows:
        copy = 1 / line.link if line.ranks > 1 else 0
        machine = Machine(math.inf, copy, memory[line.ranks], line.local, 1e-6, 1e-6)
        at = phases(line.form, line.n, line.ranks, machine)
        cells = [f"{1e3 * m:.1f} | {1e3 * p:.1f}" for m, p in zip(line.apart, at)]
        print(f"| {line.ranks} | {line.form.name} | " + " | ".join(cells) + " |")


def overlap(lines):
    """What a step as one call saves where ranks share memory."""
    print("\n| ranks | format | | phases one by one, ms | adamw_mpi_step, ms | hidden |")
    print("|---|---|---|---|---|---|")
    for line in map(Line.of, lines):
        if line.ranks > 1:
            cells = f"{line.clip} | {1e3 * sum(line.apart):.1f} | {1e3 * line.together:.1f}"
            print(f"| {line.ranks} | {line.form.name} | {cells} | {line.hidden} |")


RATES = {"1gbit": 1e9 / 8, "5gbit": 5e9 / 8, "10gbit": 10e9 / 8, "1000gbit": math.inf}


def over_link(lines):
    """Predicts phases and whole steps over a link that works by itself, from its rate, and from what
    its bytes cost the processor: the time of an exchange over a link that has no limit."""
    pairs = [(rate, Line.of(line)) for rate, line in (line.split(" ", 1) for line in lines)]
    free = [line.link for rate, line in pairs if RATES[rate] == math.inf]
    copy = len(free) / sum(free)
    memory = {rate: line.local for rate, line in pairs if line.form is FORMATS["split"]}
    print("| link | format | | phases one by one, ms | model | whole, ms | model | hidden | model |")
    print("|---|---|---|---|---|---|---|---|---|")
    for rate, line in pairs:
        machine = Machine(RATES[rate], copy, memory[rate], line.local, 1e-6, 1e-4)
        apart = phases(line.form, line.n, line.ranks, machine)
        together = whole(line.form, line.n, line.ranks, machine, line.clips)
        measured = " + ".join(f"{1e3 * phase:.1f}" for phase in line.apart)
        predicted = " + ".join(f"{1e3 * phase:.1f}" for phase in apart)
        print(
            f"| {rate} | {line.form.name} | {line.clip} | {measured} | {predicted} | "
            f"{1e3 * line.together:.1f} | {1e3 * together:.1f} | {line.hidden} | "
            f"{hidden(apart, together):.0%} |"
        )


# A node of 2026 with one rank for each of its network cards of 400 Gbit/s.
NODE = Machine(link=45e9, copy=0, memory=300e9, coded=150e9, message=5e-7, latency=3e-6)
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
    with open(sys.argv[2 if sys.argv[1] == "--link" else 1], encoding="utf-8") as file:
        measured = file.read().splitlines()
    if sys.argv[1] == "--link":
        over_link(measured)
    else:
        compare(measured)
        overlap(measured)
        table()
        plot(sys.argv[2])
