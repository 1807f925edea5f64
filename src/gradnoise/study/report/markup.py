"""Text of users in Markdown: it is shown as it was written, and nothing in it formats, links or begins a block."""

from __future__ import annotations

import re

from gradnoise.terminal import printable

#: What acts anywhere: marks; the middle of a link; an entity; the start of an address; a name of an emoji.
_INLINE = re.compile(
    r"[\\|*_`<~$@]|\](?=[(\[])|&(?=#?\w+;)|:(?=//)|(?<=mailto):|(?<=xmpp):|:(?=[a-z+-][a-z0-9_+-]*:)|(?<=www)\.",
    re.IGNORECASE,
)
#: What begins a heading, a quotation, a list, a rule or the address of a link, at the start of a block.
_BLOCK = re.compile(r"(?:#{1,6}|[-+])(?=\s|$)|>|\[|-(?=[- ]*$)|=(?==*$)|(?<=^)\d{1,9}(?=[.)](?:\s|$))")


def inline(text: str) -> str:
    """Return text for a cell of a table, or the middle of a paragraph."""
    return _INLINE.sub(r"\\\g<0>", " ".join(printable(text).split()))


def paragraph(text: str) -> str:
    """Return text for a paragraph of its own."""
    text = inline(text)
    begins = _BLOCK.match(text)
    if begins is None:
        return text
    if begins[0].isdecimal():
        return f"{begins[0]}\\{text[begins.end() :]}"
    return f"\\{text}"


def heading(text: str) -> str:
    """Return text for a heading, whose end may look like the end of one."""
    return re.sub(r"#(?=#*$)", r"\#", inline(text))
