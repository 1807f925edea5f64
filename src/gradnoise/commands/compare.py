"""`gradnoise compare`: any training script as a paired study. Help texts are the docstrings of fields."""

from __future__ import annotations

import dataclasses
import json
import math
import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from rich.console import Console
from rich.text import Text
from tyro.conf import Suppress, UseAppendAction, arg

from gradnoise.commands.compare_logs import Logs
from gradnoise.errors import StudyError, nearest

if TYPE_CHECKING:
    from gradnoise.study import Study
    from gradnoise.study.analysis import Summary
    from gradnoise.study.results import StudyRecord
    from gradnoise.study.script.asking import ScriptStudy

#: What --fail-unless may ask for: the verdicts that pass.
PASSES = {
    "helps": ("helps",),
    "no-harm": ("helps", "no difference"),
    "no-difference": ("no difference",),
}
#: Exit code of a verdict that --fail-unless does not pass.
NOT_PASSED = 3
#: What a folder does not keep of a command line.
_ASKED_ANEW = {"out", "command", "check", "dry_run", "json", "fail_unless", "accept_changed_code"}


@dataclass(frozen=True)
class Compare:
    """Run a training script in several arms and seeds, and tell with paired statistics which arm is better.

    The command stands behind --, with {seed} where it takes its seed, and {dir} where it may write; each run has a
    folder of its own. Repeat the same command to go on after any interruption.

    Example: gradnoise compare --arms none,noise:0.01 --seeds 8 --metric accuracy:max -- python train.py --seed {seed}

    `gradnoise compare logs 3` shows what the runs of seed 3 printed.
    """

    metric: str
    """What decides and which direction is better: accuracy:max, loss:min; or a bound, 'accuracy >= 0.9', for the rate
    of the runs that keep it. The script tells it by gradnoise.report(accuracy=...); or it is found in
    {dir}/all_results.json, metrics.csv, TensorBoard events, or a last line of JSON on the output."""
    arms: str = ""
    """Arms, the first of them the baseline: none, noise:ETA, noise:ETA:GAMMA, fixed:SIGMA, relative:RHO, with commas
    between them."""
    arm: Annotated[UseAppendAction[tuple[str, ...]], arg(help_behavior_hint="(may be repeated)")] = ()
    """A further arm that adds arguments to the command: --arm wide='--hidden 512'."""
    seeds: int = 8
    """Number of seeds; more than before adds runs to the study."""
    max_seeds: Annotated[int | None, arg(help_behavior_hint="(default: those of the first run)")] = None
    """The most seeds that the study will ever have, if it may be read before it has them."""
    at: str = "last"
    """The value of a run that counts: last; best, its best one; min:NAME or max:NAME, where another metric that the
    script tells at the same steps is lowest or highest, as min:val_loss for early stopping."""
    margin: Annotated[float | None, arg(help_behavior_hint="(default: none)")] = None
    """Differences of the metric below this do not matter; without it nothing is called "no difference"."""
    chance: Annotated[float | None, arg(help_behavior_hint="(default: none)")] = None
    """What guessing scores."""
    success: Annotated[float | None, arg(help_behavior_hint="(default: none)")] = None
    """A run whose metric is at least this (at most, for min) succeeds; not with a bound, which says it."""
    broken: Annotated[float | None, arg(help_behavior_hint="(default: none, and then no verdict)")] = None
    """What a run counts as that ends in nan or inf, in the time limit, or with an error."""
    metric_regex: Annotated[str | None, arg(help_behavior_hint="(default: none)")] = None
    """Find the metric by this pattern in the output instead; it has one group, around the value."""
    seed_env: Annotated[str | None, arg(help_behavior_hint="(default: none)")] = None
    """Name of an environment variable by which the script takes its seed."""
    no_seed: bool = False
    """The script takes no seed: its runs are independent."""
    timeout: Annotated[float | None, arg(help_behavior_hint="(default: none)")] = None
    """Seconds after which a run is ended."""
    jobs: Annotated[int | None, arg(help_behavior_hint="(default: 1)")] = None
    """Runs at once."""
    gpus: Annotated[str | None, arg(help_behavior_hint="(default: as the script does)")] = None
    """GPUs, one run at once on each: auto, 0,1, or 0,0 for two runs at once on the first."""
    most_failures: int = 3
    """Stop after so many failures in a row that are the same."""
    out: Annotated[Path | None, arg(help_behavior_hint="(default: runs/compare-SCRIPT)")] = None
    """Folder of the study."""
    accept_changed_code: bool = False
    """Go on with a study whose script has changed since; its report tells."""
    blind: bool = False
    """Show no result before the end: a study that is looked at once has the smallest p-values."""
    check: bool = False
    """Run one pair for a few updates only, and show how it began, what it tells and how long it takes."""
    dry_run: bool = False
    """Print the commands of all runs, each with its environment, and do nothing."""
    json: bool = False
    """Print the result as JSON, all else to stderr."""
    fail_unless: Annotated[str | None, arg(help_behavior_hint="(default: none)")] = None
    """Exit with code 3 unless every verdict passes: helps, no-harm (helps or no difference), or no-difference."""
    command: Suppress[tuple[str, ...]] = ()
    """The words behind --, put here by `compare_of`."""

    def __call__(self, console: Console) -> None:
        """Run it, and print the verdict."""
        if self.fail_unless is not None and self.fail_unless not in PASSES:
            raise StudyError(
                f"--fail-unless {self.fail_unless!r}: allowed are {', '.join(PASSES)}"
                f"{nearest(self.fail_unless, PASSES)}"
            )
        asked = self.asked()
        study = asked.study()
        said = Console(stderr=True, highlight=False) if self.json else console
        if self.dry_run:
            _print_commands(study, said)
        elif self.check:
            from gradnoise.study.script.checking import check

            check(study, said)
        else:
            self._run(asked, study, said)

    def asked(self) -> ScriptStudy:
        """Return what the command line asks, checked.

        Raises:
            StudyError: something of it cannot be.
        """
        from gradnoise.study.run.script_engine import RUNS
        from gradnoise.study.script.arms import arms_of, metric_of
        from gradnoise.study.script.asking import ScriptStudy
        from gradnoise.study.script.code import code_of
        from gradnoise.study.script.command import Command
        from gradnoise.study.script.loaded import Loaded
        from gradnoise.study.script.pattern import check_pattern

        if self.timeout is not None and not self.timeout > 0:
            raise StudyError(f"--timeout {self.timeout:g}: give more than 0 seconds")
        if self.most_failures < 1:
            raise StudyError(f"--most-failures {self.most_failures}: give 1 or more")
        check_pattern(self.metric_regex)
        command = Command(self.command, self.seed_env, not self.no_seed)
        command.check_program()
        folder = self.out or Path("runs") / f"compare-{command.name}"
        words = Loaded(folder / RUNS).of_code(command.words)
        return ScriptStudy(
            command,
            arms_of(self.arms.split(","), self.arm),
            metric_of(
                self.metric,
                at=self.at,
                margin=self.margin,
                chance=self.chance,
                success=self.success,
                broken=self.broken,
            ),
            self.seeds,
            folder,
            code_of(words, Path.cwd()),
            self.max_seeds,
            self.timeout,
            self.metric_regex,
            {f.name: v for f in dataclasses.fields(self) if f.name not in _ASKED_ANEW and (v := getattr(self, f.name))},
        )

    def _run(self, asked: ScriptStudy, study: Study, console: Console) -> None:
        from gradnoise.study import Options, run_study
        from gradnoise.study.console import conclude, keep_look
        from gradnoise.study.script.asking import clear_stale, judge_of, reopen_failed, settle_changed
        from gradnoise.study.script.live import Live
        from gradnoise.study.script.slots import Slots, slots_of

        say, folder = (lambda sentence: console.print(Text(sentence, style="yellow"), soft_wrap=True)), asked.folder
        places = slots_of(self.jobs, self.gpus, say)
        clear_stale(asked)
        settle_changed(study, folder, self.accept_changed_code)
        if again := reopen_failed(study, folder, self.timeout):
            console.print(f"Runs of {again} seeds that did not end well are made again.")
        judge = judge_of(study, folder, self.most_failures, asked.command.seeded)
        executor = Slots(places, judge, say)
        live = Live(study, folder, console, blind=self.blind, at_once=len(places))
        console.print(Text(f"{study.title}; all of it in {folder}"), soft_wrap=True)
        command = shlex.join(["gradnoise", *sys.argv[1:]])
        try:
            results = run_study(
                study,
                folder,
                options=Options(accept_changed_code=self.accept_changed_code),
                command=command,
                executor=executor,
                observer=live,
            )
        except KeyboardInterrupt:
            console.print(f"\nStopped; runs that have ended are kept. Go on with: {command}", soft_wrap=True)
            sys.exit(130)
        summary = conclude(results, folder, console)
        keep_look(folder, summary, console)
        if self.json:
            print(json.dumps(plain(summary, folder), indent=2, allow_nan=False))
        self._judge(summary, console)

    def _judge(self, summary: Summary, console: Console) -> None:
        """Exit with an error where a verdict does not pass."""
        if self.fail_unless is None:
            return
        failing = [e for e in summary.effects if e.verdict.outcome.value not in PASSES[self.fail_unless]]
        if failing or not summary.effects:
            names = ", ".join(f"{e.arm}: {e.verdict.outcome.value}" for e in failing) or "no verdict"
            console.print(f"--fail-unless {self.fail_unless} does not pass ({names}).")
            sys.exit(NOT_PASSED)


def _print_commands(study: Study, console: Console) -> None:
    """Print what would be run, one line for a shell each."""
    from gradnoise.study.run.script_engine import ScriptEngine, run_folder
    from gradnoise.study.script.command import pasteable

    engine = study.experiment
    assert isinstance(engine, ScriptEngine)
    for trial in study.trials():
        place = run_folder(engine.folder, trial.seed, trial.config["arm"], trial.id)
        words = engine.command.of(trial.seed, trial.config, place / "dir")
        variables = engine.command.environment(trial.seed, trial.config, place / "dir", place / "records")
        console.print(Text(f"# seed {trial.seed}, arm {trial.arm}", style="dim"))
        folders = shlex.join(["mkdir", "-p", str(place / "dir"), str(place / "records")])
        console.out(f"{folders} && {pasteable(words, variables)}", highlight=False)


def plain(summary: Summary, folder: Path) -> dict[str, Any]:
    """Return what a comparison found, as plain values for JSON: nan is null."""
    from gradnoise.study.analysis import conclusions

    metric = summary.record.metric
    return {
        "study": summary.record.name,
        "metric": metric.name,
        "direction": "max" if metric.higher_is_better else "min",
        "runs": {"asked": summary.asked, "done": summary.done},
        "arms": [
            {"arm": c.arm, "runs": c.fates.done, "broken": c.fates.diverged, "mean": _finite(c.final.mean)}
            for c in summary.cells
        ],
        "effects": [
            {
                "arm": e.arm,
                "baseline": summary.record.arms[0].name,
                "pairs": e.comparison.n,
                "difference": _finite(e.comparison.difference),
                "interval": [_finite(e.comparison.interval.low), _finite(e.comparison.interval.high)],
                "p": _finite(e.p_adjusted),
                "verdict": e.verdict.outcome.value,
                "sentence": e.verdict.sentence,
            }
            for e in summary.effects
        ],
        "conclusions": conclusions(summary),
        "notes": list(summary.cautions),
        "report": str(folder / "report.html"),
    }


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def resumed(record: StudyRecord, folder: Path, words: Sequence[str]) -> Compare | None:
    """Return the comparison that a folder holds, as it was asked for last; None where it holds another kind of study.

    Args:
        record: of the folder's store.
        folder: of the study.
        words: the command to run. It is never taken from the folder, which may come from anybody.

    Raises:
        StudyError: the command is missing.
    """
    from gradnoise.study.script.asking import recipe_of

    recipe = recipe_of(record)
    if recipe is None:
        return None
    if not words:
        raise StudyError(
            f"{folder} holds a comparison, and a command is never run because a folder names it. If you trust this one,"
            f" say: gradnoise resume {shlex.quote(str(folder))} -- {shlex.join(map(str, recipe['words']))}"
        )
    known = {f.name for f in dataclasses.fields(Compare)} - _ASKED_ANEW
    kept = {name: value for name, value in recipe.get("options", {}).items() if name in known}
    try:
        kept["arm"] = tuple(kept.get("arm", ()))
        return Compare(**kept, out=folder, command=tuple(words))
    except TypeError as error:
        raise StudyError(f"{folder} does not tell how it was asked for; repeat its own command") from error


def compare_of(words: Sequence[str], parse: Callable[[Mapping[str, Any], str, list[str]], Any]) -> Any:
    """Return the command that the words behind `gradnoise compare` ask for.

    Args:
        words: those words.
        parse: reads options: from commands by name, the name of the program, and words.
    """
    if words[:1] == ["logs"]:
        return parse({"logs": Logs}, "gradnoise compare", list(words))
    own = list(words[: words.index("--")]) if "--" in words else list(words)
    command = words[len(own) + 1 :]
    if words and "--" not in words and not {"-h", "--help"} & set(words):
        raise StudyError(
            "the command to compare stands behind --, as in gradnoise compare --arms none,noise:0.01 --metric"
            " accuracy:max -- python train.py --seed {seed}"
        )
    compare = parse({"compare": Compare}, "gradnoise", ["compare", *(own or ["--help"])])
    return dataclasses.replace(compare, command=tuple(command))
