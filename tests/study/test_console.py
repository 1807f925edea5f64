"""What a person sees of a run: the plan, how far it is, the verdict, and how to go on after Ctrl-C."""

import io
import re

import pytest
from matplotlib.figure import Figure
from rich.console import Console
from support.small import STEPS, Toy, small

from gradnoise.study import Options, Store, StudyError, dry_run, run_and_report
from gradnoise.study.console import conclude, describe_plan

OPTIONS = Options(workers=1, chunk=4, slice_seconds=0.0)


def terminal(width: int = 100, **options) -> Console:
    return Console(file=io.StringIO(), width=width, highlight=False, **options)


def shown(console: Console) -> str:
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def lines(text: str) -> str:
    """Text with its lines joined as a reader joins them."""
    return " ".join(text.split())


#: Evaluations before training, by what looks at the experiment and its code.
LOOKED = 6


class Interrupting(Toy):
    """Ctrl-C in the middle of an update, after some evaluations, of which the timing makes one; at once for -1."""

    def __init__(self, after: int) -> None:
        super().__init__()
        self.after, self.evaluations = after + LOOKED if after >= 0 else after, 0

    def evaluate(self, model, held_out, config):
        self.evaluations += 1
        return super().evaluate(model, held_out, config)

    def batch(self, seed, t, config):
        if self.evaluations > self.after:
            raise KeyboardInterrupt
        return super().batch(seed, t, config)


def test_a_run_from_start_to_report(tmp_path):
    console = terminal()
    results = run_and_report(small(), tmp_path, options=OPTIONS, command="make it", console=console)
    text = lines(shown(console))
    assert "8 trials in 2 populations, 1 worker, about" in text
    assert "? noise Row a" in text and "? noise Row b" in text and "undecided" in text
    assert f"Report: {tmp_path / 'report.html'}" in shown(console)
    assert len(results.trials) == 8 and (tmp_path / "report.html").exists() and (tmp_path / "trials.csv").exists()
    assert ("command", "make it") in results.record.provenance


def test_the_same_again_announces_no_training(tmp_path):
    run_and_report(small(), tmp_path, options=OPTIONS, console=terminal())
    before = {p.name: p.read_bytes() for p in tmp_path.glob("*.csv")}
    console = terminal()
    run_and_report(small(), tmp_path, options=OPTIONS, console=console)
    assert "populations" not in shown(console) and "Report:" in shown(console)
    assert {p.name: p.read_bytes() for p in tmp_path.glob("*.csv")} == before


def test_progress_on_a_terminal_counts_trials_and_successes(tmp_path):
    console = terminal(force_terminal=True, width=160)
    metric = small().metric
    easy = small(Toy(poison={1: 7}), metric=metric.__class__("error", "error", higher_is_better=False, success=50.0))
    run_and_report(easy, tmp_path, options=OPTIONS, console=console)
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown(console))
    assert "8/8 trials, 4 diverged" in text and "successes noise: 2 none: 2" in text
    assert re.search(r"error so far, Row [ab]: none \d+\.\d+, noise \d+\.\d+", text)
    timing = text[: text.index("8 trials in")]
    assert "timing a few updates" in timing and "left" not in timing  # nothing is known yet


def test_figures_of_the_experiment_come_into_the_report(tmp_path):
    def figures(results):
        assert len(results.trials) == 8
        return [("A figure of ours", Figure(figsize=(2, 1)))]

    run_and_report(small(), tmp_path, options=OPTIONS, console=terminal(), figures=figures)
    assert "A figure of ours" in (tmp_path / "report.html").read_text(encoding="utf-8")
    with Store(tmp_path, readonly=True) as store:
        conclude(store.results(), tmp_path / "again", terminal())
    assert "A figure of ours" not in (tmp_path / "again" / "report.html").read_text(encoding="utf-8")


def test_a_lost_checkpoint_is_told_of(tmp_path):
    with pytest.raises(SystemExit):
        run_and_report(small(Interrupting(5)), tmp_path, options=OPTIONS, console=terminal())
    for path in tmp_path.glob("checkpoints/*/*"):
        path.write_bytes(b"rotten")
    console = terminal()
    run_and_report(small(), tmp_path, options=OPTIONS, console=console)
    sentence = "the checkpoint of update 3 cannot be read"
    assert re.search(rf"chunk \w+: {sentence} .*: trained again from the start", lines(shown(console)))
    assert sentence in (tmp_path / "report.html").read_text(encoding="utf-8")


# Ctrl-C


@pytest.mark.parametrize(
    ("after", "message"),
    [
        (1, "Stopped: 0 of 8 trials are finished, the others stand at their last checkpoint."),
        (5, "Stopped: 4 of 8 trials are finished, the others stand at their last checkpoint."),
    ],
)
def test_ctrl_c_says_how_to_go_on(tmp_path, after, message):
    console, command = terminal(width=60), "gradnoise run small " + "--option " * 20
    with pytest.raises(SystemExit) as end:
        run_and_report(small(Interrupting(after)), tmp_path, options=OPTIONS, command=command, console=console)
    assert end.value.code == 130
    assert message in lines(shown(console))
    assert f"Go on with: {command}" in shown(console)  # in one line, to be copied
    assert not (tmp_path / "report.html").exists()
    results = run_and_report(small(), tmp_path, options=OPTIONS, console=terminal())
    assert {t.status for t in results.trials} == {"finished"}


def test_ctrl_c_before_anything_is_planned(tmp_path):
    console = terminal()
    with pytest.raises(SystemExit) as end:
        run_and_report(small(Interrupting(-1)), tmp_path, options=OPTIONS, command="again", console=console)
    assert end.value.code == 130
    assert "Stopped: 0 of 0 trials are finished, training had not begun." in lines(shown(console))
    assert "Go on with: again" in shown(console)


def test_ctrl_c_before_there_is_a_store(tmp_path, monkeypatch):
    def interrupt(*_arguments, **_options):
        raise KeyboardInterrupt

    console = terminal()
    monkeypatch.setattr("gradnoise.study.console.run_study", interrupt)
    with pytest.raises(SystemExit) as end:
        run_and_report(small(), tmp_path / "never made", command="again", console=console)
    assert end.value.code == 130 and "Go on with: again" in shown(console)
    assert not (tmp_path / "never made").exists()


def test_errors_pass_through(tmp_path):
    run_and_report(small(), tmp_path, options=OPTIONS, console=terminal())
    with pytest.raises(StudyError, match="another study"):
        run_and_report(small(name="other"), tmp_path, options=OPTIONS, console=terminal())


# The plan


def described(study, folder, before=0.0) -> str:
    console = terminal(width=160)
    describe_plan(dry_run(study, folder, OPTIONS), study, folder, console, before=before)
    return shown(console)


def test_a_plan(tmp_path):
    text = described(small(), tmp_path / "new")
    assert "A small study\n" in re.sub(" +\n", "\n", text) and "scale" not in text and "made-up numbers" in text
    assert f"8 = 2 settings x arms x 2 seeds, {STEPS} updates each; 0 finished already" in text
    assert "2 of 4 replicas, in 1 worker" in text and "exists" not in text
    assert re.search(r"\d+\.\d\d ms per replica and update", text) and re.search(r"about \d+ s", text)
    assert re.search(r"about \d+\.\d GiB", text)
    assert "to start" not in text
    assert re.search(r"about 2\d s, 20 s of it to start, check and time", described(small(), tmp_path / "new", 20.0))


def test_a_plan_to_go_on(tmp_path):
    run_and_report(small(), tmp_path, options=OPTIONS, console=terminal())
    text = described(small(seeds=(0, 1, 2)), tmp_path)
    assert "12 = 2 settings x arms x 3 seeds" in text and "8 finished already" in text
    assert "1 of 4 replicas" in text and "(exists: finished trials are kept)" in text
    # fewer than are there: nothing negative, nothing not a number
    text = described(small(seeds=(0,)), tmp_path)
    assert "4 = 2 settings x arms x 1 seeds" in text and "4 finished already" in text
    assert "nothing to train" in text and "nan" not in text
