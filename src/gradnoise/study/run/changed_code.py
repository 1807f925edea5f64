"""Code that was changed since a study's folder was begun: what it holds would be taken for runs of today's code."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass

from gradnoise.errors import PopulationError, StudyError
from gradnoise.study.damage import damaged
from gradnoise.study.engine import LATER, Behaviour, Probed, Probing
from gradnoise.study.provenance import now
from gradnoise.study.run.measured import check_names
from gradnoise.study.run.resolve import Resolved
from gradnoise.study.spec import Config, Trial
from gradnoise.study.store import ACCEPTED, Store

#: Name of the entry of a store that holds what was measured, and when.
ENTRY = "behaviours"
#: Numbers that agree to this part, or differ by less than that, agree: other machines sum in another order.
TOLERANCE, SMALL = 1e-3, 1e-6


@dataclass(frozen=True)
class Code:
    """What the code of a study does now, beside what its folder knows of it.

    Args:
        behaviours: all that is known, by name, with today's where both have it.
        since: when that was measured first, by name.
        notes: what should be said before training, one sentence each.
        change: how today's code differs from that of the folder; "" where it does not.
    """

    behaviours: Mapping[str, Behaviour]
    since: Mapping[str, str]
    notes: tuple[str, ...] = ()
    change: str = ""

    def keep(self, store: Store) -> None:
        """Write it into the store; what the report shall say is an event."""
        if self.behaviours:
            store.put_meta(ENTRY, {"since": dict(self.since), "behaviours": _written(self.behaviours)})
        said = {event.sentence for event in store.events()}
        for note in self.notes:
            if note not in said:
                store.note(note)
        if self.change:
            store.note(f"{ACCEPTED}{self.change}")


def look_at_code(resolved: Resolved, store: Store | None, held: Mapping[str, Trial], *, accept: bool = False) -> Code:
    """Measure what the code does, and compare it with what the folder knows.

    Args:
        resolved: what is asked.
        store: of the folder; None for a fresh one.
        held: trials that the folder holds, by id.
        accept: whether a difference is accepted.

    Raises:
        StudyError: the code was changed since the folder was begun, and that was not accepted; or the study's metric is
            not among what is measured.
    """
    engine = resolved.engine
    if not isinstance(engine, Probing):
        return Code({}, {})
    before, since = _known(store) if store else ({}, {})
    configs = {t.text: t.config for t in resolved.trials.values()}
    beside = _not_asked(resolved, store, held) if store and before else []
    try:
        found: Probed = engine.probe([*configs.values(), *beside], before.keys())
    except PopulationError as error:
        if not beside or accept:
            raise
        engine.probe(list(configs.values()), before.keys())  # it is in what the folder holds, or raises again
        raise _refused(engine.name, f"it does not train any more what the folder holds ({error})") from error
    if found.measured:
        check_names(resolved.study.metric, found.measured, engine.name)
    change = _change(before, found.behaviours, since)
    if change and not accept:
        raise _refused(engine.name, change)
    today = now()
    dates = {name: since.get(name, today) for name in {**before, **found.behaviours}}
    if change:
        dates |= dict.fromkeys(found.behaviours, today)
    return Code({**before, **found.behaviours}, dates, found.notes, change)


def _refused(name: str, change: str) -> StudyError:
    return StudyError(
        f"the code of {name} is not that of this folder: {change}. Finished trials would be taken for trials of the new"
        " code, so nothing was trained. Choose another folder with --out; or, if the change does not matter, say"
        " --accept-changed-code (in Python Options(accept_changed_code=True)), and the report will say so, too"
    )


def _not_asked(resolved: Resolved, store: Store, held: Mapping[str, Trial]) -> list[Config]:
    """Return a configuration of each row, and of each setting of today's rows, that was trained and is not asked now.

    They will stand in one report with what is trained now, and may share nothing with it that could be compared.
    """
    asked, begun = {(t.row, t.setting) for t in resolved.trials.values()}, set(store.begun())
    rows = {row for row, _ in asked}
    found: dict[tuple[str, ...], Config] = {}
    for id, trial in held.items():
        if id in begun and (trial.row, trial.setting) not in asked:
            found.setdefault((trial.row, trial.setting) if trial.row in rows else (trial.row,), trial.config)
    return list(found.values())


def _known(store: Store) -> tuple[dict[str, Behaviour], dict[str, str]]:
    """Return the behaviours that a folder knows, and since when; none as long as nothing in it was trained."""
    plain = store.meta(ENTRY)
    if plain is None or not store.counts().keys() - {"pending"}:
        return {}, {}
    try:
        before = {str(name): _read(body) for name, body in plain["behaviours"].items()}
        return before, {name: str(plain["since"][name]) for name in before}
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise damaged(store.folder, f"its {ENTRY} cannot be read ({error!r})") from error


def _change(before: Mapping[str, Behaviour], after: Mapping[str, Behaviour], since: Mapping[str, str]) -> str:
    """Say what differs, the first of it in full; "" where nothing does."""
    both = [name for name in after if name in before]
    different = [(name, what) for name in both for what in _differing(before[name], after[name])]
    if not different:
        return ""
    name, what = different[0]
    old, new = (_shown(x[name].get(what)) for x in (before, after))
    more = f"; so do {len(different) - 1} more" if len(different) > 1 else ""
    return f"{what} was {old} on {since[name]}, and now is {new} ({_where(name)}{more})"


def _differing(before: Behaviour, after: Behaviour) -> list[str]:
    return [what for what in {**after, **before} if not _agree(before.get(what), after.get(what))]


def _agree(x: float | str | None, y: float | str | None) -> bool:
    if isinstance(x, int | float) and isinstance(y, int | float):
        return math.isclose(x, y, rel_tol=TOLERANCE, abs_tol=SMALL) or (math.isnan(x) and math.isnan(y))
    return x == y


def _shown(value: float | str | None) -> str:
    if value is None:
        return "not there"
    return f"{value:.6g}" if isinstance(value, int | float) else value


def _where(name: str) -> str:
    """Return the name of a behaviour for people: a part of a configuration without its quotes."""
    try:
        plain = json.loads(name.removesuffix(LATER))
    except ValueError:
        return name
    if not isinstance(plain, dict):
        return name
    return ", ".join(f"{k} = {json.dumps(v)}" for k, v in plain.items() if k not in ("study_seed", "steps")) or "all"


def _written(behaviours: Mapping[str, Behaviour]) -> dict[str, dict[str, str]]:
    """Return numbers as text, since JSON has no nan."""
    return {name: {what: _text(x) for what, x in body.items()} for name, body in behaviours.items()}


def _text(value: float | str) -> str:
    return value if isinstance(value, str) else f"={float(value)!r}"


def _read(body: Mapping[str, str]) -> Behaviour:
    return {what: float(x[1:]) if x.startswith("=") else x for what, x in body.items()}
