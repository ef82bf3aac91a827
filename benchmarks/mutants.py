"""Which errors in the code would no test notice?  python -m benchmarks.mutants [MODULE …]

A mutant is a module that decides a figure, with one small change: another comparison, sign or
number, max for min, a line left out. In a copy of the tree, the tests that name the module are run
on it until one fails. Where none does, a test is missing, or the change has no effect on a figure.

    python -m benchmarks.mutants --sample 100             of all modules, a hundred by chance
    python -m benchmarks.mutants vramcast/gpus.py         all of one module
    python -m benchmarks.mutants --list                   what was found so far

What was found is kept in results/local/mutants.jsonl as it comes, so the run may be ended by
Ctrl-C and begun again: a mutant that was noticed is not tried again as long as its module is the
same, one that survived as long as its tests are the same, too.

Of the tools for this, mutmut (3.8) leaves tables and constants outside of functions as they are,
and wraps functions in others, whose frames vramcast would see; cosmic-ray (8.7) knows one command
of tests for all modules, and changes the files that one works on. Here, tests run in processes
that are forked from one that has imported PyTorch, and but for a few modules start no others.
"""

import argparse
import ast
import contextlib
import difflib
import hashlib
import importlib
import itertools
import json
import multiprocessing
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent
FOUND = ROOT / "results" / "local" / "mutants.jsonl"
IMPORTED = ("torch", "torchvision", "lightning", "torchmetrics", "numpy", "hypothesis", "pytest")
MEMORY = 8 * 2**30  # bytes that a mutant may take
GROUPS = tomllib.loads((ROOT / "benchmarks" / "mutants.toml").read_text())
TESTS = GROUPS["quick"] | GROUPS["slow"]  # by module, the names of its tests

ARITHMETIC = {
    ast.Add: ("+", "-"), ast.Sub: ("-", "+"), ast.Mult: ("*", "/"), ast.Div: ("/", "*"),
    ast.FloorDiv: ("//", "*"), ast.Mod: ("%", "//"), ast.Pow: ("**", "*"),
    ast.LShift: ("<<", ">>"), ast.RShift: (">>", "<<"), ast.BitOr: ("|", "&"),
    ast.BitAnd: ("&", "|"), ast.And: ("and", "or"), ast.Or: ("or", "and"),
    ast.Lt: ("<", "<="), ast.LtE: ("<=", "<"), ast.Gt: (">", ">="), ast.GtE: (">=", ">"),
    ast.Eq: ("==", "!="), ast.NotEq: ("!=", "=="), ast.Is: ("is", "is not"),
    ast.IsNot: ("is not", "is"), ast.In: ("in", "not in"), ast.NotIn: ("not in", "in"),
}  # fmt: skip
FUNCTIONS = {"max": "min", "min": "max", "any": "all", "all": "any", "sum": "max"}


class Mutant(NamedTuple):
    """A module with one change."""

    module: str
    line: int
    text: bytes
    diff: str

    @property
    def key(self) -> str:
        """What tells it from others."""
        return hashlib.sha256(self.module.encode() + self.text).hexdigest()[:16]


def mutants(module: str, text: bytes) -> Iterator[Mutant]:
    """All mutants of a module; text in messages, docstrings and annotations stays."""
    starts = [0]
    for line in text.splitlines(keepends=True):
        starts.append(starts[-1] + len(line))

    def span(node: ast.AST) -> tuple[int, int]:
        return (
            starts[node.lineno - 1] + node.col_offset,
            starts[node.end_lineno - 1] + node.end_col_offset,
        )

    before, seen = text.decode().splitlines(), {text}
    for node in _nodes(ast.parse(text)):
        for begin, end, other in _changes(node, span, text):
            changed = text[:begin] + other.encode() + text[end:]
            if changed in seen:
                continue
            seen.add(changed)
            difference = difflib.unified_diff(before, changed.decode().splitlines(), n=0)
            diff = "\n".join(line for line in list(difference)[2:] if not line.startswith("@@"))
            yield Mutant(module, text.count(b"\n", 0, begin) + 1, changed, diff)


def _nodes(node: ast.AST) -> Iterator[ast.AST]:
    for name, value in ast.iter_fields(node):
        if name in ("annotation", "returns", "decorator_list", "type_params"):
            continue
        for child in value if isinstance(value, list) else [value]:
            if isinstance(child, ast.AST) and not isinstance(child, ast.JoinedStr):
                yield child
                yield from _nodes(child)


def _changes(node: ast.AST, span, text: bytes) -> Iterator[tuple[int, int, str]]:
    """The places in the text, and what may stand there instead."""

    def between(one: ast.AST, other: ast.AST, kind: ast.AST):
        old, new = ARITHMETIC.get(type(kind), ("", ""))
        begin, end = span(one)[1], span(other)[0]
        place = text.find(old.encode(), begin, end) if old else -1
        if place >= 0:
            yield place, place + len(old), new

    begin, end = span(node) if hasattr(node, "lineno") else (0, 0)
    match node:
        case ast.BinOp(left, op, right):
            yield from between(left, right, op)
        case ast.AugAssign(target, op, value):
            yield from between(target, value, op)
        case ast.BoolOp(op, values):
            for one, other in itertools.pairwise(values):
                yield from between(one, other, op)
        case ast.Compare(left, ops, comparators):
            for one, op, other in zip([left, *comparators], ops, comparators):
                yield from between(one, other, op)
        case ast.UnaryOp(ast.Not()):
            yield begin, begin + 4, ""
        case ast.UnaryOp(ast.USub()):
            yield begin, begin + 1, ""
        case ast.Call(ast.Name(name)) if name in FUNCTIONS:
            yield begin, begin + len(name), FUNCTIONS[name]
        case ast.Constant(bool()):
            yield begin, end, str(not node.value)
        case ast.Constant(int() | float()):
            yield begin, end, str(node.value + 1)
        case ast.If(test) | ast.IfExp(test) | ast.While(test):
            first, last = span(test)
            yield first, last, f"not ({text[first:last].decode()})"
        case ast.Return(value) if value is not None:
            yield *span(value), "None"
    plain = isinstance(node, ast.Expr) and not isinstance(node.value, (ast.Constant, ast.Yield))
    kept = isinstance(node, ast.Assign) and not isinstance(node.targets[0], (ast.Name, ast.Tuple))
    if plain or kept or isinstance(node, (ast.AugAssign, ast.Continue, ast.Break, ast.Raise)):
        yield begin, end, "pass"


# ------------------------------------------------------------------------------------------- runs


def copied() -> list[str]:
    """The files of the tree that git does not ignore."""
    command = ("git", "ls-files", "-z", "--cached", "--others", "--exclude-standard")
    return subprocess.check_output(command, cwd=ROOT, text=True).strip("\0").split("\0")


def copy(folder: Path) -> None:
    """Copy the tree, with compiled modules that Python holds against their source."""
    for name in copied():
        source, target = ROOT / name, folder / name
        if source.exists() or source.is_symlink():
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, target, follow_symlinks=False)
    compiled = ("compileall", "-q", "--invalidation-mode", "checked-hash", ".")
    subprocess.run([sys.executable, "-m", *compiled], cwd=folder, check=True)


def paths(module: str) -> list[str]:
    """The files of a module's tests."""
    return [f"tests/test_{name}.py" for name in TESTS[module]]


def run(folder: Path, module: str, limit: float | None = None) -> int | None:
    """The exit status of a module's tests there; None if they took more seconds than the limit."""
    process = multiprocessing.get_context("fork").Process(target=_pytest, args=(folder, module))
    process.start()
    try:
        process.join(limit)
        return process.exitcode
    finally:
        if process.is_alive():
            os.kill(process.pid, signal.SIGINT)  # so that tests end what they have started
            process.join(20)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.join()


def _pytest(folder: Path, module: str) -> None:
    """In the forked process: run a module's tests, and leave with pytest's status."""
    import pytest

    os.setsid()
    signal.signal(signal.SIGINT, signal.default_int_handler)
    output = os.open(folder.parent / "output", os.O_CREAT | os.O_WRONLY | os.O_TRUNC)
    os.dup2(output, 1)
    os.dup2(output, 2)
    sys.stdout = sys.stderr = os.fdopen(output, "w")
    if sys.platform == "linux":
        resource.setrlimit(resource.RLIMIT_DATA, (MEMORY, MEMORY))
    os.chdir(folder)
    os.environ |= {
        "PYTHONPATH": str(folder), "PYTHONDONTWRITEBYTECODE": "1", "OMP_NUM_THREADS": "1",
        "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",  # which takes seconds
    }  # fmt: skip
    sys.dont_write_bytecode = True
    sys.path[:] = [str(folder), *(one for one in sys.path if Path(one or ".").resolve() != ROOT)]
    for name in [name for name in sys.modules if name.partition(".")[0] == "benchmarks"]:
        del sys.modules[name]  # this one's, not the copy's
    sys.modules["__main__"] = pytest  # what processes of the tests take for it
    if module in GROUPS["quick"]:
        from tests import warm

        warm.run_all = lambda *asked: pytest.skip("a prediction")
    status = pytest.main(["-x", "-q", "-p", "no:cacheprovider", *paths(module)])
    sys.stdout.flush()
    os._exit(int(status))


def noticed(mutant: Mutant, folder: Path, limit: float) -> str:
    """Which test noticed it, "time" if the tests did not end, "" if they passed."""
    path = folder / mutant.module
    before = path.read_bytes()
    path.write_bytes(mutant.text)
    try:
        status = run(folder, mutant.module, limit)
    finally:
        path.write_bytes(before)
    if status == 0:
        return ""
    said = (folder.parent / "output").read_text(errors="replace").splitlines()
    failed = [line.split(" - ")[0] for line in said if line.startswith(("FAILED ", "ERROR "))]
    return "time" if status is None else [*failed, "pytest ended"][0]


def digest(module: str, root: Path) -> str:
    """What a survivor depends on beside itself: its tests."""
    contents = [(root / path).read_bytes() for path in paths(module)]
    return hashlib.sha256(b"".join(contents)).hexdigest()[:16]


def known() -> dict[str, dict]:
    """What was found in earlier runs, by the mutants' keys."""
    rows = {}
    for line in FOUND.read_text().splitlines() if FOUND.exists() else []:
        with contextlib.suppress(ValueError):  # a run that was killed left half of a line
            row = json.loads(line)
            rows[row["key"]] = row
    return rows


def unknown(chosen: list[Mutant]) -> list[Mutant]:
    """Those of which nothing is known, or that survived tests that have changed since."""
    found = known()
    return [
        one for one in chosen
        if (row := found.get(one.key)) is None
        or (not row["noticed"] and row["tests"] != digest(one.module, ROOT))
    ]  # fmt: skip


def show(rows: list[dict]) -> None:
    """Print the survivors, and how many there are."""
    left = [row for row in rows if not row["noticed"]]
    for row in sorted(left, key=lambda row: (row["module"], row["line"])):
        print(f"\n{row['module']}:{row['line']}\n{row['diff']}")
    print(f"\n{len(rows)} mutants, of which {len(left)} survived", flush=True)


def search(chosen: list[Mutant]) -> None:
    """Try these mutants, and keep what is found as it comes."""
    signal.signal(signal.SIGINT, signal.default_int_handler)  # in the background, too
    for name in IMPORTED:
        importlib.import_module(name)
    FOUND.parent.mkdir(parents=True, exist_ok=True)
    limits: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as above, FOUND.open("a") as kept:
        folder = Path(above).resolve() / "tree"
        copy(folder)
        for number, mutant in enumerate(chosen, 1):
            if mutant.module not in limits:
                began = time.monotonic()
                if run(folder, mutant.module) != 0:
                    output = (folder.parent / "output").read_text()
                    sys.exit(f"{output}\nThe tests of {mutant.module} fail without a change.")
                limits[mutant.module] = 30 + 5 * (time.monotonic() - began)
            by = noticed(mutant, folder, limits[mutant.module])
            row = {name: getattr(mutant, name) for name in ("key", "module", "line", "diff")}
            row |= {"tests": digest(mutant.module, folder), "noticed": by}
            print(json.dumps(row), file=kept, flush=True)
            where = f"{mutant.module}:{mutant.line}"
            print(f"{number}/{len(chosen)} {where}: {by or 'survived'}", flush=True)


def main() -> None:
    """Answer the command line."""
    parser = argparse.ArgumentParser(description="Which errors would no test notice?")
    parser.add_argument("module", nargs="*", default=list(TESTS), help="all, if none is named")
    parser.add_argument("--sample", type=int, help="how many, by chance; all, if not given")
    parser.add_argument("--seed", type=int, default=0, help="of the chance")
    parser.add_argument("--list", action="store_true", help="show what is known, and try none")
    asked = parser.parse_args()
    if others := set(asked.module) - set(TESTS):
        parser.error(f"no tests are known for {', '.join(others)}: see benchmarks/mutants.toml")
    chosen = [one for name in asked.module for one in mutants(name, (ROOT / name).read_bytes())]
    if asked.sample is not None:
        chosen = random.Random(asked.seed).sample(chosen, min(asked.sample, len(chosen)))
    if not asked.list:
        with contextlib.suppress(KeyboardInterrupt):
            search(unknown(chosen))
    found = known()
    show([found[one.key] for one in chosen if one.key in found])


if __name__ == "__main__":
    main()
