"""People who walk between rooms and carry things: the small world behind the generated stories."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence

PEOPLE = ("Mary", "John", "Daniel", "Sandra")
PLACES = ("bathroom", "bedroom", "garden", "hallway", "kitchen", "office")
THINGS = ("apple", "football", "milk")

MOVE = ("went to", "went back to", "journeyed to", "travelled to", "moved to")
GET = ("got", "grabbed", "took", "picked up")
DROP = ("dropped", "discarded", "left", "put down")
GIVE = ("gave", "passed", "handed")


class World:
    """Everyone and everything starts in a random place that the reader does not know.

    Attributes:
        place: person -> where they are.
        moved: person -> line of their last move.
        last_act: "move", "get", "drop" or "give".
        last_gift: giver, thing and receiver of the last gift.
    """

    def __init__(self, rng: random.Random, people: Sequence[str] = PEOPLE) -> None:
        self._rng = rng
        self._people = people
        self.place = {person: rng.choice(PLACES) for person in people}
        self._lies = {thing: rng.choice(PLACES) for thing in THINGS}  # of things that nobody holds
        self._holder: dict[str, str] = {}
        self._touched: dict[str, int] = {}
        self._dropped: dict[str, tuple[str, tuple[int, ...]]] = {}  # dropped where told: place, supporting lines
        self.moved: dict[str, int] = {}
        self.last_act = ""
        self.last_gift = ("", "", "")

    def act(self, line: int, weights: Mapping[str, float], untouched: str | None = None) -> str:
        """One possible act as a statement; kinds by weight among those that are possible now.

        Args:
            line: its position in the story.
            weights: kind of act -> weight.
            untouched: a thing that is left alone, if any.
        """
        options = {
            "move": [()],
            "get": [(p, o) for o, at in self._lies.items() for p in self._people if self.place[p] == at],
            "drop": [(p, o) for o, p in self._holder.items()],
            "give": [
                (p, o, r)
                for o, p in self._holder.items()
                for r in self._people
                if r != p and self.place[r] == self.place[p]
            ],
        }
        possible = {kind: [c for c in options[kind] if untouched not in c] for kind in weights}
        kinds = [k for k in weights if possible[k]]
        kind = self._rng.choices(kinds, weights=[weights[k] for k in kinds])[0]
        if kind == "move":
            return self.move(line)
        chosen = self._rng.choice(possible[kind])
        self.last_act = kind
        return getattr(self, f"_{kind}")(line, *chosen)

    def move(self, line: int) -> str:
        """Somebody goes to another place."""
        person = self._rng.choice(self._people)
        self.place[person] = place = self.elsewhere(person)
        self.moved[person] = line
        self.last_act = "move"
        return f"{person} {self._rng.choice(MOVE)} the {place}."

    def elsewhere(self, person: str) -> str:
        """A place where the person is not."""
        return self._rng.choice([p for p in PLACES if p != self.place[person]])

    def askable_things(self) -> dict[str, tuple[str, tuple[int, ...]]]:
        """Thing -> its place and the lines from which that follows, where both were told."""
        known = dict(self._dropped)
        for thing, person in self._holder.items():
            if person in self.moved:
                known[thing] = self.place[person], (self._touched[thing], self.moved[person])
        return known

    def _get(self, line: int, person: str, thing: str) -> str:
        del self._lies[thing]
        self._dropped.pop(thing, None)
        self._holder[thing] = person
        self._touched[thing] = line
        return f"{person} {self._rng.choice(GET)} the {thing} there."

    def _drop(self, line: int, person: str, thing: str) -> str:
        del self._holder[thing]
        self._lies[thing] = self.place[person]
        if person in self.moved:
            self._dropped[thing] = self.place[person], (line, self.moved[person])
        there = " there" if self._rng.random() < 0.2 else ""
        return f"{person} {self._rng.choice(DROP)} the {thing}{there}."

    def _give(self, line: int, person: str, thing: str, receiver: str) -> str:
        self._holder[thing] = receiver
        self._touched[thing] = line
        self.last_gift = person, thing, receiver
        return f"{person} {self._rng.choice(GIVE)} the {thing} to {receiver}."
