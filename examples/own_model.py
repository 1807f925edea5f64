"""Does gradient noise help MY model? A paired study of any nn.Module, with a verdict and a report."""

import torch
from sklearn.datasets import load_digits
from torch import nn

from gradnoise import Annealed
from gradnoise.population import Experiment, Minibatches, check_experiment
from gradnoise.study import Arm, Metric, Study, run_and_report

digits = load_digits()
x, y = torch.tensor(digits.data).float() / 16, torch.tensor(digits.target)
train, test = (x[:1500], y[:1500]), (x[1500:], y[1500:])


class MyExperiment(Experiment):
    name = "my-model"

    def model(self, config):
        layers = [layer for _ in range(12) for layer in (nn.Linear(64, 64), nn.Tanh())]
        return nn.Sequential(*layers, nn.Linear(64, 10))

    def batch(self, seed, t, config):
        return Minibatches(train, 50)(seed, t)

    def loss(self, model, batch, config):
        images, labels = batch
        return nn.functional.cross_entropy(model(images), labels)

    def held_out(self, config):
        return test

    def evaluate(self, model, held_out, config):
        images, labels = held_out
        return {"accuracy": 100 * (model(images).argmax(1) == labels).float().mean()}


if __name__ == "__main__":
    print(check_experiment(MyExperiment()))
    study = Study(
        name="my-study",
        title="Does gradient noise help my 12-layer tanh network?",
        experiment=MyExperiment(),
        arms=(Arm("none", title="no noise"), Arm("noise", {"noise": Annealed(0.01)}, title="noise")),
        metric=Metric("accuracy", "test accuracy", unit="%", chance=10.0, success=80.0, margin=1.0),
        base={"lr": 0.1, "clip": 10.0},
        seeds=tuple(range(8)),
        steps=600,
        eval_every=60,
    )
    run_and_report(study, "runs/my-study")
