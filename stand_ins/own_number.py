"""The number in a script's source that becomes its batch size, found by following it.

Each whole number of the source is replaced by one that knows its place. It stays what it is while
it is assigned, handed on, kept in an object or used as an option's default; what is computed from
it is a plain number again.
"""

import ast
from types import CodeType

MAKER = "__number_of_the_source__"


class Number(int):
    """A whole number that knows its place in the source: its line, and its column in bytes."""

    place: tuple[int, int]


def of_source(value: int, line: int, column: int) -> Number:
    """The number that the source has at a place."""
    number = Number(value)
    number.place = line, column
    return number


class _Mark(ast.NodeTransformer):
    def visit_Constant(self, node: ast.Constant) -> ast.expr:
        if type(node.value) is not int:
            return node
        arguments = [ast.Constant(n) for n in (node.value, node.lineno, node.col_offset)]
        return ast.copy_location(ast.Call(ast.Name(MAKER, ast.Load()), arguments, []), node)

    def visit_MatchValue(self, node: ast.MatchValue) -> ast.MatchValue:
        return node  # calls cannot stand there


def marked(source: bytes, filename: str) -> CodeType:
    """The script with numbers that know their places; its globals need `of_source` as MAKER."""
    tree = ast.fix_missing_locations(_Mark().visit(ast.parse(source, filename)))
    return compile(tree, filename, "exec")


def replaced(source: bytes, filename: str, place: tuple[int, int], value: int) -> CodeType:
    """The script with `value` in the place of the number at `place`."""
    tree = ast.parse(source, filename)
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and (node.lineno, node.col_offset) == place:
            node.value = value
    return compile(tree, filename, "exec")
