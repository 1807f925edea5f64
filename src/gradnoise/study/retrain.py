"""Trials trained once more, for their weights: a study stores what was measured, not what was learned."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from gradnoise.errors import StudyError
from gradnoise.population import Population
from gradnoise.study.run.population_engine import PopulationEngine
from gradnoise.study.spec import Subject, Trial


def train_again(
    experiment: Subject,
    trials: Sequence[Trial],
    steps: int | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Population:
    """Train some trials as one population, in this process; nothing is stored.

    In a population of another size sums are rounded in another order, so that a long run can end elsewhere than it
    did in its study.

    Args:
        experiment: of the study.
        trials: of one shape, at least one.
        steps: updates; None for the trials' own.
        progress: called after each update with (updates done, updates in all).

    Returns:
        The population; `population.modules.named_rows(i)` has the weights of the i-th of those still `alive`.

    Raises:
        StudyError: all of them diverged.
    """
    total = trials[0].config["steps"] if steps is None else steps
    engine = PopulationEngine.of(experiment)
    with engine.threads():
        population = engine.build(trials)
        while population.alive and population.t < total:
            population.step()
            progress(population.t, total)
        population.settle()
    if not population.alive:
        raise StudyError(f"all runs diverged, the last at update {max(population.diverged.values())}; try another seed")
    return population
