"""What a planned study needs, in a terminal: seeds and time, comparison by comparison."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from gradnoise.study.analysis.power import Need, Spread
from gradnoise.study.analysis.statistics import Pairs
from gradnoise.study.progress import duration
from gradnoise.study.run.planning import Plan
from gradnoise.study.spec import Study, Trial


def describe_needs(study: Study, needs: Sequence[Need], timed: Plan, console: Console) -> None:
    """Print how many seeds each comparison of a study needs and how long they take, then all of them.

    Args:
        study: what is planned.
        needs: of its comparisons, see `seeds_needed`.
        timed: a plan of the study, for its speed here.
        console: where to print.
    """
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    for name in ("row", "arm", "pairs known", "spread", "seeds", "time", f"{len(study.seeds)} seeds show"):
        table.add_column(name, justify="left" if name in ("row", "arm") else "right")
    titles = {s.row: s.title for s in study.settings}
    labels = {a.name: a.label for a in study.arms}
    of_a_seed = list(dataclasses.replace(study, seeds=study.seeds[:1]).trials())
    for need in needs:
        arms = {need.arm, study.baseline.name}
        updates = sum(t.config["steps"] for t in of_a_seed if t.row == need.row and t.arm in arms)
        row, arm = Text(titles[need.row]), Text(labels[need.arm])
        table.add_row(row, arm, *_spread(need.spread), *_needed(need, updates, timed))
    console.print(table)
    _conclude(console, of_a_seed, needs, timed)


def _spread(spread: Spread | None) -> tuple[str, str]:
    """Write the pairs that a spread comes from, and the spread."""
    if spread is None:
        return "", "unknown"
    pairs = str(spread.pairs) if spread.pairs else ""
    if spread.rate_of is None:
        return pairs, " to ".join(dict.fromkeys(f"{x:.3g}" for x in (spread.low, spread.high)))
    return pairs, " to ".join(dict.fromkeys(f"{x:.0%}" for x in (spread.low, spread.high))) + " lost"


def _needed(need: Need, updates: int, timed: Plan) -> tuple[str, str, str]:
    """Write how many seeds a comparison needs, how long they take, and what the study's seeds show.

    Args:
        need: of the comparison.
        updates: of both of its arms in one seed.
        timed: for the speed.
    """
    if need.spread is None:
        return "", "", ""
    shown = "nothing" if need.shown is None else f"{need.shown:.3g}"
    if need.seeds is None:
        return "no number", "", shown
    return _range(need.seeds), _time(_most(need.seeds) * updates, timed), shown


def _time(updates: int, timed: Plan) -> str:
    return duration(updates * timed.seconds_per_step / timed.workers)


def _most(seeds: Pairs) -> int:
    return seeds.low if seeds.high is None else seeds.high


def _range(seeds: Pairs) -> str:
    if seeds.high is None:
        return f"{seeds.low:,} or more"
    return " to ".join(dict.fromkeys((f"{seeds.low:,}", f"{seeds.high:,}")))


def _conclude(console: Console, of_a_seed: Sequence[Trial], needs: Sequence[Need], timed: Plan) -> None:
    """Say how many seeds are enough for every comparison, and how long they take."""
    known = [need.seeds for need in needs if need.seeds]
    if not known:
        console.print("No number of seeds shows it as long as the pilot is all that is known.")
        return
    high = None if any(n.high is None for n in known) else max(map(_most, known))
    seeds = Pairs(max(n.low for n in known), high)
    text = f"{_range(seeds)} seeds. {_most(seeds):,} seeds are {_most(seeds) * len(of_a_seed):,} trials, about "
    text += f"{_time(_most(seeds) * sum(t.config['steps'] for t in of_a_seed), timed)} here."
    console.print(Text.assemble(("All comparisons: ", "bold"), text), soft_wrap=True)
    if unknown := sum(need.spread is None for need in needs):
        console.print(f"Not counted: {unknown} comparison{'s' if unknown > 1 else ''} whose spread is unknown.")
