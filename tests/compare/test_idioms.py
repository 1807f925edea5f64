"""Scripts as people write them, unmodified: each becomes a study by one command, and pairing is proved or refuted."""

import importlib.util
import re
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
from support.commandline import gradnoise
from support.comparing import outcomes, results, said

HEAD = """
import argparse, os, random
parser = argparse.ArgumentParser()
parser.add_argument("--seed", type=int)
parser.add_argument("--output_dir", default=".")
parser.add_argument("--c", type=float, default=1.0)
args = parser.parse_args()
"""

PLAIN = """
import torch
from torch.utils.data import DataLoader, TensorDataset
torch.manual_seed(args.seed)
x = torch.randn(64, 8, generator=torch.Generator().manual_seed(0))
loader = DataLoader(TensorDataset(x, x.sum(1, keepdim=True)), batch_size=16, shuffle=True, num_workers=WORKERS)
model = torch.nn.Linear(8, 1)
optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
for epoch in range(2):
    for a, b in loader:
        optimizer.zero_grad()
        loss = torch.nn.functional.mse_loss(model(a), b)
        loss.backward()
        optimizer.step()
print(f"final loss: {loss.item():.6f}")
"""

TRANSFORMERS = """
import torch
from transformers import Trainer, TrainingArguments, set_seed
set_seed(args.seed)

class Model(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = torch.nn.Linear(4, 2)
    def forward(self, x, labels):
        logits = self.linear(x)
        return {"loss": torch.nn.functional.cross_entropy(logits, labels), "logits": logits}

def rows(n):
    x = torch.randn(n, 4, generator=torch.Generator().manual_seed(0))
    return [{"x": a, "labels": int(a.sum() > 0)} for a in x]

arguments = TrainingArguments(args.output_dir, seed=args.seed, max_steps=6, per_device_train_batch_size=8, report_to=[],
                              use_cpu=True, save_strategy="no", learning_rate=0.05, eval_strategy="steps", eval_steps=2)
trainer = Trainer(Model(), arguments, train_dataset=rows(48), eval_dataset=rows(32))
trainer.train()
trainer.save_metrics("eval", trainer.evaluate())
trainer.save_state()
"""

LIGHTNING = """
import torch, warnings
warnings.simplefilter("ignore")
import lightning as L
from lightning.pytorch.loggers import CSVLogger
from torch.utils.data import DataLoader, TensorDataset
L.seed_everything(args.seed)

class Model(L.LightningModule):
    def __init__(self):
        super().__init__()
        self.linear = torch.nn.Linear(4, 1)
    def training_step(self, batch, index):
        loss = self.linear(batch[0]).square().mean()
        self.log("loss", loss, on_step=True)
        return loss
    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)

x = torch.randn(64, 4, generator=torch.Generator().manual_seed(0))
trainer = L.Trainer(max_epochs=1, logger=CSVLogger(args.output_dir), log_every_n_steps=1, accelerator="cpu",
                    enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False)
trainer.fit(Model(), DataLoader(TensorDataset(x), batch_size=8, shuffle=True))
"""

CLI = """
import torch, warnings
warnings.simplefilter("ignore")
import lightning as L
from lightning.pytorch.cli import LightningCLI
from torch.utils.data import DataLoader, TensorDataset

class Model(L.LightningModule):
    def __init__(self, lr: float = 0.1):
        super().__init__()
        self.lr, self.linear = lr, torch.nn.Linear(4, 1)
    def training_step(self, batch, index):
        loss = self.linear(batch[0]).square().mean()
        self.log("loss", loss, on_step=True)
        return loss
    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=self.lr)

class Data(L.LightningDataModule):
    def train_dataloader(self):
        x = torch.randn(64, 4, generator=torch.Generator().manual_seed(0))
        return DataLoader(TensorDataset(x), batch_size=8, shuffle=True)

if __name__ == "__main__":
    LightningCLI(Model, Data, save_config_callback=None)
"""

ACCELERATE = """
import torch
from accelerate import Accelerator
from accelerate.utils import set_seed
import gradnoise
set_seed(args.seed)
accelerator = Accelerator(cpu=True)
model = torch.nn.Linear(4, 1)
model, optimizer = accelerator.prepare(model, torch.optim.AdamW(model.parameters(), lr=0.01))
for step in range(4):
    loss = model(torch.randn(16, 4)).square().mean()
    accelerator.backward(loss)
    optimizer.step()
    optimizer.zero_grad()
    gradnoise.report(loss=loss, step=step + 1)
"""

SKLEARN = """
import json
from sklearn.datasets import load_digits
from sklearn.linear_model import SGDClassifier
from sklearn.model_selection import train_test_split
x, y = load_digits(return_X_y=True)
a, b, c, d = train_test_split(x, y, random_state=args.seed)
model = SGDClassifier(alpha=args.c / 1000, max_iter=5, tol=None, random_state=args.seed).fit(a, c)
print(json.dumps({"accuracy": model.score(b, d)}))
"""

TWO_OPTIMIZERS = """
import torch, gradnoise
torch.manual_seed(args.seed)
g, d = torch.nn.Linear(2, 2), torch.nn.Linear(2, 1)
optimizers = [torch.optim.Adam(g.parameters(), lr=0.01), torch.optim.SGD(d.parameters(), lr=0.01)]
for step in range(4):
    for sign, optimizer in zip((1, -1), optimizers):
        optimizer.zero_grad()
        loss = sign * d(g(torch.randn(8, 2))).mean()
        loss.backward()
        optimizer.step()
gradnoise.report(loss=loss)
"""

NOISE = ("--arms", "none,noise:0.01")
PRINTED = ("--metric-regex", "final loss: ([-+.0-9eE]+)")
COMMAND = ("--seed", "{seed}", "--output_dir", "{dir}")
CLI_COMMAND = (
    *("fit", "--seed_everything", "{seed}", "--trainer.default_root_dir", "{dir}", "--trainer.max_epochs", "1"),
    *("--trainer.logger", "CSVLogger", "--trainer.logger.save_dir", "{dir}", "--trainer.log_every_n_steps", "1"),
    *(
        "--trainer.accelerator",
        "cpu",
        "--trainer.enable_progress_bar",
        "false",
        "--trainer.enable_checkpointing",
        "false",
    ),
)


@dataclass(frozen=True)
class Idiom:
    """A script, what it needs, the options that it is compared with, and where its metric is found."""

    code: str
    needs: str
    options: tuple[str, ...]
    source: str
    seeds: int = 1
    optimizers: int = 1
    command: tuple[str, ...] = COMMAND

    @property
    def script(self) -> str:
        return self.code if self.command is CLI_COMMAND else HEAD + self.code


LOSS = (*NOISE, "--metric", "loss:min")
REGEX, REPORTED = "the lines of its output that match --metric-regex", "gradnoise.report"
IDIOMS = {
    "plain": Idiom(PLAIN.replace("WORKERS", "0"), "torch", (*LOSS, *PRINTED), REGEX),
    "workers": Idiom(PLAIN.replace("WORKERS", "2"), "torch", (*LOSS, *PRINTED), REGEX),
    "transformers": Idiom(
        TRANSFORMERS, "transformers", (*NOISE, "--metric", "eval_loss:min"), "all_results.json"
    ),
    "lightning": Idiom(LIGHTNING, "lightning", LOSS, "metrics.csv"),
    "lightning-cli": Idiom(CLI, "jsonargparse", LOSS, "metrics.csv", command=CLI_COMMAND),
    "accelerate": Idiom(ACCELERATE, "accelerate", LOSS, REPORTED),
    "two-optimizers": Idiom(TWO_OPTIMIZERS, "torch", LOSS, REPORTED, optimizers=2),
    "sklearn": Idiom(
        SKLEARN, "sklearn", ("--arm", "strong=--c 10", "--metric", "accuracy:max"),
        "the last line of JSON that it printed", seeds=2, optimizers=0,
    ),
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("name", IDIOMS)
def test_a_script_as_people_write_it_becomes_a_study(tmp_path: Path, capsys, name):
    idiom = IDIOMS[name]
    if importlib.util.find_spec(idiom.needs) is None:
        pytest.skip(f"{idiom.needs} is not installed")
    (tmp_path / "train.py").write_text(idiom.script)
    options = ("compare", "--seeds", str(idiom.seeds), "--blind", *idiom.options)
    assert gradnoise(*options, "--", sys.executable, "train.py", *idiom.command) == 0, capsys.readouterr().err
    folder = tmp_path / "runs/compare-train"
    notes = " ".join(results(folder).record.notes)
    found = outcomes(folder)
    assert len(found) == 2 * idiom.seeds and {o["source"] for o in found.values()} == {idiom.source}
    assert ("is proved" in notes) == (idiom.optimizers > 0), notes
    assert ("is taken on trust" in notes) == (idiom.optimizers == 0) and f"is read from {idiom.source}" in notes
    for run, outcome in found.items():
        assert bool(outcome["updates"]) == (idiom.optimizers > 0)
        assert all(("schedule" in b) == ("noise" in run) for b in outcome["begin"])
        assert len(outcome["begin"]) == idiom.optimizers
    if name == "transformers":
        assert any(len(t.curves["eval_loss"].steps) == 3 for t in results(folder).trials), "curves of its state"


SEEDLESS = {
    "ignored": ("torch.manual_seed(0)", 1, "the script ignores its seed: runs with seed 0 and seed 1 began with"),
    "forgotten": (
        "",
        0,
        "The script is not seeded: runs of noise:0.01 and none with one seed began with other weights",
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("how", SEEDLESS)
def test_a_script_that_makes_nothing_of_its_seed_is_found_out(tmp_path: Path, capsys, how):
    seeding, code, sentence = SEEDLESS[how]
    body = HEAD + PLAIN.replace("WORKERS", "0").replace("torch.manual_seed(args.seed)", seeding)
    (tmp_path / "train.py").write_text(body)
    command = ("--", sys.executable, "train.py", *COMMAND)
    assert gradnoise("compare", "--seeds", "2", "--blind", *LOSS, *PRINTED, *command) == code
    assert sentence in said(capsys)


FRESH = """
import torch
torch.manual_seed(args.seed)
model, head = torch.nn.Linear(8, 8), torch.nn.Linear(8, 1)
x = torch.randn(64, 8)
for epoch in range(20):
    parts = [model] if epoch < 2 else [model, head]
    optimizer = torch.optim.SGD([p for part in parts for p in part.parameters()], lr=0.05)
    for step in range(3):
        optimizer.zero_grad()
        loss = head(model(x)).square().mean()
        loss.backward()
        optimizer.step()
print(f"final loss: {loss.item():.6f}")
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("seeding", "sentence"), [("args.seed", "noise:0.01 and none is proved"), ("os.getpid()", "is not seeded")]
)
def test_a_fresh_optimizer_of_the_same_weights_is_no_lack_of_seeds(tmp_path: Path, capsys, seeding, sentence):
    (tmp_path / "train.py").write_text(HEAD + FRESH.replace("manual_seed(args.seed)", f"manual_seed({seeding})"))
    command = ("--", sys.executable, "train.py", *COMMAND)
    assert gradnoise("compare", "--seeds", "1", "--blind", *LOSS, *PRINTED, *command) == 0
    text = said(capsys)
    assert sentence in text and "The noise of noise:0.01 began anew, at its first sigma, with each further" in text
    begun = [o["begin"] for o in outcomes(tmp_path / "runs/compare-train").values()]
    assert all([b.get("again", False) for b in begin] == [False, True, False] + 13 * [True] for begin in begun)


@pytest.mark.slow
def test_check_shows_how_a_pair_begins_after_a_few_updates(tmp_path, capsys):
    (tmp_path / "train.py").write_text(HEAD + PLAIN.replace("WORKERS", "0").replace("range(2)", "range(10**9)"))
    command = (sys.executable, "train.py", "--seed", "{seed}")
    assert gradnoise("compare", *NOISE, "--metric", "loss:min", "--check", "--", *command) == 0
    text = re.sub(r"\s+", " ", capsys.readouterr().out)
    assert "Adam, weights" in text and "noise Annealed(eta=0.01, gamma=0.55) of" in text
    assert "after which the run was stopped" in text and "Pairing of noise:0.01 and none is proved" in text
    assert "Seed 1 began with other weights, as it should." in text
    assert not (tmp_path / "runs").exists()
