"""Statements about all systems, judged over every row that has annealed noise beside none."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterator, Sequence

from gradnoise.paper.ledger.check import Check, Direction, Size
from gradnoise.paper.ledger.evidence import Evidence
from gradnoise.paper.ledger.statements import MEMORY
from gradnoise.study import Metric, StudyRecord, StudyResults
from gradnoise.study.analysis import Outcome, Summary, summarise

#: "Rarely": at most this share of the rows where noise does not help.
RARELY = 0.1
#: The training loss has no margin: only "helps" is read from it.
LOSS = Metric("train_loss", "training loss", higher_is_better=False)
ANNEALED = "Annealed"
#: What stands for the folder where a statement rests on all of them.
EVERYWHERE = "all folders"


def overall(evidence: Sequence[Evidence]) -> Iterator[Check]:
    """Judge the statements about all systems; none where there is nothing to judge them by."""
    cells = _cells(evidence)
    outcomes = Counter(o for e, own in cells for o in _outcomes(e.summary, own))
    memory = Counter(o for e, own in cells if e.system.name == MEMORY for o in _outcomes(e.summary, own))
    losses = Counter(o for e, own in cells for o in _outcomes(_by_loss(e.results), own))
    runs = sum(_runs(e.results) for e in evidence)
    if outcomes:
        for id, direction, ours in (
            ("abstract-loss", loss(losses), f"by training loss {counted(losses)}"),
            ("1-rarely", rarely(outcomes), counted(outcomes)),
            ("4.2-never", never(outcomes), f"{counted(outcomes)}; for memory networks {counted(memory)}"),
        ):
            yield Check(id, EVERYWHERE, direction, Size.NONE, ours, "", runs)


def loss(seen: Counter[Outcome]) -> Direction:
    """Judge "noise can lower the training loss": one row in which it does is enough."""
    if seen[Outcome.HELPS]:
        return Direction.AGREES
    return Direction.UNDECIDED if seen[Outcome.UNDECIDED] else Direction.CONTRADICTS


def never(seen: Counter[Outcome]) -> Direction:
    """Judge "noise helps in all cases and never hurts": one decided row in which it does not help is enough."""
    if seen[Outcome.HURTS] or seen[Outcome.NO_DIFFERENCE]:
        return Direction.CONTRADICTS
    return Direction.UNDECIDED if seen[Outcome.UNDECIDED] else Direction.AGREES


def rarely(seen: Counter[Outcome]) -> Direction:
    """Judge "where noise does not help it rarely hurts" at the best and the worst that undecided rows may hide.

    At best they all make no difference, at worst they all hurt.
    """
    hurts, same, open_ = (seen[o] for o in (Outcome.HURTS, Outcome.NO_DIFFERENCE, Outcome.UNDECIDED))
    rows = hurts + same + open_
    if not rows or hurts + open_ <= RARELY * rows:
        return Direction.AGREES
    return Direction.CONTRADICTS if hurts > RARELY * rows else Direction.UNDECIDED


def counted(seen: Counter[Outcome]) -> str:
    """Write counts of verdicts as words."""
    words = {
        Outcome.HELPS: "helps in",
        Outcome.NO_DIFFERENCE: "makes no difference in",
        Outcome.HURTS: "hurts in",
        Outcome.UNDECIDED: "is undecided in",
    }
    first = ", ".join(f"{text} {seen[outcome]}" for outcome, text in words.items())
    return f"noise {first} of {sum(seen.values())} rows and strengths"


def _cells(evidence: Sequence[Evidence]) -> list[tuple[Evidence, set[tuple[str, str]]]]:
    """Return of each folder the rows and arms with annealed noise that no folder with more runs has trained, too."""
    known: set[str] = set()
    found = []
    for item in sorted(evidence, key=lambda e: -sum(t.done for t in e.results.trials)):
        cells: dict[tuple[str, str], set[str]] = {}
        for trial in item.results.trials:
            if trial.done:
                cells.setdefault((trial.row, trial.arm), set()).add(trial.id)
        noisy = _noisy(item.results.record)
        found.append((item, {(row, arm) for (row, arm), ids in cells.items() if arm in noisy and ids - known}))
        known.update(*cells.values())
    return found


def _outcomes(summary: Summary, cells: set[tuple[str, str]]) -> Iterator[Outcome]:
    """Yield the verdicts of some rows and arms."""
    for effect in summary.effects:
        if (effect.row, effect.arm) in cells and effect.comparison.n:
            yield effect.verdict.outcome


def _runs(results: StudyResults) -> int:
    counted_arms = {results.record.arms[0].name, *_noisy(results.record)}
    return sum(t.done for t in results.trials if t.arm in counted_arms)


def _by_loss(results: StudyResults) -> Summary:
    record = dataclasses.replace(results.record, metric=LOSS, claims=(), selection=None)
    trials = tuple(dataclasses.replace(t, curves={}) for t in results.trials)
    return summarise(StudyResults(record, trials))


def _noisy(record: StudyRecord) -> set[str]:
    """Return the arms that add annealed noise to the gradient and change nothing else; none beside a noisy baseline."""
    if "noise" in record.arms[0].values:
        return set()
    arms = {a.name: a.values["noise"] for a in record.arms if set(a.values) == {"noise"}}
    return {name for name, noise in arms.items() if ANNEALED in str(noise)}
