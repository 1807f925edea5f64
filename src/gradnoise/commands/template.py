"""Does gradient noise help my model? Make this file yours; it runs as it is.

Try it:     gradnoise run my_model.py --dry-run                             what would be done, and how long it takes
            gradnoise run my_model.py --seeds 2 --steps 60 --out runs/look  a first look, in seconds
            gradnoise run my_model.py                                       the study, its verdict and its report
Go on:      the same command again, after Ctrl-C or a crash; more seeds: --seeds 16
"""

from dataclasses import dataclass

import torch
from sklearn.datasets import load_digits
from torch import nn

from gradnoise import Annealed
from gradnoise.population import Data, Experiment, Minibatches, check_experiment
from gradnoise.study import Arm, Metric, Setting, Study, run_and_report

# 1. Your data, as tensors in memory. A stream or files on disk: read what update t needs in `batch`.
pixels, classes = load_digits(return_X_y=True)
images, labels = torch.tensor(pixels).float() / 16, torch.tensor(classes)
train, test = (images[:1400], labels[:1400]), (images[1400:], labels[1400:])


class MyModel(Experiment):
    """Model, loss, minibatches and metrics of ONE run; the engine trains many of them as one program."""

    name = "my-model"  # of the experiment; enters the ids of all runs, so keep it
    data = Data(title="scikit-learn's digits, 1,400 to train on and 397 to test")

    @dataclass(frozen=True)
    class Config:
        """What an arm or a setting of the study may change, with defaults; another name is an error."""

        depth: int = 6
        width: int = 48
        batch_size: int = 50

    def model(self, config):
        """2. Your model: any nn.Module. Its random initial weights are seeded for you."""
        layers: list[nn.Module] = [nn.Linear(64, config.width), nn.Tanh()]
        for _ in range(config.depth - 1):
            layers += [nn.Linear(config.width, config.width), nn.Tanh()]
        return nn.Sequential(*layers, nn.Linear(config.width, 10))

    def batch(self, seed, t, config):
        """3. The minibatch of update t, a function of (seed, t) alone, so that two arms of a seed see the same ones."""
        return Minibatches(train, config.batch_size)(seed, t)

    def loss(self, model, batch, config):
        """4. The training loss of one minibatch, a scalar tensor."""
        x, y = batch
        return nn.functional.cross_entropy(model(x), y)

    def held_out(self, config):
        """5. What `evaluate` gets: data that was not trained on."""
        return test

    def evaluate(self, model, held_out, config):
        """6. Metrics, in evaluation mode and without gradient."""
        x, y = held_out
        return {"accuracy": 100 * (model(x).argmax(1) == y).float().mean()}

    def diverged_metrics(self):
        """7. What a run counts with whose loss became nan or inf: here what guessing scores."""
        return {"accuracy": 10.0}


study = Study(
    name="my-model",  # the folder is runs/my-model
    title="Does gradient noise help my model?",
    experiment=MyModel(),
    # 8. What is compared. The first arm is the baseline; every other one says what it changes.
    arms=(
        Arm("none", title="no noise"),
        Arm("noise", {"noise": Annealed(0.01)}, title="noise, η = 0.01"),
    ),
    # 9. What decides. `margin` is the difference that you would not care about, in the unit of the metric.
    metric=Metric("accuracy", "test accuracy", unit="%", chance=10.0, margin=1.0),
    # 10. How it is trained: lr, clip, optimizer, dropout of the engine, and your Config.
    base={"clip": 10.0},
    settings=(Setting("lr", "both learning rates", {"lr": 0.05}), Setting("lr", "both learning rates", {"lr": 0.2})),
    # 11. The same seeds run in every arm: initial weights and minibatches are shared, so that runs come in pairs.
    seeds=tuple(range(8)),
    steps=600,
    eval_every=60,
)

if __name__ == "__main__":  # `python my_model.py` does the same as `gradnoise run my_model.py`, after a check
    print(check_experiment(MyModel()))
    run_and_report(study, f"runs/{study.name}")
