"""The parts of a page that are made from results stand between two comments."""

import re


def put(page: str, name: str, text: str) -> str:
    """A page with `text` in its part `name`; ValueError if a comment is missing."""
    start, end = f"<!-- {name}: start", f"<!-- {name}: end -->"
    parts = re.fullmatch(rf"(.*{start}[^\n]*-->\n).*({end}.*)", page, re.DOTALL)
    if parts is None:
        raise ValueError(f"the page needs the two lines\n{start} … -->\n{end}")
    return f"{parts[1]}\n{text}\n\n{parts[2]}"
