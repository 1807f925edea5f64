"""Table 4 of the paper as a study: three settings, four strengths of noise, many seeds."""

from __future__ import annotations

from gradnoise.paper.nram.experiment import NRAMExperiment
from gradnoise.paper.nram.problems.lesson import Lesson
from gradnoise.paper.nram.scales import SCALES, STRONG, WEAK, Row
from gradnoise.paper.scales import resized, scale_of
from gradnoise.population import Adam
from gradnoise.study import Claim, Metric, Setting, Study, StudyError

SOURCE = "Neelakantan et al., Table 4"

METRIC = Metric(name="solved", title="runs at zero error", unit="%", chance=0.0, margin=2.0, success=100.0, rate=True)


def _claim(id: str, row: str, arm: str, number: int, without: float, noisy: float) -> Claim:
    statement = f"Noise lets more runs reach zero error, Hyper-{number}"
    figures = {"none": {"mean": without}, arm: {"mean": noisy}}
    return Claim(id, row, statement, f"{SOURCE}, Hyper-{number}", arm, "helps", figures)


#: The paper's Table 4 (% of 100 runs at 100 % accuracy). Its settings are published nowhere; ours stand in for them.
CLAIMS = (
    _claim("C1", "A", STRONG.name, 1, 1.0, 5.0),
    _claim("C2", "B", STRONG.name, 2, 0.0, 22.0),
    _claim("C3", "C", WEAK.name, 3, 3.0, 7.0),
)

PROTOCOL = (
    ("machine", "14 modules a step, LSTM controller that sees P(register = 0) alone, learned stop"),
    ("problems", "fresh ones in every update, 50 a minibatch, gradients summed; difficulty follows the curriculum"),
    (
        "one update",
        "gradient, intermediate ones cut to ±C1; clip by global norm C2; add noise N(0, eta / (1 + t)^0.55); Adam",
    ),
    ("success", "no error on 1,000 problems of all sizes, then none on 10,000 others; the run stops there"),
    ("reported", "share of runs that reach zero error at some evaluation (“ever”)"),
    ("pairs", "same seed, same initial weights and same random numbers for the problems in every arm"),
)

SILENT = (
    "The paper publishes neither its three settings nor the search for them; HP-A, HP-B and HP-C are the best of a"
    " small search of our own and stand in for Hyper-1, Hyper-2 and Hyper-3.",
    "The paper's noise strength is 0.01 in one version and 0.3 in another, with the same table; all runs see 0.01,"
    " 0.3 and 1. Gradients are summed over the minibatch, which decides how strong that is.",
)


def nram(scale: str = "paper", data: str = "auto", seeds: int | None = None, steps: int | None = None) -> Study:
    """The study of one scale.

    - "paper": HP-A, HP-B and HP-C on ListK at size S (lists of up to 4 nodes), four strengths of noise, 100
      seeds, up to 5,000 updates: what a small machine can do of Table 4 (1,200 runs).
    - "size-m", "size-l": the same with lists of up to 6 and 10 nodes, 10,000 and 20,000 updates.
    - "ablations": fixed noise, sizes of minibatches, noise on weights, noise before the clip, C1 off, no
      curriculum, and runs that go on to the end; choose with `Study.with_rows` and `Study.with_arms`.
    - "quick": minutes on two cores; the task Access, which most runs learn, and lists of up to two nodes.
    - "smoke": seconds, for tests.

    Args:
        scale: one of these.
        data: "auto"; problems are made while training.
        seeds: number of seeds; None for the scale's own.
        steps: updates per run at most; None for the scale's own.
    """
    chosen = scale_of(SCALES, scale)
    if data != "auto":
        raise StudyError(f"--data {data}: this system makes its problems itself; leave --data out")
    numbers, deviations = resized(seeds, chosen.seeds, steps, chosen.steps)
    lessons = {row.id: Lesson.of(**row.lesson) for row in chosen.rows}
    known = {(row.id, arm.name) for row in chosen.rows for arm in chosen.arms}
    return Study(
        name="nram",
        title=f"Neural Random-Access Machines (Table 4), {chosen.title}",
        experiment=NRAMExperiment(*lessons.values()),
        arms=chosen.arms,
        metric=METRIC,
        settings=tuple(_setting(row, lessons[row.id].name, steps) for row in chosen.rows),
        seeds=numbers,
        steps=steps or chosen.steps,
        eval_every=min(chosen.eval_every, steps or chosen.steps),
        base={"controller": "lstm", "batch_size": 50, "optimizer": Adam()},
        scale=scale,
        claims=tuple(c for c in CLAIMS if scale != "smoke" and (c.row, c.treatment) in known),
        deviations=SILENT + chosen.deviations + deviations,
        protocol=PROTOCOL,
    )


def _setting(row: Row, lesson: str, steps: int | None) -> Setting:
    length = steps or row.steps
    every = row.eval_every and min(row.eval_every, length or row.eval_every)
    return Setting(row.id, row.title, {**row.values, "lesson": lesson}, row.arms, row.title, length, every)
