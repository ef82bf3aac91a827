"""Marks loops, and the numbers that conditions compare, in a script's source before it is run.

`for x in ITEMS` becomes `for x in LOOP(ITEMS, place)`, and a `while` loop such a `for` loop without
an end. A loop with a `yield` stays as it is: it waits for another one, which ends it. Where only a
`return` ends a `while True`, what is there is done when it ends early.
`a < b`, `a in b` and `a % b` become those of NUMBER(a) and NUMBER(b), which returns what it is
given. `int(a)` becomes WHOLE(int, a), since a number that is
not known would forget that. Where 0 stands for a number that is not known, a divisor DIVISOR(b) is
1, and MORE(a, b) and LESS(a, b) of two such numbers are once true. Lines stay where they are. What
a script computes does not change, but for these, and for iterations left out.
"""

import ast
import copy
import itertools
from collections.abc import Iterator
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import CodeType

LOOP, ENDLESS, NUMBER = "__vramcast_loop__", "__vramcast_endless__", "__vramcast_number__"
TURN, WHOLE, DIVISOR = "__vramcast_turn__", "__vramcast_whole__", "__vramcast_divisor__"
DIVISIONS = (ast.Div, ast.FloorDiv)
MORE, LESS = "__vramcast_more__", "__vramcast_less__"
BETTER = {ast.Gt: MORE, ast.Lt: LESS}
ORDERS = (ast.Lt, ast.LtE, ast.Gt, ast.GtE, ast.Eq, ast.NotEq)
SCOPES = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Lambda)
_numbers = itertools.count()


class _Marker(ast.NodeTransformer):
    """Marks loops and conditions; `file` is named with each line, "" for the script itself."""

    def __init__(self, file: str) -> None:
        self.file = file

    def _place(self, node: ast.stmt | ast.expr) -> str:
        return f"{self.file}line {node.lineno}"

    def visit_For(self, node: ast.For) -> ast.For:
        self.generic_visit(node)
        if _yields(node):
            return node
        node.iter = _call(LOOP, node.iter, ast.Constant(self._place(node)))
        return node

    def visit_While(self, node: ast.While) -> ast.AST:
        ends = _Conditions(self._place(node), ends=True)
        node.test = ends.visit(node.test)
        self.generic_visit(node)
        if node.orelse or _yields(node):  # an `else` runs where the condition ends the loop
            return node
        ending = _ending(node) if _endless(node) else []
        leave = ast.If(ast.UnaryOp(ast.Not(), node.test), [ast.Break()], [])
        items = _call(ENDLESS, ast.Constant(self._place(node)))
        turn = ast.Name(TURN, ast.Store())
        return ast.copy_location(ast.For(turn, items, [leave, *node.body], ending), node)

    def visit_If(self, node: ast.If) -> ast.If:
        ends = any(isinstance(inner, (ast.Break, ast.Return)) for inner in node.body)
        node.test = _Conditions(self._place(node), ends).visit(node.test)
        self.generic_visit(node)
        return node

    def visit_Call(self, node: ast.Call) -> ast.Call:
        self.generic_visit(node)
        whole = isinstance(node.func, ast.Name) and node.func.id == "int"
        if whole and len(node.args) == 1 and not node.keywords:
            return ast.copy_location(_call(WHOLE, node.func, *node.args), node)
        return node

    def visit_Compare(self, node: ast.Compare) -> ast.expr:
        """One that is in no condition: of a flag, or of what a function returns."""
        self.generic_visit(node)
        return _Conditions(self._place(node), ends=False, chosen=False).compare(node)

    def visit_BinOp(self, node: ast.BinOp) -> ast.BinOp:
        self.generic_visit(node)
        node = _Conditions(self._place(node), ends=False).remainder(node)
        if isinstance(node.op, DIVISIONS) and not isinstance(node.right, ast.Constant):
            node.right = _call(DIVISOR, node.right)
        return node

    def visit_AugAssign(self, node: ast.AugAssign) -> ast.AugAssign:
        self.generic_visit(node)
        if isinstance(node.op, DIVISIONS) and not isinstance(node.value, ast.Constant):
            node.value = _call(DIVISOR, node.value)
        return node

    def visit_IfExp(self, node: ast.IfExp) -> ast.IfExp:
        node.test = _Conditions(self._place(node), ends=False).visit(node.test)
        self.generic_visit(node)
        return node


def _inside(node: ast.AST, but: tuple[type, ...]) -> Iterator[ast.AST]:
    """What is inside of a node, but not inside of other functions, classes and these types."""
    for child in ast.iter_child_nodes(node):
        if not isinstance(child, (*SCOPES, *but)):
            yield child
            yield from _inside(child, but)


def _yields(loop: ast.For | ast.While) -> bool:
    return any(isinstance(node, (ast.Yield, ast.YieldFrom)) for node in _inside(loop, ()))


def _endless(loop: ast.While) -> bool:
    return isinstance(loop.test, ast.Constant) and bool(loop.test.value)


def _ending(loop: ast.While) -> list[ast.stmt]:
    """What the last `if` in a loop does that ends in a `return`: for when it ends early."""
    own = (ast.For, ast.AsyncFor, ast.While)
    found = [
        node.body
        for node in _inside(loop, own)
        if isinstance(node, ast.If) and isinstance(node.body[-1], ast.Return)
    ]
    leaves = any(isinstance(node, ast.Break) for node in _inside(loop, own))
    return copy.deepcopy(found[-1]) if found and not leaves else []


class _Conditions(ast.NodeTransformer):
    """Marks what each comparison, and each remainder, in a condition is of."""

    def __init__(self, place: str, ends: bool, chosen: bool = True) -> None:
        """`ends`: whether a loop ends by it; `chosen`: whether it decides what is run."""
        self.place, self.ends, self.chosen = place, ends, chosen

    def visit_Compare(self, node: ast.Compare) -> ast.expr:
        self.generic_visit(node)
        return self.compare(node)

    def visit_BinOp(self, node: ast.BinOp) -> ast.BinOp:
        self.generic_visit(node)
        return self.remainder(node)

    def compare(self, node: ast.Compare) -> ast.expr:
        """A comparison, or several in a chain, with its parts marked."""
        if _marked(node.left):
            return node
        if len(node.ops) == 1 and isinstance(node.ops[0], (ast.In, ast.NotIn)):
            node.left, node.comparators[0] = self._both(node.left, node.comparators[0], "among")
        if not all(isinstance(one, ORDERS) for one in node.ops):
            return node
        sides = [node.left, *node.comparators]
        given = any(isinstance(one, ast.Constant) for one in sides)
        for place in range(len(node.ops)):
            sides[place], sides[place + 1] = self._both(sides[place], sides[place + 1], "order")
        node.left, *node.comparators = sides
        name = BETTER.get(type(node.ops[0]))
        if given or self.ends or not self.chosen or name is None or len(node.ops) > 1:
            return node
        here = ast.Constant(f"{self.place}:{node.col_offset}")
        return ast.copy_location(_call(name, *sides, here), node)

    def remainder(self, node: ast.BinOp) -> ast.BinOp:
        """An operation with its parts marked if it is a remainder."""
        text = isinstance(node.left, (ast.JoinedStr, ast.Constant))
        if isinstance(node.op, ast.Mod) and not text and not _marked(node.left):
            node.left, node.right = self._both(node.left, node.right, "remainder")
        return node

    def visit_Lambda(self, node: ast.Lambda) -> ast.Lambda:
        return node

    def _both(self, left: ast.expr, right: ast.expr, kind: str) -> tuple[ast.Call, ast.Call]:
        key = (next(_numbers), self.place, kind, self.ends)
        first, second = (ast.Constant((*key, side)) for side in (False, True))
        return _call(NUMBER, left, first), _call(NUMBER, right, second)


def _marked(node: ast.expr) -> bool:
    """Whether it is compared, or the left part of a remainder, and was marked as such."""
    return isinstance(node, ast.Call) and getattr(node.func, "id", "") == NUMBER


def _call(name: str, *arguments: ast.expr) -> ast.Call:
    return ast.Call(ast.Name(name, ast.Load()), list(arguments), [])


def marked(tree: ast.Module, file: str = "") -> ast.Module:
    """A source with its loops and compared numbers marked; `file`: where it is another's."""
    return ast.fix_missing_locations(_Marker(file and f"{file}, ").visit(tree))


def install(folder: Path) -> None:
    """Mark what is imported from a folder, too: a script's own modules."""
    ours = Path(__file__).parents[1]
    get_code = SourceFileLoader.get_code

    def get_marked_code(loader: SourceFileLoader, name: str) -> CodeType | None:
        path = Path(loader.get_filename(name))
        installed = "site-packages" in path.parts or path.is_relative_to(ours)
        if installed or not path.is_relative_to(folder):
            return get_code(loader, name)
        tree = ast.parse(loader.get_data(str(path)), str(path))
        return compile(marked(tree, path.name), str(path), "exec", dont_inherit=True)

    SourceFileLoader.get_code = get_marked_code
