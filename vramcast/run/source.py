"""What a script's text tells: its numbers, what it imports, whether it is for several GPUs."""

import ast
import re

# what Python raises of a text that it cannot compile: wrong, with a zero byte, nested too deeply
NO_PYTHON = (SyntaxError, ValueError, RecursionError, MemoryError)
Place = tuple[int, int]  # line, and column in bytes
# in the text of a script that is started once for each GPU, as by torchrun
GROUP = (b"init_process_group", b"LOCAL_RANK", b"init_device_mesh", b"WORLD_SIZE")
# in that of one that starts the others itself, by Lightning
STRATEGIES = re.compile(
    rb"""(DDP|FSDP|ModelParallel)Strategy\(|strategy\s*=\s*["'](ddp|fsdp|deepspeed)"""
)


def starts_group(source: bytes) -> bool:
    """Whether a script's text shows that it is one of several processes."""
    return any(word in source for word in GROUP)


def several_gpus(source: bytes) -> bool:
    """Whether a script's text shows that it trains on several GPUs."""
    return starts_group(source) or STRATEGIES.search(source) is not None


def imported(source: bytes) -> set[str]:
    """The names of the packages that a script's text imports; none if it is no Python."""
    try:
        nodes = list(ast.walk(ast.parse(source)))
    except NO_PYTHON:
        return set()
    names = [alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names]
    names += [node.module for node in nodes if isinstance(node, ast.ImportFrom) and node.module]
    return {name.partition(".")[0] for name in names}


def loops(source: bytes) -> dict[int, tuple[int, bool]]:
    """The lines in which a loop reads what decides how often it runs.

    For each, the loop's own line, and whether it is of a `while`'s condition. Others are those in
    the loop that assign what it compares, and those of `for … in range(…)`.
    """
    try:
        nodes = list(ast.walk(ast.parse(source)))
    except NO_PYTHON:
        return {}
    found = {}
    for loop in nodes:
        if isinstance(loop, (ast.For, ast.While)) and loop.body[0].lineno == loop.lineno:
            continue  # all in one line
        if isinstance(loop, ast.For) and "range" in ast.dump(loop.iter):
            found |= dict.fromkeys(_lines(loop.iter), (loop.lineno, False))
        if not isinstance(loop, ast.While):
            continue
        names = {node.id for node in ast.walk(loop.test) if isinstance(node, ast.Name)}
        for node in (node for one in loop.body for node in ast.walk(one)):
            targets = getattr(node, "targets", [getattr(node, "target", None)])
            parts = [part for one in targets if one for part in ast.walk(one)]
            written = {part.id for part in parts if isinstance(part, ast.Name)}
            if isinstance(node, (ast.Assign, ast.AugAssign, ast.AnnAssign)) and written & names:
                found |= dict.fromkeys(_lines(node), (loop.lineno, False))
        found |= dict.fromkeys(_lines(loop.test), (loop.lineno, True))
    return found


def _lines(node: ast.AST) -> range:
    return range(node.lineno, node.end_lineno + 1)


def places(source: bytes, value: int) -> list[Place]:
    """The places of this number in a source; none if the source is no Python."""
    try:
        return [place for place, number in _numbers(ast.parse(source)) if number.value == value]
    except NO_PYTHON:
        return []


def replaced(source: bytes, filename: str, place: Place, value: int) -> ast.Module:
    """The source with `value` in the place of the number there."""
    tree = ast.parse(source, filename)
    for found, number in _numbers(tree):
        if found == place:
            number.value = value
    return tree


def _numbers(tree: ast.Module) -> list[tuple[Place, ast.Constant]]:
    return [
        ((node.lineno, node.col_offset), node)
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and type(node.value) is int
    ]
