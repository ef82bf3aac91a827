"""The whole numbers in a script's source, of which one may be its batch size."""

import ast
from types import CodeType

Place = tuple[int, int]  # line, and column in bytes


def places(source: bytes, value: int) -> list[Place]:
    """The places of this number in a source; none if the source is no Python."""
    try:
        return [place for place, number in _numbers(ast.parse(source)) if number.value == value]
    except (SyntaxError, ValueError):
        return []


def replaced(source: bytes, filename: str, place: Place, value: int) -> CodeType:
    """The source with `value` in the place of the number there."""
    tree = ast.parse(source, filename)
    for found, number in _numbers(tree):
        if found == place:
            number.value = value
    return compile(tree, filename, "exec")


def _numbers(tree: ast.Module) -> list[tuple[Place, ast.Constant]]:
    return [
        ((node.lineno, node.col_offset), node)
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and type(node.value) is int
    ]
