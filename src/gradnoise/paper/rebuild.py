"""From a store back to the system and the study that it is of."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gradnoise.errors import StudyError
from gradnoise.paper import SYSTEMS, load_system
from gradnoise.paper.recipe import Recipe
from gradnoise.paper.system import System
from gradnoise.study import Study, StudyRecord, StudyResults


def recipe_of(record: StudyRecord) -> Recipe:
    """Return the recipe of a stored study; for a store of an older version, what its name and scale tell.

    Raises:
        StudyError: the study is none of the paper's systems, or its recipe is damaged.
    """
    if record.recipe is not None:
        return _restored(record.recipe)
    if record.name not in SYSTEMS:
        raise StudyError(
            f"the store holds no recipe of its study {record.name!r}, which is none of {', '.join(SYSTEMS)};"
            " name the file that has it (gradnoise resume FOLDER FILE.py), or call run_study with the study itself"
        )
    system = load_system(record.name)
    rows, arms = tuple(row for row, _ in record.rows), tuple(arm.name for arm in record.arms)
    for study, scales in system.studies.items():
        for name, scale in scales.items():
            recipe = Recipe(system.name, study, name, seeds=len(record.seeds), rows=rows, arms=arms)
            if recipe.label(system.main_study) == record.scale:
                own_length = system.length_unit != "updates" or record.steps == scale.length
                return recipe if own_length else dataclasses.replace(recipe, steps=record.steps)
    raise StudyError(
        f"the store was written by an older version, without the recipe of its study, and {system.name} has no scale"
        f" {record.scale!r} any more"
    )


def recipe_for_all(record: StudyRecord) -> Recipe:
    """Return a recipe for all rows, arms and seeds of a store: each command may have asked for some of them only.

    Raises:
        StudyError: as `recipe_of`.
    """
    rows, arms = tuple(row for row, _ in record.rows), tuple(arm.name for arm in record.arms)
    return dataclasses.replace(recipe_of(record), seeds=max(record.seeds) + 1, rows=rows, arms=arms)


def _restored(plain: Mapping[str, Any]) -> Recipe:
    texts, lists = ("system", "study", "scale", "data"), ("rows", "arms")
    counts, options = ("seeds", "steps", "eval_every"), plain.get("options", {})
    good = (
        all(isinstance(plain.get(name), str) for name in texts)
        and all(plain.get(name) is None or isinstance(plain.get(name), int) for name in counts)
        and all(isinstance(plain.get(name, []), list | tuple) for name in lists)
        and isinstance(options, Mapping)
    )
    if not good:
        raise StudyError(f"the store's recipe of its study is damaged or of another version: {dict(plain)}")
    values = {name: plain.get(name) for name in (*texts, *counts)}
    chosen = {name: tuple(map(str, plain.get(name, []))) for name in lists}
    return Recipe(**values, **chosen, options=dict(options))  # type: ignore[arg-type]


def build_again(recipe: Recipe, record: StudyRecord) -> Study:
    """Build the study of a store again.

    Args:
        recipe: of the store, see `recipe_of`, perhaps with other rows or more seeds.
        record: of the store.

    Raises:
        StudyError: what is built is not what the store holds; the message says which.
        DataError: the data is not there.
    """
    asked = {f.name: getattr(recipe, f.name) for f in dataclasses.fields(recipe) if f.name != "system"}
    study = load_system(recipe.system).study(**asked)
    if study.subject != record.experiment and Path(recipe.data).is_absolute():
        raise StudyError(
            f"{recipe.data} no longer holds the data that the stored study began with: its fingerprint is"
            f" {study.subject}, that of the store {record.experiment}; bring the old files back, or run a new study"
        )
    for what, now, then in (("data", study.subject, record.experiment), ("length", study.steps, record.steps)):
        if now != then:
            hint = "" if record.recipe else "; the store is of an older version, which kept no recipe of its study"
            raise StudyError(
                f"{recipe.system}/{recipe.study} at scale {recipe.scale} is another study than the stored one:"
                f" its {what} is {now}, that of the store {then}{hint}"
            )
    return study


def system_of(record: StudyRecord) -> System[Any] | None:
    """Return the system that a stored study belongs to; None for a study of a user's own."""
    name = record.name if record.recipe is None else record.recipe.get("system")
    return load_system(name) if name in SYSTEMS else None


def renewed(results: StudyResults, system: System[Any]) -> StudyResults:
    """Return the results with the claims that the system makes today of the same rows and arms.

    Older stores hold claims under former ids (C1 to C8, M1 to M4, N1 to N3, L1 to L6) and in former words; they are
    known by row and arm. A scale that tests no claims today has none.
    """
    recipe = recipe_of(results.record)
    scale = system.studies.get(recipe.study, {}).get(recipe.scale)
    today = {(c.row, c.treatment): c for c in system.claims}
    stored = results.record.claims if scale is None or scale.tests_claims else ()
    claims = tuple(today.get((c.row, c.treatment), c) for c in stored)
    return dataclasses.replace(results, record=dataclasses.replace(results.record, claims=claims))
