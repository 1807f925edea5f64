"""Ten kinds of model go the whole path: study, verdict, report; and a replica is the run of a plain loop."""

from functools import partial

import pytest
import torch
from support.kinds import KINDS

from gradnoise import Annealed, attach
from gradnoise.population import Minibatches, Population, Replica, Training
from gradnoise.population.random_rows import RandomRows
from gradnoise.population.randomness import LOSS_DRAWS, seeded, seeded_for
from gradnoise.study import Arm, Metric, Options, Study, run_study
from gradnoise.study.analysis import summarise
from gradnoise.study.report import write_report

NOISE = Annealed(0.01)
STEPS = 5


def plain_loop(experiment, run: Replica) -> dict[str, torch.Tensor]:
    """Return the parameters of a run as anybody would write it, in torch's own terms."""
    config = experiment.Config() if run.config is None else run.config
    with seeded(run.seed_for("init")):
        model = experiment.model(config).double()
    optimizer = torch.optim.AdamW(model.parameters(), lr=run.training.rate(0), weight_decay=0.1)
    noise = attach(optimizer, NOISE, seed=run.seed_for("noise"), named_parameters=model.named_parameters())
    cpu, key = torch.device("cpu"), run.seed_for(LOSS_DRAWS)
    for t in range(STEPS):
        batch = Minibatches(experiment.data_set, experiment.size)(run.seed_for("batches"), t)
        with seeded_for(key, t, cpu), RandomRows(torch.tensor([key]), torch.tensor(t), alone=True):
            loss = experiment.loss(model.train(), tuple(batch), config)
        optimizer.zero_grad()
        loss.backward()
        norm = torch.cat([p.grad.flatten() for p in model.parameters()]).norm()  # type: ignore[union-attr]
        for p in model.parameters():
            p.grad *= (0.5 / norm).clamp(max=1)  # clip_grad_norm_ adds 1e-6 to the norm
        optimizer.step()
    noise.detach()
    return {name: p.detach() for name, p in model.named_parameters()}


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
@pytest.mark.filterwarnings("ignore:dropout option adds dropout after all but last")
def test_a_replica_is_the_run_of_a_plain_loop(kind):
    rule = partial(torch.optim.AdamW, weight_decay=0.1)
    runs = [Replica(seed, Training(lr=0.01, clip=0.5, noise=NOISE, optimizer=rule)) for seed in (3, 4)]  # type: ignore
    population = Population(kind(), runs, dtype=torch.float64)
    for _ in range(STEPS):
        population.step()
    for p, run in enumerate(runs):
        rows, alone = dict(population.modules.named_rows(p)), plain_loop(kind(), run)
        for name, value in alone.items():
            assert torch.allclose(rows[name], value, rtol=1e-9, atol=1e-11), name
    expected, reasons = KINDS[kind], population.modules.loop_reasons
    assert ("loss" not in reasons) if expected == "vmap" else (expected in reasons["loss"])


@pytest.mark.filterwarnings("ignore:There is a performance drop")  # of vmap, for attention in evaluation
@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_a_study_ends_in_a_verdict_and_a_report(kind, tmp_path):
    study = Study(
        name=kind.name,
        title=f"Does noise help a {kind.name}?",
        experiment=kind(),
        arms=[Arm("none"), Arm("noise", {"noise": NOISE})],
        metric=Metric("error", "error", higher_is_better=False, margin=0.1),
        base={"lr": 0.01, "optimizer": "adam", "clip": 0.5},
        seeds=6,
        steps=4,
        eval_every=2,
    )
    results = run_study(study, tmp_path / "study", options=Options(chunk=12), executor="here")
    assert len(results.trials) == 12 and all(t.status == "finished" for t in results.trials)
    (effect,) = summarise(results).effects
    assert len(effect.seeds) == 6 and effect.verdict
    assert "noise" in write_report(results, tmp_path / "report").read_text(encoding="utf-8")
