"""A step and its communication on two ranks of this machine, beside other engines, on the shapes of GPT-2 124M in f32.

All take turns in the same run, each with two processes of one thread; the others sleep meanwhile. Prints the medians of
their times in milliseconds and the quartiles, what the reduction, the step and the gathering take of them, and ours over
theirs by rounds. Of adamw_mpi.h, the phases are measured one after the other, too: what the whole step takes less than
their sum is communication that it hides.

usage: LIBADAMW=libadamw.so PYTHONPATH=python/src peers.py GPT2, which is the program of benches/ranks/gpt2.c
"""

import os
import pathlib
import statistics
import subprocess
import sys
import tempfile

sys.path.insert(0, str(pathlib.Path(__file__).parents[1] / "peers"))
import cases

RANKS, ROUNDS, WARM = 2, 9, 2
OURS = "adamw_mpi.h, Open MPI"
ENGINES = ["DeepSpeed ZeRO-1, CPUAdam", "FSDP2, torch.optim.AdamW(fused=True)", "FSDP2, adamw.torch.AdamW"]
PATH = f"{pathlib.Path(sys.executable).parent}:{os.environ['PATH']}"  # where ninja is, for DeepSpeed
ENVIRONMENT = os.environ | {"OMP_NUM_THREADS": "1", "DS_ACCELERATOR": "cpu", "PATH": PATH}


class Engine:
    """The ranks of an engine of PyTorch's."""

    def __init__(self, name, folder):
        program = pathlib.Path(__file__).with_name("engine.py")
        store = folder / f"store-{ENGINES.index(name)}"
        start = lambda rank: subprocess.Popen(
            [sys.executable, str(program), str(rank), str(RANKS), str(store), name],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=ENVIRONMENT | {"LOCAL_RANK": str(rank)},
        )
        self.ranks = [start(rank) for rank in range(RANKS)]
        for rank in self.ranks:
            while (line := rank.stdout.readline()).strip() != "ready":  # after what DeepSpeed logs
                assert line, f"{name} has ended"

    def round(self):
        """The seconds of a step, and those of gathering, reducing and stepping, each on the rank that takes longest."""
        for rank in self.ranks:
            print("step", file=rank.stdin, flush=True)
        both = []
        for rank in self.ranks:
            while len(numbers := rank.stdout.readline().split()) != 4 or not numbers[0][0].isdigit():
                assert rank.poll() is None, "a rank has ended"
            both.append(list(map(float, numbers)))
        return [max(times) for times in zip(*both)]

    def close(self):
        for rank in self.ranks:
            rank.communicate()


class Mpi:
    """The ranks of gpt2.c."""

    def __init__(self, program, folder):
        for rank in range(RANKS):
            os.mkfifo(folder / str(rank))
        lengths = map(str, cases.GPT2)
        self.ranks = subprocess.Popen(
            ["mpirun", "--allow-run-as-root", "-n", str(RANKS), program, str(folder), *lengths],
            stdout=subprocess.PIPE, text=True,
        )
        self.commands = [open(folder / str(rank), "w") for rank in range(RANKS)]

    def ask(self, command):
        for fifo in self.commands:
            print(command, end="", file=fifo, flush=True)
        return list(map(float, self.ranks.stdout.readline().split()))

    def round(self):
        """The seconds of a step, and those of its phases, by themselves."""
        (_, whole, _), (reduce, step, gather) = self.ask("s"), self.ask("p")
        return [whole, gather, reduce, step]

    def close(self):
        for fifo in self.commands:
            print("q", end="", file=fifo, flush=True)
        self.ranks.wait()


def spread(numbers, form):
    low, middle, high = statistics.quantiles(numbers, n=4)
    return f"{middle:{form}} ({low:{form}} to {high:{form}})"


def main(program):
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        all_of_them = {OURS: Mpi(program, folder)} | {name: Engine(name, folder) for name in ENGINES}
        rounds = {name: [] for name in all_of_them}
        for _ in range(WARM + ROUNDS):
            for name, engine in all_of_them.items():
                rounds[name].append(engine.round())
        for engine in all_of_them.values():
            engine.close()
    print("| engine | step and communication, ms | gather | reduce | step |\n|---|---|---|---|---|")
    rounds = {name: times[WARM:] for name, times in rounds.items()}
    for name, times in rounds.items():
        whole, *parts = zip(*times)
        cells = " | ".join(f"{1e3 * statistics.median(part):.0f}" for part in parts)
        print(f"| {name} | {spread([1e3 * t for t in whole], '.0f')} | {cells} |")
    print()
    for ours in (OURS, ENGINES[2]):
        for theirs in ENGINES[:2]:
            ratios = [a[0] / b[0] for a, b in zip(rounds[ours], rounds[theirs])]
            print(f"{ours} over {theirs}: {spread(ratios, '.3f')}")
    hidden = [(sum(parts) - whole) / (parts[0] + parts[1]) for whole, *parts in rounds[OURS]]
    print(f"of its communication {OURS} hides {spread(hidden, '.2f')}")


if __name__ == "__main__":
    main(*sys.argv[1:])
