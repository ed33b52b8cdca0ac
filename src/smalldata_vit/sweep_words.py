"""A job's own overrides in the room that there is for them."""

from collections.abc import Sequence

from smalldata_vit.words import parts

CUT = "…"
LEAST = 6
"""Characters of a word that still tell something."""


def shortened(words: Sequence[str], room: int) -> str:
    """Overrides in at most so many characters, as they are typed if they fit.

    Else each key keeps just the end that tells it from the others; if that is too long as well, the longest words lose
    their middle, for keys differ at their beginning and values at their end.
    """
    if not words:
        return end_cut("(as it is)", room)
    if len(said := " ".join(words)) <= room or len(said := " ".join(short_keys(words))) <= room:
        return said
    short = short_keys(words)
    left, widths = room - (len(short) - 1), list[int]()
    for place, length in enumerate(sorted(len(word) for word in short)):
        widths.append(min(length, (left - sum(widths)) // (len(short) - place)))
    most = max(widths)
    if most < LEAST:
        return end_cut(said, room)
    return " ".join(middle_cut(word, most) for word in short)


def short_keys(words: Sequence[str]) -> list[str]:
    """Overrides with as much of the end of each key as tells it from the others."""
    keys = [parts(word)[1].split(".") for word in words]
    found = []
    for word, key in zip(words, keys, strict=True):
        others = [other for other in keys if other != key]
        fewest = next(n for n in range(1, len(key) + 1) if all(o[-n:] != key[-n:] for o in others) or n == len(key))
        sign, _, value = parts(word)
        found.append(f"{sign}{'.'.join(key[-fewest:])}" + ("" if value is None else f"={value}"))
    return found


def middle_cut(text: str, width: int) -> str:
    """A text of at most so many characters; what is too long loses its middle."""
    if len(text) <= width:
        return text
    behind = (width - 1) // 2
    return text[: width - 1 - behind] + CUT + text[len(text) - behind :]


def end_cut(text: str, width: int) -> str:
    """A text of at most so many characters; what is too long loses its end."""
    return text if len(text) <= width else text[: max(0, width - 1)] + CUT
