"""What a script's text tells: its numbers, what it imports, whether it is for several GPUs."""

import ast
import re

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
    except (SyntaxError, ValueError):
        return set()
    names = [alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names]
    names += [node.module for node in nodes if isinstance(node, ast.ImportFrom) and node.module]
    return {name.partition(".")[0] for name in names}


def places(source: bytes, value: int) -> list[Place]:
    """The places of this number in a source; none if the source is no Python."""
    try:
        return [place for place, number in _numbers(ast.parse(source)) if number.value == value]
    except (SyntaxError, ValueError):
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
