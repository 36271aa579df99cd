# %% [markdown]
# # Fine-tuning a transformer with moments of 8 bits
#
# A small transformer over characters learns the articles of the Constitution of the United States.
# Then it is fine-tuned on the amendments three times, from the same weights and with the same
# batches: by `torch.optim.AdamW`, by `adamw.torch.AdamW`, and by `adamw.torch.AdamW` with moments
# of 8 bits. At the end stand the losses, what the state of each optimizer takes, and a plot.
#
# Run the cells one by one in an editor that knows `# %%`, or all of them by `make finetune`, which
# takes some minutes on two processors. It needs `torch`, `matplotlib` and this package.

# %%
import copy
import pathlib
import sys
import time

import matplotlib
import torch
from torch import nn

import adamw.torch

matplotlib.use("svg")
from matplotlib import pyplot as plt  # noqa: E402

ROOT = pathlib.Path(__file__).resolve().parents[2]
PLOT = sys.argv[1] if len(sys.argv) > 1 else "finetune.svg"
CONTEXT, WIDTH, HEADS, LAYERS, BATCH = 64, 128, 4, 4, 12

# %% [markdown]
# ## The text
#
# Characters become numbers. The last tenth of the amendments is kept for validation: no optimizer
# sees it.

# %%
text = (ROOT / "examples-c" / "data" / "constitution.txt").read_text()
characters = sorted(set(text))
numbers = torch.tensor([characters.index(character) for character in text])
end_of_articles = text.index("\nAmendments\n\n")
articles, amendments = numbers[:end_of_articles], numbers[end_of_articles:]
held_out = len(amendments) // 10
training, validation = amendments[:-held_out], amendments[-held_out:]
print(f"{len(articles)} characters of articles, {len(training)} + {held_out} of amendments")


def batch(of: torch.Tensor, generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    """Returns random windows of a text, and what follows each character."""
    starts = torch.randint(len(of) - CONTEXT, (BATCH, 1), generator=generator)
    windows = of[starts + torch.arange(CONTEXT + 1)]
    return windows[:, :-1], windows[:, 1:]


# %% [markdown]
# ## The model
#
# PyTorch's own encoder with a causal mask, and no dropout, so that all runs compute the same.


# %%
class Model(nn.Module):
    """A transformer that predicts the next character."""

    def __init__(self) -> None:
        super().__init__()
        self.characters = nn.Embedding(len(characters), WIDTH)
        self.places = nn.Embedding(CONTEXT, WIDTH)
        layer = nn.TransformerEncoderLayer(
            WIDTH, HEADS, 4 * WIDTH, dropout=0.0, batch_first=True, norm_first=True
        )
        self.layers = nn.TransformerEncoder(layer, LAYERS, enable_nested_tensor=False)
        self.last = nn.Linear(WIDTH, len(characters))
        self.register_buffer("mask", nn.Transformer.generate_square_subsequent_mask(CONTEXT))

    def loss(self, inputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Returns the mean loss in nats a character."""
        x = self.characters(inputs) + self.places.weight[: inputs.shape[1]]
        mask = self.mask[: inputs.shape[1], : inputs.shape[1]]
        logits = self.last(self.layers(x, mask=mask, is_causal=True))
        return nn.functional.cross_entropy(logits.flatten(0, 1), targets.flatten())


@torch.no_grad()
def validation_loss(model: Model) -> float:
    """Returns the loss over all of the text that is kept for it, window after window."""
    count = (len(validation) - 1) // CONTEXT
    inputs = validation[: count * CONTEXT].view(count, CONTEXT)
    targets = validation[1 : count * CONTEXT + 1].view(count, CONTEXT)
    return model.loss(inputs, targets).item()


# %% [markdown]
# ## Training
#
# One loop for all. A run has its losses, and the time that its steps took.


# %%
def train(model, optimizer, of, steps, warmup=20):
    """Trains with a warmup and a cosine; returns the losses by step and the seconds in `step`."""
    generator = torch.Generator().manual_seed(3)
    schedule = torch.optim.lr_scheduler.SequentialLR(
        optimizer,
        [
            torch.optim.lr_scheduler.LinearLR(optimizer, 0.05, total_iters=warmup),
            torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps - warmup),
        ],
        [warmup],
    )
    losses, validated, seconds = [], [], 0.0
    for step in range(steps + 1):
        if step % 20 == 0:
            validated.append((step, validation_loss(model)))
        if step == steps:
            break
        optimizer.zero_grad()
        loss = model.loss(*batch(of, generator))
        loss.backward()
        started = time.perf_counter()
        optimizer.step()
        seconds += time.perf_counter() - started
        schedule.step()
        losses.append(loss.item())
    return losses, validated, seconds


# %% [markdown]
# ## Learning the articles
#
# This is what a model from elsewhere would save.

# %%
torch.manual_seed(1)
pretrained = Model()
n_weights = sum(parameter.numel() for parameter in pretrained.parameters())
started = time.perf_counter()
losses, _, _ = train(pretrained, torch.optim.AdamW(pretrained.parameters(), lr=1e-3), articles, 300)
print(f"{n_weights} weights; the articles: loss {losses[0]:.3f} to {losses[-1]:.3f}")

# %% [markdown]
# ## Fine-tuning on the amendments
#
# The one line that differs is the optimizer. `moments="8bit"` keeps both moments of each tensor of
# 4,096 elements or more as a byte an element and a scale for each 256 elements; smaller tensors,
# such as biases and norms, keep theirs in f32.

# %%
OPTIMIZERS = {
    "torch.optim.AdamW": lambda parameters: torch.optim.AdamW(parameters, lr=3e-4),
    "adamw.torch.AdamW": lambda parameters: adamw.torch.AdamW(parameters, lr=3e-4),
    'adamw.torch.AdamW(moments="8bit")': lambda parameters: adamw.torch.AdamW(
        parameters, lr=3e-4, moments="8bit"
    ),
}


def state_bytes(optimizer: torch.optim.Optimizer) -> int:
    """Returns what the optimizer keeps besides parameters and gradients."""
    states = optimizer.state.values()
    return sum(t.nbytes for state in states for t in state.values() if isinstance(t, torch.Tensor))


runs = {}
for name, make in OPTIMIZERS.items():
    model = copy.deepcopy(pretrained)
    optimizer = make(model.parameters())
    losses, validated, seconds = train(model, optimizer, training, 160)
    runs[name] = losses, validated, state_bytes(optimizer)
    print(
        f"{name}: validation loss {validated[0][1]:.3f} to {validated[-1][1]:.3f}, "
        f"state {runs[name][2] / 2**20:.2f} MiB, {1000 * seconds / len(losses):.2f} ms a step"
    )
print(f"{time.perf_counter() - started:.0f} s in all")

# %% [markdown]
# ## The plot

# %%
matplotlib.rcParams["svg.hashsalt"] = "libadamw"
figure, (curves, bars) = plt.subplots(1, 2, figsize=(11, 4), width_ratios=(2, 1))
STYLES = {"torch.optim.AdamW": ("C0", "-"), "adamw.torch.AdamW": ("C2", "--")}
for name, (losses, validated, _) in runs.items():
    color, line = STYLES.get(name, ("C3", ":"))
    windows = [losses[max(0, i - 9) : i + 1] for i in range(len(losses))]
    means = [sum(window) / len(window) for window in windows]
    curves.plot(means, line, color=color, linewidth=1.5, label=name)
    curves.plot(*zip(*validated), "o" + line, color=color, markersize=3, linewidth=1)
title = "loss on the amendments (points: held out)"
curves.set(title=title, xlabel="step", ylabel="nats a character")
curves.legend(fontsize=8)
bars.bar(
    ["torch", "adamw", "adamw,\n8 bits"],
    [size / 2**20 for _, _, size in runs.values()],
    color=["C0", "C2", "C3"],
)
bars.set(title=f"state of the optimizer, {n_weights / 1e6:.2f} M weights", ylabel="MiB")
for place, (_, _, size) in enumerate(runs.values()):
    bars.text(place, size / 2**20, f"{size / 2**20:.1f}", ha="center", va="bottom")
figure.tight_layout()
figure.savefig(PLOT, metadata={"Date": None})
