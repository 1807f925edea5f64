"""From "my network does not train" to a dose and a verdict: the commands of docs/tutorial.md.

python examples/plateau.py train             # the trouble: accuracy of a few plain runs
python examples/plateau.py find              # the largest dose that does no harm, and those that help
gradnoise run examples/plateau.py:study      # the verdict, on other seeds, with what noise is weighed against
"""

import sys
from dataclasses import dataclass
from itertools import pairwise

import torch
from sklearn.datasets import load_digits
from torch import nn

import gradnoise
from gradnoise import Relative
from gradnoise.population import Experiment, Minibatches, Population, Replica
from gradnoise.study import Arm, Metric, Study

LAYERS, UNITS, CLIP = 12, 32, 1.0
DOSES = (1, 3, 10, 30, 100)
STEPS = 1500
RHO = 30.0  # what `find` finds
SETTINGS = {"lr": 0.1, "clip": CLIP}

digits = load_digits()
x, y = torch.tensor(digits.data).float() / 16, torch.tensor(digits.target)
train, test = (x[:1500], y[:1500]), (x[1500:], y[1500:])


def noise(rho: float) -> Relative:
    """Relative to the clip: on a plateau the gradient all but vanishes, and noise in proportion to it does, too."""
    return Relative(rho, to="clip", clip=CLIP)


class Plateau(Experiment):
    """Digits by a deep ReLU network whose weights are drawn too small."""

    name = "plateau"
    minibatches = Minibatches(train, 50)

    @dataclass(frozen=True)
    class Config:
        he: bool = False

    def model(self, config):
        sizes = [64, *[UNITS] * LAYERS]
        layers = [m for a, b in pairwise(sizes) for m in (nn.Linear(a, b), nn.ReLU())]
        model = nn.Sequential(*layers, nn.Linear(UNITS, 10))
        for layer in model[::2]:
            nn.init.zeros_(layer.bias)
            nn.init.kaiming_normal_(layer.weight) if config.he else nn.init.normal_(layer.weight, std=0.1)
        return model

    def batch(self, seed, t, config):
        return self.minibatches(seed, t)

    def loss(self, model, batch, config):
        images, labels = batch
        return nn.functional.cross_entropy(model(images), labels)

    def held_out(self, config):
        return test

    def evaluate(self, model, held_out, config):
        images, labels = held_out
        return {"accuracy": 100 * (model(images).argmax(1) == labels).float().mean()}


study = Study(
    name="plateau",
    title="Does gradient noise get a deep network off its plateau?",
    experiment=Plateau(),
    arms=(
        Arm("none", title="no noise"),
        Arm("noise", {"noise": noise(RHO)}, title=f"noise, ρ = {RHO:g}"),
        Arm("anti-pgd", {"noise": noise(RHO), "anti_pgd": True}, title=f"anticorrelated noise, ρ = {RHO:g}"),
        Arm("rate", {"lr": 1.0}, title="ten times the learning rate"),
        Arm("he", {"he": True}, title="He's initialisation"),
    ),
    metric=Metric("accuracy", "test accuracy", unit="%", chance=10.0, success=80.0, margin=1.0),
    base=SETTINGS,
    seeds=tuple(range(100, 108)),
    steps=STEPS,
    eval_every=STEPS // 6,
)


def main(what: str) -> None:
    """Do what a command asks."""
    if what == "train":
        plain = Population(Plateau(), [Replica.of(Plateau(), seed, SETTINGS) for seed in range(4)])
        for _ in range(STEPS):
            plain.step()
        print("test accuracy of four runs:", ", ".join(f"{x:.1f} %" for x in plain.evaluate()["accuracy"].tolist()))
    elif what == "find":
        found = gradnoise.find(
            Plateau(),
            SETTINGS,
            doses=DOSES,
            steps=STEPS,
            metric="accuracy",
            better="higher",
            margin=1.0,
            schedule=noise,
        )
        print(found)
        print("plot:", found.plot("dose.svg"))
    else:
        sys.exit(f"{what!r} is neither train nor find")


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "train")
