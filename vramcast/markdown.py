"""Text that may come from a script, in Markdown: it stays text, whatever is in it."""

import re


def code(text: str) -> str:
    """A code span; in a table's cell, too."""
    words = " ".join(text.split()).replace("|", r"\|")
    ticks = _longer_than_any("`", words, least=1)
    return f"{ticks} {words} {ticks}" if "`" in words else f"{ticks}{words}{ticks}"


def block(text: str, kind: str = "") -> str:
    """A block of code; `kind` is its language."""
    ticks = _longer_than_any("`", text, least=3)
    return f"{ticks}{kind}\n{text.removesuffix(chr(10))}\n{ticks}"


def _longer_than_any(sign: str, text: str, least: int) -> str:
    runs = re.findall(f"{sign}+", text)
    return sign * max(least, *(len(run) + 1 for run in runs), 0)
