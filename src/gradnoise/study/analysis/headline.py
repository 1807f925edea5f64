"""What a study found, in one line, and the notes that belong with it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from gradnoise.study.analysis.claims import NOT_REPRODUCED, NOT_TESTED, REPRODUCED, UNDECIDED, Finding
from gradnoise.study.analysis.comparison import Outcome
from gradnoise.study.analysis.readings import disagreement
from gradnoise.study.analysis.shapes import Effect, Summary, difference_unit
from gradnoise.study.analysis.wording import DOES, listed

#: As many arms of one outcome are named in the headline, or as many arms whose rows differ.
NAMED, MIXED = 3, 2

_MANY = {Outcome.HELPS: "help", Outcome.HURTS: "hurt", Outcome.NO_DIFFERENCE: "make no difference"}


def conclusions(summary: Summary) -> list[str]:
    """Return the headline, then the sentences that belong with it.

    The headline is one line on all arms, such as "Muon helps; noise and cosine hurt; 2 undecided."

    Args:
        summary: what `summarise` returned.
    """
    done, asked = summary.done, summary.asked
    if not any(e.comparison.n for e in summary.effects):
        return [f"No verdict yet: {done:,} of {asked:,} trials are done, and no pair is whole.", *summary.cautions]
    said = [_headline(summary)]
    if summary.findings:
        said.append(_ledger(summary.findings))
    if differs := disagreement(summary):
        said.append(differs)
    if done < asked:
        said.append(f"So far {done:,} of {asked:,} trials are done. Verdicts read before the end may change.")
    if len(summary.effects) > 1:
        said += [f"{summary.arm_label(e.arm)}: {e.verdict.sentence}" for e in summary.effects if e.verdict.refused]
    said += summary.cautions
    left_out = sum(c.fates.done - c.n for c in summary.cells)
    if left_out:
        said.append(f"{left_out:,} diverged runs have no score and are left out of best and mean.")
    return said


def _headline(summary: Summary) -> str:
    if len(summary.effects) == 1:
        return _single(summary, summary.effects[0])
    open_ = sum(e.verdict.outcome is Outcome.UNDECIDED for e in summary.effects)
    if open_ == len(summary.effects):
        return f"Nothing is decided: all {open_} comparisons with {summary.record.arms[0].label} are undecided."
    clauses = [*_clauses(summary), *([f"{open_} undecided"] if open_ else [])]
    text = "; ".join(clauses)
    return f"{text[:1].upper()}{text[1:]}."


def _single(summary: Summary, effect: Effect) -> str:
    """Say what the only comparison of a study showed, and how large the difference is."""
    label, baseline, outcome = summary.arm_label(effect.arm), summary.record.arms[0].label, effect.verdict.outcome
    if effect.verdict.refused:
        return effect.verdict.sentence
    if outcome is Outcome.UNDECIDED:
        n = effect.comparison.n
        many, one = ("runs of each arm", "run of each arm") if summary.record.independent else ("pairs", "pair")
        pairs = f"{n:,} {many} do" if n > 1 else f"1 {one} does"
        return f"Undecided: {pairs} not tell {label} from {baseline}."
    label = label[:1].upper() + label[1:]
    if outcome is Outcome.NO_DIFFERENCE:
        return f"{label} makes no difference that matters."
    metric = summary.record.metric
    amount = f"{effect.comparison.difference:+.3g} {difference_unit(metric)}".rstrip()
    return f"{label} {outcome}: {amount} {'of' if metric.unit else 'in'} {metric.title}."


def _clauses(summary: Summary) -> Iterator[str]:
    """Yield what is decided: the arms whose rows differ one by one, then those of one outcome together."""
    same: dict[Outcome, list[str]] = {outcome: [] for outcome in DOES}
    mixed: list[str] = []
    rows = {arm.name: [e for e in summary.effects if e.arm == arm.name] for arm in summary.record.arms[1:]}
    for arm, effects in rows.items():
        decided = Counter(e.verdict.outcome for e in effects if e.verdict.outcome is not Outcome.UNDECIDED)
        if len(decided) == 1 and decided.total() == len(effects):
            same[next(iter(decided))].append(arm)
        elif decided:
            mixed.append(arm)
    for arm in mixed[:MIXED]:
        yield _by_row(summary.arm_label(arm), rows[arm])
    if len(mixed) > MIXED:
        yield f"{len(mixed) - MIXED} more arms differ by row"
    for outcome, arms in same.items():
        if arms:
            everywhere = {len(rows[arm]) for arm in arms}
            count = everywhere.pop() if len(everywhere) == 1 else 1
            yield _together(summary, outcome, arms) + (f" in all {count} rows" if count > 1 else "")


def _by_row(label: str, effects: Sequence[Effect]) -> str:
    count = Counter(e.verdict.outcome for e in effects)
    parts = [f"{words} in {count[outcome]}" for outcome, words in DOES.items() if count[outcome]]
    parts[0] += f" of {len(effects)} rows"
    return f"{label} {listed(parts)}"


def _together(summary: Summary, outcome: Outcome, arms: Sequence[str]) -> str:
    """Say what several arms do alike; of many only that with the largest difference is named."""
    if len(arms) == 1:
        return f"{summary.arm_label(arms[0])} {DOES[outcome]}"
    everybody = len(arms) == len(summary.record.arms) - 1
    if everybody and len(arms) >= NAMED:
        return f"all {len(arms)} arms {_MANY[outcome]}"
    if len(arms) > NAMED:
        sizes = {a: max(abs(e.comparison.difference) for e in summary.effects if e.arm == a) for a in arms}
        first = max(arms, key=lambda arm: sizes[arm])
        return f"{_quoted(summary.arm_label(first))} and {len(arms) - 1} more arms {_MANY[outcome]}"
    return f"{listed([_quoted(summary.arm_label(arm)) for arm in arms])} {_MANY[outcome]}"


def _quoted(label: str) -> str:
    """Put a label that would break a list into quotes."""
    return f"“{label}”" if "," in label or " and " in label else label


def _ledger(findings: Sequence[Finding]) -> str:
    count = Counter(f.status for f in findings)
    rest = [
        f"{count[status]} {text if count[status] == 1 else texts}"
        for status, text, texts in (
            (NOT_REPRODUCED, "is contradicted", "are contradicted"),
            (UNDECIDED, "is undecided", "are undecided"),
            (NOT_TESTED, "was not tested", "were not tested"),
        )
        if count[status]
    ]
    claims = "claim is" if len(findings) == 1 else "claims are"
    first = f"{count[REPRODUCED] or 'None'} of {len(findings)} published {claims} reproduced"
    return ", ".join([first, *rest]) + "."
