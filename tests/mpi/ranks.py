"""Runs programs on several ranks of MPI, and checks what they leave.

usage: ranks.py <mpiexec> <folder of the programs> <test> [argument of the test]
"""

import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time

FOUND, PROGRAMS, TEST, *ARGUMENTS = sys.argv[1:]
# Open MPI takes the folder above for its own, which /bin, a link to /usr/bin, does not have.
MPIEXEC = os.path.join(os.path.realpath(os.path.dirname(FOUND)), os.path.basename(FOUND))
ENVIRONMENT = {
    **os.environ,
    # Open MPI: as root, as in a container, and on fewer processors than ranks.
    "OMPI_ALLOW_RUN_AS_ROOT": "1",
    "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
    "OMPI_MCA_rmaps_base_oversubscribe": "1",
    "OMPI_MCA_mpi_yield_when_idle": "1",
    "PRTE_MCA_rmaps_default_mapping_policy": ":oversubscribe",  # of Open MPI 5
}
LIMIT = 240  # seconds, for a program that waits for ever


def on_ranks(n, program, *arguments):
    command = [MPIEXEC, "-n", str(n), os.path.join(PROGRAMS, program), *map(str, arguments)]
    return command


def run(command, expected=0):
    done = subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True, timeout=LIMIT)
    if done.returncode != expected:
        sys.exit(f"{command} returned {done.returncode}\n{done.stdout}{done.stderr}")
    return done.stdout


def plain(*arguments):
    return run([os.path.join(PROGRAMS, "plain"), *map(str, arguments)])


def must(condition, text):
    if not condition:
        sys.exit(text)


def same_bits():
    """The parameters and all state are those of one process without MPI."""
    expected = plain(4)
    for n in (1, 2, 3, 4):
        run(on_ranks(n, "train", 4, f"of-{n}"))
        got = plain(4, f"of-{n}")
        must(got == expected, f"{n} ranks:\n{got}instead of\n{expected}")


def at_once():
    """Without rounds, where gradients and parameters travel while a rank steps: the same."""
    for n in (1, 2, 3, 4):
        run(on_ranks(n, "train", "at-once", 4, f"of-{n}"))
        expected, got = plain(4, "of", n), plain(4, f"of-{n}")
        must(got == expected, f"{n} ranks:\n{got}instead of\n{expected}")


def on_device():
    """Parameters and gradients on a device, by an MPI that says that it can read them: the same."""
    for n in (1, 2, 3):
        run(on_ranks(n, "train", "on-device", 4, f"of-{n}"))
        must(plain(4, f"of-{n}") == plain(4), f"{n} ranks have other bits")
    run(on_ranks(2, "train", "on-device", "at-once", 4, "at-once"))
    must(plain(4, "at-once") == plain(4, "of", 2), "without rounds: other bits")
    # From another number of ranks, and from the host's memory.
    run(on_ranks(2, "train", 2, "first"))
    run(on_ranks(3, "train", "on-device", 4, "then", "first"))
    must(plain(4, "then") == plain(4), "it goes on with other bits")


def half():
    """Whatever call of the driver fails on one rank: all are told the same, and none steps on from half a step."""
    for n, where in ((2, "all"), (3, "last")):
        done = run(on_ranks(n, "train", "on-device", "half", where))
        stepped, undone, half = map(int, re.findall(r"\d+", done))
        must(stepped and undone and half, done)


def resharded():
    """What 4 ranks have saved goes on on 3, on 1, on 4 and without MPI as if nothing had been."""
    expected = plain(6)
    run(on_ranks(4, "train", 3, "first"))
    must(plain(6, "first") == expected, "without MPI it goes on with other bits")
    for n in (3, 1, 4):
        run(on_ranks(n, "train", 6, f"then-{n}", "first"))
        must(plain(6, f"then-{n}") == expected, f"{n} ranks go on with other bits")
    # A save on fewer ranks into the same folders removes the files of more.
    run(on_ranks(2, "train", 6, "first", "first"))
    files = sorted(os.listdir("first/0"))
    must(len(files) == 3 and plain(6, "first") == expected, f"left: {files}")


def killed():
    """However a rank dies while all save: what was saved last, or a newer step, can be loaded."""
    rounds, acknowledged, n_within = int(ARGUMENTS[0]), 0, 0
    random.seed(7)
    number = 0
    # As often as it takes to have seen a kill within a save, which no clock can promise.
    while number < rounds or n_within == 0 and rounds >= 10:
        must(number < 10 * rounds, "no rank was killed within a save")
        ranks = number % 3 + 2
        command = on_ranks(ranks, "train", "killed", "saved")
        process = subprocess.Popen(
            command, env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        pids = []
        saved = 0
        limit = threading.Timer(LIMIT, process.kill)
        limit.start()
        for line in process.stdout:
            word, _, value = line.partition(" ")
            if word == "pid":
                pids.append(int(value))
            elif word == "saved":
                acknowledged, saved = int(value), saved + 1
            if saved == 2 and pids:
                time.sleep(random.random() * 0.03)
                os.kill(random.choice(pids), signal.SIGKILL)
                pids = []
        status = process.wait()
        limit.cancel()
        must(status != 0 and saved >= 2, f"round {number}: {command} ended by itself: {status}")
        step = int(plain("load", "saved"))
        must(step >= acknowledged, f"round {number}: step {step}, but {acknowledged} was saved")
        names = open("saved/checkpoint").read().split()
        must(len(names) == ranks, f"round {number}: {names}")
        n_within += len(os.listdir("saved")) > len(names) + 1
        number += 1
    print(f"{number} rounds, {acknowledged} steps, {n_within} killed within a save")


# Where a rank dies: the stage of `train`, the number of a call of MPI in it, and the steps that the
# checkpoint may have then.
DEATHS = (
    ("step", 1, "2"),
    ("step", 3, "2"),
    ("step", 40, "2"),
    ("round", 1, "2"),
    ("round", 30, "2"),
    ("save", 1, "2"),
    ("save", 3, "23"),
    ("save", 4, "23"),
    ("load", 2, "3"),
    ("next step", 20, "3"),
)


def broken(command):
    """What a program says whose last rank breaks, and the step of the checkpoint that it leaves."""
    shutil.rmtree("saved", ignore_errors=True)
    done = subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True, timeout=LIMIT)
    return done, plain("load", "saved").strip()


def dies():
    """A rank dies in a step or a save: the launcher ends all, and what was saved is whole."""
    for stage, call, saved in DEATHS[::3]:
        done, step = broken(on_ranks(3, "train", "dies", "saved", stage, call))
        must(done.returncode not in (0, 5), f"{stage} {call}: a dead rank was not noticed: {done}")
        must(step in saved, f"{stage} {call}: the checkpoint is of step {step}")


def survives():
    """Where MPI goes on, all others get its error, and end by themselves. So do all where a call of
    one rank alone fails."""
    options = ["--with-ft", "ulfm", "--runtime-options", "error-nonzero-status=0"]
    for word, n, deaths in (("dies", 4, DEATHS), ("fails", 3, DEATHS[::2])):
        for stage, call, saved in deaths:
            command = on_ranks(n, "train-ulfm", word, "saved", stage, call)
            done, step = broken(command[:1] + options + command[1:])
            errors = re.findall(r"^rank (\d): MPI_\w+: MPI_ERR_", done.stderr, re.M)
            ended = re.findall(r"^ended (\d)$", done.stdout, re.M)
            by_itself = sorted(errors) == sorted(ended) == ["0", "1", "2"]
            must(by_itself and step in saved, f"{word} {stage} {call}: step {step}, {done}")


def refusals():
    for n in (2, 3):
        run(on_ranks(n, "refusals", f"of-{n}"))


def memory():
    """What a rank has beyond the parameters and gradients falls as 1 / ranks."""
    used = {n: float(run(on_ranks(n, "memory"))) for n in (1, 2, 4)}
    print(f"bytes for each element of the model: {used}")
    for n, bytes_each in used.items():
        must(bytes_each < 12.0 / n + 1.5, f"{n} ranks: {bytes_each} bytes per element")


def example():
    """Progress on rank 0, and the same weights on any number of ranks, as when it goes on on another."""
    program, hashes = ARGUMENTS[0], set()
    for n in (1, 2, 4):
        done = subprocess.run(
            on_ranks(n, program), env=ENVIRONMENT, capture_output=True, text=True, timeout=LIMIT
        )
        must(done.returncode == 0, f"{n} ranks: {done}")
        losses = [float(x) for x in re.findall(r"^step \d+ of 120: loss (.*)", done.stderr, re.M)]
        must(len(losses) == 6 and losses[-1] < losses[0], f"{n} ranks, progress: {done.stderr}")
        hashes.add(done.stdout.splitlines()[-1])
    must(len(hashes) == 1 and "hash" in min(hashes), f"other weights: {hashes}")
    command = on_ranks(4, program, "resumed", 100)
    done = subprocess.run(command, env=ENVIRONMENT, capture_output=True, timeout=LIMIT)
    must(done.returncode != 0, "it was not killed")
    output = run(on_ranks(2, program, "resumed"))
    must("continued at step 80" in output, output)
    must(output.splitlines()[-1] in hashes, f"other weights after it went on: {output}")


if __name__ == "__main__":
    folder = tempfile.mkdtemp(prefix=f"{TEST}-", dir=".")
    os.chdir(folder)
    try:
        globals()[TEST]()
    finally:
        os.chdir("..")
        shutil.rmtree(folder)
