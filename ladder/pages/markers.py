"""Pages with generated parts: each part stands between two comments, and is replaced there."""

import re


def put(page: str, name: str, text: str) -> str:
    """The page with `text` as its part `name`. Raises ValueError if a comment is missing."""
    start, end = f"<!-- {name}: start", f"<!-- {name}: end -->"
    parts = re.fullmatch(rf"(.*{start}[^\n]*-->\n).*({end}.*)", page, re.DOTALL)
    if parts is None:
        raise ValueError(f"the page needs the two lines\n{start} … -->\n{end}")
    return f"{parts[1]}\n{text}\n\n{parts[2]}"
