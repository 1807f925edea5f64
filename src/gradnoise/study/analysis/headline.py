"""What a study found, in sentences: the headline and the notes that belong with it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from gradnoise.study.analysis.claims import NOT_REPRODUCED, NOT_TESTED, REPRODUCED, UNDECIDED, Finding
from gradnoise.study.analysis.comparison import Outcome
from gradnoise.study.analysis.shapes import Effect, Summary


def conclusions(summary: Summary) -> list[str]:
    """Return the headline, then the sentences that belong with it.

    Args:
        summary: what `summarise` returned.
    """
    done, asked = summary.done, summary.asked
    if not any(e.comparison.n for e in summary.effects):
        return [f"No verdict yet: {done:,} of {asked:,} trials are done, and no pair is whole."]
    headline, *others = filter(None, (_tally(summary, arm.name) for arm in summary.record.arms[1:]))
    said = [headline]
    if summary.findings:
        said.append(_ledger(summary.findings))
    decided = [e for e in summary.effects if e.verdict.outcome in (Outcome.HELPS, Outcome.HURTS)]
    if decided and len(summary.effects) > 1:
        largest = max(decided, key=lambda e: abs(e.comparison.difference))
        said.append(f"The largest effect is in {_quoted(summary, largest)} {largest.verdict.sentence}")
    said += others
    if done < asked:
        said.append(f"So far {done:,} of {asked:,} trials are done. Verdicts read before the end may change.")
    said += summary.cautions
    left_out = sum(c.fates.done - c.n for c in summary.cells)
    if left_out:
        said.append(f"{left_out:,} diverged runs have no score and are left out of best and mean.")
    return said


def _quoted(summary: Summary, effect: Effect) -> str:
    return f"“{summary.row_title(effect.row)}”:"


def _tally(summary: Summary, arm: str) -> str:
    effects = [e for e in summary.effects if e.arm == arm]
    if not effects:
        return ""
    label = summary.arm_label(arm)
    label = label[:1].upper() + label[1:]
    if len(effects) == 1:
        sentence = effects[0].verdict.sentence
        if len(summary.effects) == 1:
            return sentence
        return f"{label} runs in one row, {_quoted(summary, effects[0])} {sentence}"
    outcomes = Counter(e.verdict.outcome for e in effects)
    if len(outcomes) == 1:
        everywhere = {
            Outcome.HELPS: "helps in all",
            Outcome.HURTS: "hurts in all",
            Outcome.NO_DIFFERENCE: "makes no difference in all",
            Outcome.UNDECIDED: "is undecided in all",
        }
        return f"{label} {everywhere[effects[0].verdict.outcome]} {len(effects)} rows."
    same, undecided = outcomes[Outcome.NO_DIFFERENCE], outcomes[Outcome.UNDECIDED]
    clauses = [
        f"helps in {outcomes[Outcome.HELPS] or 'none'} of {len(effects)} rows",
        f"hurts in {outcomes[Outcome.HURTS] or 'none'}",
        f"makes no difference in {same}" if same else "",
        f"is undecided in {undecided}" if undecided else "",
    ]
    *first, last = filter(None, clauses)
    return f"{label} {', '.join(first)} and {last}."


def _ledger(findings: Sequence[Finding]) -> str:
    count = Counter(f.status for f in findings)
    rest = [
        f"{count[status]} {text if count[status] == 1 else texts}"
        for status, text, texts in (
            (NOT_REPRODUCED, "is not", "are not"),
            (UNDECIDED, "is undecided", "are undecided"),
            (NOT_TESTED, "was not tested", "were not tested"),
        )
        if count[status]
    ]
    claims = "claim is" if len(findings) == 1 else "claims are"
    first = f"{count[REPRODUCED] or 'None'} of {len(findings)} published {claims} reproduced"
    return ", ".join([first, *rest]) + "."
