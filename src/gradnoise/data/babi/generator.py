"""Small stories in the format of bAbI, to stand in for the files where those are absent.

They imitate tasks 1, 2, 5, 6 and 15 (Weston et al., arXiv 1502.05698) without equalling them: figures from
them say nothing about bAbI.
"""

from __future__ import annotations

import random
from collections.abc import Callable

from .world import World

#: One story: its statements and questions in order; a question is (text, answer, positions of its supporting lines).
Line = str | tuple[str, str, tuple[int, ...]]

ANIMALS = {"mouse": "mice", "sheep": "sheep", "wolf": "wolves", "cat": "cats"}
OWNERS = ("Gertrude", "Winona", "Jessica", "Emily")
GIVERS = ("Bill", "Fred", "Jeff", "Mary")

#: Tasks whose questions end in "? " before the tab in the published files.
SPACED = (1, 2, 5, 6)
QUESTIONS = 1000


def generate(task: int, seed: int = 0, questions: int = QUESTIONS) -> tuple[bytes, bytes]:
    """A training file and a test file of one task; no story of one is in the other.

    Args:
        task: 1, 2, 5, 6 or 15.
        seed: equal seeds give equal bytes.
        questions: in each file; a multiple of the questions of a story, which are 5, or 4 in task 15.
    """
    rng = random.Random(f"babi/{task}/{seed}")
    make = MAKERS[task]
    per_story = 4 if task == 15 else 5
    train = [_text(make(rng), task) for _ in range(questions // per_story)]
    seen, test = set(train), []
    while len(test) < len(train):
        if (story := _text(make(rng), task)) not in seen:
            test.append(story)
    return "".join(train).encode(), "".join(test).encode()


def _text(lines: list[Line], task: int) -> str:
    space = " " if task in SPACED else ""
    out = []
    for number, line in enumerate(lines, 1):
        if isinstance(line, str):
            out.append(f"{number} {line}\n")
        else:
            text, answer, support = line
            out.append(f"{number} {text}{space}\t{answer}\t{' '.join(str(i + 1) for i in support)}\n")
    return "".join(out)


def _where_is_a_person(rng: random.Random) -> list[Line]:
    """Task 1: five times two moves, then a question for a person who has moved."""
    world, lines = World(rng), []
    for _ in range(5):
        for _ in range(2):
            lines.append(world.move(len(lines)))
        person = rng.choice(sorted(world.moved))
        lines.append((f"Where is {person}?", world.place[person], (world.moved[person],)))
    return lines


def _where_is_a_thing(rng: random.Random) -> list[Line]:
    """Task 2: moves, gets and drops; questions for things whose place follows from what was told."""
    world, lines, asked, since = World(rng), [], 0, 0
    while asked < 5:
        lines.append(world.act(len(lines), {"move": 64, "get": 18, "drop": 18}))
        since += 1
        known = world.askable_things()
        if since % 2 == 0 and known and rng.random() < 0.6:
            thing = rng.choice(sorted(known))
            place, support = known[thing]
            lines.append((f"Where is the {thing}?", place, support))
            asked, since = asked + 1, 0
    return lines


def _who_gave_what(rng: random.Random) -> list[Line]:
    """Task 5: questions about a gift that at most four statements, none on the same thing, have followed."""
    lines: list[Line] = []
    while True:
        world, lines, asked = World(rng, GIVERS), [], 0
        while asked < 5 and len(lines) < 120:
            lines.append(world.act(len(lines), {"move": 55, "get": 17, "drop": 10, "give": 18}))
            if world.last_act != "give":
                continue
            giver, thing, receiver = world.last_gift
            gift = len(lines) - 1
            for _ in range(rng.randrange(5)):
                lines.append(world.act(len(lines), {"move": 55, "get": 17, "drop": 10}, untouched=thing))
            choices = (
                (f"What did {giver} give to {receiver}?", thing),
                (f"Who gave the {thing}?", giver),
                (f"Who gave the {thing} to {receiver}?", giver),
                (f"Who received the {thing}?", receiver),
                (f"Who did {giver} give the {thing} to?", receiver),
            )
            text, answer = rng.choices(choices, weights=(37, 16, 16, 16, 15))[0]
            lines.append((text, answer, (gift,)))
            asked += 1
        if asked == 5:
            return lines


def _is_a_person_there(rng: random.Random) -> list[Line]:
    """Task 6: five times two statements, then a yes/no question for a person who has moved."""
    world, lines, asked = World(rng), [], 0
    while asked < 5:
        for _ in range(2):
            lines.append(world.act(len(lines), {"move": 73, "get": 14, "drop": 13}))
        if not world.moved:
            continue
        person = rng.choice(sorted(world.moved))
        true = rng.random() < 0.5
        place = world.place[person] if true else world.elsewhere(person)
        lines.append((f"Is {person} in the {place}?", "yes" if true else "no", (world.moved[person],)))
        asked += 1
    return lines


def _what_is_feared(rng: random.Random) -> list[Line]:
    """Task 15: who is what animal, which animals fear which; what is this one afraid of?"""
    feared = {x: rng.choice([y for y in ANIMALS if y != x]) for x in ANIMALS}
    kind = {person: rng.choice(list(ANIMALS)) for person in OWNERS}
    lines: list[Line] = [f"{ANIMALS[x].capitalize()} are afraid of {ANIMALS[y]}." for x, y in feared.items()]
    lines += [f"{person} is a {animal}." for person, animal in kind.items()]
    rng.shuffle(lines)
    for _ in range(4):
        person = rng.choice(OWNERS)
        animal = kind[person]
        support = (
            lines.index(f"{person} is a {animal}."),
            next(i for i, line in enumerate(lines) if str(line).startswith(f"{ANIMALS[animal].capitalize()} are")),
        )
        lines.append((f"What is {person.lower()} afraid of?", feared[animal], support))
    return lines


MAKERS: dict[int, Callable[[random.Random], list[Line]]] = {
    1: _where_is_a_person,
    2: _where_is_a_thing,
    5: _who_gave_what,
    6: _is_a_person_there,
    15: _what_is_feared,
}
