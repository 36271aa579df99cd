#!/usr/bin/env bash
# Lightning refuses gradient clipping with a fused AdamW under bf16-mixed, where nothing is scaled.
#
# Expected: under bf16-mixed a fused AdamW clips as under 32-true, because there is no gradient scaler
# that the optimizer would have to unscale for.
# Seen (Lightning 2.6.6, PyTorch 2.15.0, CPU): a RuntimeError says that the optimizer unscales by
# itself, and names an unrelated remedy; 32-true and bf16-true train.
#
# It asks the optimizer for _step_supports_amp_scaling alone, not whether anything scales. Our class
# for PyTorch has that only with fused=True.
set -euo pipefail
here=$(mktemp -d); trap 'rm -rf "$here"' EXIT
python3 -m venv "$here/venv"
"$here/venv/bin/pip" install --quiet lightning==2.6.6 torch==2.15.0 numpy==2.4.6
"$here/venv/bin/python" - <<'PYTHON'
import logging
import warnings

import lightning
import torch

warnings.simplefilter("ignore")
logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)


class Line(lightning.LightningModule):
    def __init__(self):
        super().__init__()
        self.line = torch.nn.Linear(3, 1)

    def training_step(self, batch, _):
        return self.line(batch[0]).square().mean()

    def configure_optimizers(self):
        return torch.optim.AdamW(self.parameters(), fused=True)


data = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(torch.randn(8, 3)))
quiet = dict.fromkeys(
    ("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary"), False
)
seen = {}
for precision in ("32-true", "bf16-true", "bf16-mixed"):
    trainer = lightning.Trainer(
        accelerator="cpu", max_steps=2, precision=precision, gradient_clip_val=1.0, **quiet
    )
    try:
        trainer.fit(Line(), data)
        seen[precision] = "trains"
    except RuntimeError as error:
        print(precision, error)
        seen[precision] = "is refused"
print(seen)
assert seen == {"32-true": "trains", "bf16-true": "trains", "bf16-mixed": "is refused"}, seen
PYTHON
echo "as described"
