"""AdamW of several systems beside this library on the CPU: `make bench-peers`.

Each runs in a process of its own; in every round each takes its steps in turn, so that a machine whose speed drifts
favours none. Prints a table of medians and ratios, and draws them."""

import importlib.metadata
import os
import pathlib
import statistics
import subprocess
import sys

import cases

HERE = pathlib.Path(__file__).parent
ROUNDS = 15
PACKAGES = {"torch": "PyTorch", "deepspeed": "DeepSpeed", "paddlepaddle": "Paddle", "bitsandbytes": "bitsandbytes"}


class Worker:
    def __init__(self, peer, case, threads):
        path = f"{pathlib.Path(sys.executable).parent}:{os.environ['PATH']}"  # DeepSpeed builds itself with ninja
        environment = os.environ | {"OMP_NUM_THREADS": str(threads), "DS_ACCELERATOR": "cpu", "PATH": path}
        command = [sys.executable, str(HERE / "worker.py"), peer, case.name, str(threads)]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        self.process = subprocess.Popen(command, env=environment, **pipes)
        self.rounds = []
        for line in self.process.stdout:
            if line == "ready\n":
                return
        sys.exit(f"{peer} on {case.name}:\n{self.process.stderr.read()[-2000:]}")

    def round(self):
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        self.rounds.append(float(self.process.stdout.readline()))

    def end(self):
        self.process.stdin.close()
        self.process.wait()


def measure(case, threads):
    """Nanoseconds of a step, round by round, of this library and each peer."""
    workers = {peer: Worker(peer, case, threads) for peer in ["libadamw", *case.peers]}
    for _ in range(ROUNDS):
        for worker in workers.values():
            worker.round()
    for worker in workers.values():
        worker.end()
    return {peer: worker.rounds for peer, worker in workers.items()}


def ratios(rounds, peer):
    """Quartiles of the peer's time over ours."""
    each = sorted(theirs / ours for ours, theirs in zip(rounds["libadamw"], rounds[peer]))
    low, middle, high = statistics.quantiles(each, n=4)
    return low, middle, high


def draw(results, plot, caption):
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams["svg.hashsalt"] = "libadamw"
    from matplotlib import pyplot

    peers = list(dict.fromkeys(peer for rounds in results.values() for peer in rounds if peer != "libadamw"))
    figure, columns = pyplot.subplots(1, 2, figsize=(14, 6), sharey=True)
    for threads, axes in zip((1, 2), columns):
        for place, case in enumerate(cases.ALL):
            rounds = results[case.name, threads]
            for peer in case.peers:
                low, middle, high = ratios(rounds, peer)
                axes.errorbar(middle, -place, xerr=[[middle - low], [high - middle]], fmt="o", color=f"C{peers.index(peer)}")
        axes.axvline(1, color="0.6", linewidth=1)
        axes.set(xscale="log", title=f"{threads} thread{'s' * (threads > 1)}", xlabel="time of a step over libadamw's")
        axes.set_yticks([-place for place in range(len(cases.ALL))], [case.title for case in cases.ALL])
    for peer in peers:
        columns[1].plot([], [], "o", color=f"C{peers.index(peer)}", label=peer)
    columns[1].legend(loc="upper right")
    figure.suptitle(caption, fontsize=8)
    figure.tight_layout()
    figure.savefig(plot, metadata={"Date": None})


def processor():
    lines = pathlib.Path("/proc/cpuinfo").read_text().splitlines()
    return next(line.split(": ")[1] for line in lines if line.startswith("model name"))


def main(plot):
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True).stdout.strip()
    versions = ", ".join(f"{name} {importlib.metadata.version(package)}" for package, name in PACKAGES.items())
    caption = f"{processor()}; libadamw at {commit}, {versions}; medians of {ROUNDS} rounds"
    print(f"{caption}\n\n| case | threads | libadamw | another | its time over libadamw's |\n|---|---|---|---|---|")
    results = {}
    for case in cases.ALL:
        for threads in (1, 2):
            rounds = results[case.name, threads] = measure(case, threads)
            ours = statistics.median(rounds["libadamw"]) / sum(case.lengths)
            for peer in case.peers:
                low, middle, high = ratios(rounds, peer)
                print(
                    f"| {case.title} | {threads} | {ours:.3f} ns/element | {peer} | {middle:.3g} ({low:.3g} to {high:.3g}) |",
                    flush=True,
                )
    draw(results, plot, caption)


if __name__ == "__main__":
    main(*sys.argv[1:])
