"""The training loops of accelerate and lightning with our class, beside torch.optim.AdamW.

usage: LIBADAMW=libadamw.so torch_loops.py
"""

import logging
import tempfile
import unittest
import warnings

import accelerate
import lightning
import torch
from torch_pairs import distance

import adamw.torch

CLASSES = (torch.optim.AdamW, adamw.torch.AdamW)
STEPS = 24


def model():
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Linear(7, 13), torch.nn.Tanh(), torch.nn.Linear(13, 1))


def batches(count):
    generator = torch.Generator().manual_seed(1)
    data = torch.randn(count * 8, 8, generator=generator)
    return torch.utils.data.DataLoader(torch.utils.data.TensorDataset(data), batch_size=8)


def loss_of(network, rows):
    return (network(rows[:, :7]) - rows[:, 7:]).square().mean()


def accelerated(make, folder, *, stop=None, begin=None, precision="no"):
    """Returns the weights after STEPS batches, four of which make a step."""
    accelerator = accelerate.Accelerator(
        cpu=True, gradient_accumulation_steps=4, mixed_precision=precision
    )
    network = model()
    optimizer = make(network.parameters(), lr=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.02, total_steps=STEPS)
    prepared = accelerator.prepare(network, optimizer, batches(STEPS), schedule)
    network, optimizer, loader, schedule = prepared
    if begin is not None:
        accelerator.load_state(folder)
    for index, (rows,) in enumerate(loader):
        if begin is not None and index < begin:
            continue
        if index == stop:
            accelerator.save_state(folder)
            break
        with accelerator.accumulate(network):
            accelerator.backward(loss_of(network, rows))
            if accelerator.sync_gradients:
                accelerator.clip_grad_norm_(network.parameters(), 0.5)
            optimizer.step()
            schedule.step()
            optimizer.zero_grad()
    return [param.detach().clone() for param in network.parameters()]


class Module(lightning.LightningModule):
    """A module whose optimizer is made by one of the classes."""

    automatic_optimization = True

    def __init__(self, make):
        super().__init__()
        self.make, self.network = make, model()

    def training_step(self, batch, index):
        return loss_of(self.network, batch[0])

    def configure_optimizers(self):
        optimizer = self.make(self.network.parameters(), lr=0.01)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, STEPS)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


def fitted(make, folder, *, epochs=2, resume=None, precision="32-true"):
    """Returns the weights after these epochs, and where they are saved."""
    module = Module(make)
    trainer = lightning.Trainer(
        accelerator="cpu",
        max_epochs=epochs,
        precision=precision,
        accumulate_grad_batches=2,
        gradient_clip_val=0.5,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=folder,
    )
    trainer.fit(module, batches(STEPS), ckpt_path=resume)
    saved = f"{folder}/{make.__module__}-{epochs}.ckpt"
    trainer.save_checkpoint(saved)
    return [param.detach().clone() for param in module.parameters()], saved


class Loops(unittest.TestCase):
    def setUp(self):
        warnings.simplefilter("ignore")  # of hardware and workers, which is their matter
        logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = folder.name

    def near(self, ours, theirs, tolerance=1e-5):
        for a, b in zip(ours, theirs, strict=True):
            self.assertLessEqual(distance(a, b), tolerance)

    def test_accelerate_trains_as_with_torchs_class(self):
        theirs, ours = (accelerated(make, self.folder) for make in CLASSES)
        self.near(ours, theirs)

    def test_accelerate_resumes_what_either_class_has_saved(self):
        whole = accelerated(CLASSES[0], self.folder)
        for saver, loader in (CLASSES, CLASSES[::-1], CLASSES[1:] * 2):
            accelerated(saver, self.folder, stop=12)
            self.near(accelerated(loader, self.folder, begin=12), whole)

    def test_lightning_trains_as_with_torchs_class(self):
        for precision in ("32-true", "bf16-mixed"):
            (theirs, _), (ours, _) = (
                fitted(make, self.folder, precision=precision) for make in CLASSES
            )
            self.near(ours, theirs, 1e-5 if precision == "32-true" else 1e-2)

    def test_lightning_resumes_what_either_class_has_saved(self):
        whole, _ = fitted(CLASSES[0], self.folder)
        for saver, loader in (CLASSES, CLASSES[::-1], CLASSES[1:] * 2):
            _, saved = fitted(saver, self.folder, epochs=1)
            ours, _ = fitted(loader, self.folder, resume=saved)
            self.near(ours, whole)


if __name__ == "__main__":
    unittest.main()
