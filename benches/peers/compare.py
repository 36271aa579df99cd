"""AdamW of several systems beside this library on the CPU: `make bench-peers`.

compare.py PLOT [CASE ...]

Each peer takes turns with this library, two processes at a time, so that a machine whose speed drifts favours neither. A
turn begins when the other process is at rest: threads may spin after their work. Pairs are kept in build/, those that this
commit has are not measured again. Prints tables of medians and ratios of all that there are, and draws them."""

import importlib.metadata
import json
import os
import pathlib
import statistics
import subprocess
import sys
import time

import cases

HERE = pathlib.Path(__file__).parent
BUILD = HERE.parent.parent / "build"
ROUNDS = 41
PACKAGES = {
    "torch": "PyTorch",
    "deepspeed": "DeepSpeed",
    "paddlepaddle": "Paddle",
    "optax": "optax",
    "jax": "JAX",
    "bitsandbytes": "bitsandbytes",
    "torchao": "torchao",
}


class Worker:
    def __init__(self, peer, case, threads):
        path = f"{pathlib.Path(sys.executable).parent}:{os.environ['PATH']}"  # DeepSpeed builds itself with ninja
        environment = os.environ | {"OMP_NUM_THREADS": str(threads), "DS_ACCELERATOR": "cpu", "PATH": path}
        environment |= {"TORCH_EXTENSIONS_DIR": str(BUILD / "torch_extensions")}  # another checkout would build it anew
        command = [sys.executable, str(HERE / "worker.py"), peer, case.name, str(threads)]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        self.process = subprocess.Popen(command, env=environment, **pipes)
        self.what, self.rounds = f"{peer} on {case.name}", []

    def wait(self):
        for line in self.process.stdout:
            if line == "ready\n":
                return
        sys.exit(f"{self.what}:\n{self.process.stderr.read()[-2000:]}")

    def ticks(self):
        """Processor time of all its threads, in hundredths of a second."""
        fields = pathlib.Path(f"/proc/{self.process.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return int(fields[11]) + int(fields[12])

    def rest(self):
        before = None
        while before != (before := self.ticks()):
            time.sleep(0.02)

    def round(self):
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        self.rounds.append(float(self.process.stdout.readline()))
        self.rest()

    def end(self):
        self.process.stdin.close()
        self.process.wait()


def measure(case, threads, peer):
    """Nanoseconds of a step, round by round, of this library and of the peer."""
    workers = [Worker(name, case, threads) for name in ("libadamw", peer)]
    for worker in workers:
        worker.wait()
    for worker in workers:
        worker.rest()
    for _ in range(ROUNDS):
        for worker in workers:
            worker.round()
    for worker in workers:
        worker.end()
    return [worker.rounds for worker in workers]


def quartiles(pair):
    """Of the peer's time over ours."""
    return statistics.quantiles([theirs / own for own, theirs in zip(*pair, strict=True)], n=4)


class Results:
    """Pairs by case, threads and peer, in a file that grows by one at a time."""

    def __init__(self, commit):
        BUILD.mkdir(exist_ok=True)
        self.path, self.pairs = BUILD / f"peers-{commit}.jsonl", {}
        for line in self.path.read_text().splitlines() if self.path.exists() else []:
            *key, pair = json.loads(line)
            self.pairs[tuple(key)] = pair

    def measure(self, case, threads, peer):
        key = (case.name, threads, peer)
        if key not in self.pairs:
            self.pairs[key] = measure(case, threads, peer)
            with self.path.open("a") as file:
                file.write(json.dumps([*key, self.pairs[key]]) + "\n")

    def cell(self, case, peer):
        """The medians with one thread and with two."""
        pairs = [self.pairs.get((case.name, threads, peer)) for threads in (1, 2)]
        return ", ".join(f"{quartiles(pair)[1]:.3g}" for pair in pairs if pair) or "-"


def peers():
    return list(dict.fromkeys(peer for case in cases.ALL for peer in case.peers))


def print_tables(results):
    print("| case | " + " | ".join(peers()) + " |\n|" + "---|" * (1 + len(peers())))
    for case in cases.ALL:
        print(f"| {case.title} | " + " | ".join(results.cell(case, peer) for peer in peers()) + " |")
    print("\n| case | threads | libadamw | another | its time over libadamw's |\n|---|---|---|---|---|")
    for case in cases.ALL:
        for threads in (1, 2):
            for peer in case.peers:
                if pair := results.pairs.get((case.name, threads, peer)):
                    low, middle, high = quartiles(pair)
                    ours = statistics.median(pair[0]) / sum(case.lengths)
                    ratio = f"{middle:.3g} ({low:.3g} to {high:.3g})"
                    print(f"| {case.title} | {threads} | {ours:.3f} ns/element | {peer} | {ratio} |")


def draw(results, plot, caption):
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams["svg.hashsalt"] = "libadamw"
    from matplotlib import pyplot

    figure, columns = pyplot.subplots(1, 2, figsize=(14, 7), sharey=True)
    colors = {peer: f"C{place}" for place, peer in enumerate(peers())}
    colors["torchao 8-bit"] = "black"  # the eleventh, and there are ten
    for threads, axes in zip((1, 2), columns):
        for (name, count, peer), pair in results.pairs.items():
            if count == threads:
                low, middle, high = quartiles(pair)
                place = -cases.ALL.index(cases.CASES[name]) - 0.06 * cases.CASES[name].peers.index(peer)
                axes.errorbar(middle, place, xerr=[[middle - low], [high - middle]], fmt="o", color=colors[peer])
        axes.axvline(1, color="0.6", linewidth=1)
        axes.set(xscale="log", title=f"{threads} thread{'s' * (threads > 1)}", xlabel="time of a step over libadamw's")
        axes.set_yticks([-place - 0.2 for place in range(len(cases.ALL))], [case.title for case in cases.ALL])
    for peer, color in colors.items():
        columns[1].plot([], [], "o", color=color, label=peer)
    columns[1].legend(loc="upper right")
    figure.suptitle(caption, fontsize=8)
    figure.tight_layout()
    figure.savefig(plot, metadata={"Date": None})


def processor():
    lines = pathlib.Path("/proc/cpuinfo").read_text().splitlines()
    return next(line.split(": ")[1] for line in lines if line.startswith("model name"))


def main(plot, *names):
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True).stdout.strip()
    results = Results(commit)
    for case in [cases.CASES[name] for name in names] or cases.ALL:
        for threads in (1, 2):
            for peer in case.peers:
                results.measure(case, threads, peer)
    versions = ", ".join(f"{name} {importlib.metadata.version(package)}" for package, name in PACKAGES.items())
    caption = f"{processor()}; libadamw at {commit}, {versions}; medians of {ROUNDS} rounds"
    print(f"{caption}\n")
    print_tables(results)
    draw(results, plot, caption)


if __name__ == "__main__":
    main(*sys.argv[1:])
