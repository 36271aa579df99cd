"""Trains both example networks with ten seeds in every precision, holds the mean of each to the spread of f32, and draws
the curves. `make test-long` runs it; it takes some ten minutes on two processors."""

import concurrent.futures
import csv
import pathlib
import re
import statistics
import subprocess
import sys
import tempfile

SEEDS = range(1, 11)
MODES = [(precision, "f32") for precision in ("f32", "nothing", "master", "split", "stochastic", "kahan")] + [
    (precision, moments) for precision in ("f32", "split", "stochastic", "kahan") for moments in ("bf16", "8bit", "4bit")
]
# bf16 parameters that are only rounded to nearest are shown, and promise nothing.
UNHELD = {("nothing", "f32")}


def name(mode):
    precision, moments = mode
    return ("f32" if precision == "f32" else f"bf16, {precision}") + ("" if moments == "f32" else f", {moments} moments")


def run(programs, program, mode, seed, folder):
    """The last loss, and (for chargpt) the curve of the training loss."""
    precision, moments = mode
    stem = pathlib.Path(folder) / f"{program}-{precision}-{moments}-{seed}"
    arguments = ["--precision", precision, "--moments", moments, "--seed", str(seed), "--threads", "1"]
    arguments += ["--losses", f"{stem}.csv"] if program == "chargpt" else ["--svg", f"{stem}.svg"]
    done = subprocess.run([f"{programs}/{program}", *arguments], capture_output=True, text=True)
    found = re.search(r"(?:validation|test) loss: ([0-9.]+)", done.stdout)
    if not found:
        sys.exit(f"{program} {mode} {seed} failed:\n{done.stdout}{done.stderr}")
    curve = []
    if program == "chargpt":
        with open(f"{stem}.csv") as file:
            curve = [(int(row[0]), float(row[1])) for row in csv.reader(file) if row[0] != "validation"]
    return float(found.group(1)), curve


def draw(results, path):
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams["svg.hashsalt"] = "libadamw"
    from matplotlib import pyplot

    figure, (curves, *ends) = pyplot.subplots(1, 3, figsize=(15, 5.5), width_ratios=(1.2, 1, 1))
    for mode in MODES:
        runs = [curve for _, curve in results["chargpt", mode]]
        steps = [step for step, _ in runs[0]]
        means = [statistics.fmean(curve[i][1] for curve in runs) for i in range(len(steps))]
        smooth = [statistics.fmean(means[max(0, i - 2) : i + 3]) for i in range(len(means))]
        curves.plot(steps, smooth, label=name(mode), linewidth=1)
    curves.set(title="chargpt: training loss, mean of ten seeds", xlabel="step", ylabel="nats a character")
    curves.legend(fontsize=7)
    for axes, program in zip(ends, ("chargpt", "digits")):
        for place, mode in enumerate(reversed(MODES)):
            losses = [loss for loss, _ in results[program, mode]]
            axes.plot(losses, [place] * len(losses), ".", color="C0", alpha=0.6)
            axes.plot(statistics.fmean(losses), place, "|", color="C3", markersize=14)
        spread = [loss for loss, _ in results[program, ("f32", "f32")]]
        axes.axvspan(min(spread), max(spread), color="0.9", zorder=0)
        axes.set(title=f"{program}: last loss, ten seeds", yticks=range(len(MODES)))
        axes.set_yticklabels([name(mode) for mode in reversed(MODES)], fontsize=7)
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None})


def main(programs, plot):
    jobs = [(program, mode, seed) for seed in SEEDS for mode in MODES for program in ("chargpt", "digits")]
    results = {}
    with tempfile.TemporaryDirectory() as folder, concurrent.futures.ThreadPoolExecutor(2) as pool:
        runs = pool.map(lambda job: run(programs, *job, folder), jobs)
        for i, ((program, mode, _), result) in enumerate(zip(jobs, runs)):
            results.setdefault((program, mode), []).append(result)
            print(f"\r{i + 1} of {len(jobs)} runs", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    broken = []
    for program in ("chargpt", "digits"):
        spread = [loss for loss, _ in results[program, ("f32", "f32")]]
        print(f"\n{program}: f32 ends at {min(spread):.4f} to {max(spread):.4f}\n\n| kept in | mean | least | most |\n|---|---|---|---|")
        for mode in MODES:
            losses = [loss for loss, _ in results[program, mode]]
            mean = statistics.fmean(losses)
            print(f"| {name(mode)} | {mean:.4f} | {min(losses):.4f} | {max(losses):.4f} |")
            if mode not in UNHELD and not min(spread) <= mean <= max(spread):
                broken.append(f"{program}, {name(mode)}: {mean:.4f}")
    draw(results, plot)
    if broken:
        sys.exit("outside the spread of f32: " + "; ".join(broken))


if __name__ == "__main__":
    main(*sys.argv[1:])
