"""How text of scripts, and of what they raised, gets into a page: a function for each place there.

All that comes from a script, its names and docstrings included, is text: nothing in it may end the
place that it stands in, or begin HTML, a link or a directive of the site's own.
"""

import json
import re
from html import escape
from urllib.parse import quote

from vramcast.markdown import block, code

__all__ = ["block", "code", "comment", "line", "plain", "prose", "script_json", "target"]

MARKS = re.compile(r"([\\`*\[\]<|])")
FENCES = re.compile(r"`{3,}|~{3,}|:{3,}")  # also a directive's
HTML = re.compile(r"<(?=[A-Za-z/!?])")


def prose(text: str) -> str:
    """Markdown that a docstring holds: with its emphasis and code spans, without HTML or fences."""
    without_fences = FENCES.sub(lambda found: re.sub("(.)", r"\\\1", found[0]), text)
    return HTML.sub("&lt;", without_fences)


def line(text: str) -> str:
    """The same in one line, for a table's cell."""
    return re.sub(r"(?<!\\)\|", r"\\|", prose(" ".join(text.split())))


def plain(text: str) -> str:
    """A name, or what an exception says, in one line: nothing in it is a mark of Markdown."""
    return MARKS.sub(r"\\\1", " ".join(text.split()))


def target(path: str) -> str:
    """The target of a link: a path, relative to the page."""
    return quote(path)


def comment(text: str) -> str:
    """Text in a comment of HTML, which only a `>` can end."""
    return escape(text, quote=False)


def script_json(value: object) -> str:
    """JSON for the inside of a `<script>`, which holds no `<`."""
    return json.dumps(value, separators=(",", ":")).replace("<", r"\u003c")
