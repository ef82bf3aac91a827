"""The ladder as its scripts tell it: their docstrings, their order and their differences."""

import ast
import difflib
import re
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

from vramcast.processes.entry import NoAnswer

ROOT = Path(__file__).resolve().parent.parent

FAMILIES = ("ViT-L/16", "ViT-H/14", "language models")
SCRIPTS = ("[0-9]*_*.py", "[0-9]*/[0-9]*_*.py", "bonus_*.py")
# Lines that a rung may add to its parent's code and remove from it, docstrings aside: a difference
# that grows beyond these holds more than one idea.
BUDGETS = {
    "01-2_pytorch-fabric.py": (20, 22),
    "02_mixed-precision.py": (1, 1),
    "02-2_bf16-mixed.py": (1, 1),
    "02-3_bf16-states.py": (5, 1),
    "03_bfloat16.py": (1, 1),
    "03-2_float16-nan.py": (12, 1),
    "03-3_last-blocks.py": (3, 2),
    "03-4_biases-and-norms.py": (3, 1),
    "04_lower-batchsize.py": (1, 1),
    "04-2_free-gradients.py": (1, 1),
    "04-3_compile.py": (1, 0),
    "04-4_compile-budget.py": (2, 0),
    "05_gradient-accum.py": (8, 4),
    "05-2_fused-adam.py": (1, 1),
    "06_sgd-with-scheduler.py": (7, 3),
    "06-2_adafactor.py": (1, 1),
    "07_init-module.py": (3, 2),
    "07-2_whole-batch.py": (4, 8),
    "08-10-vit-h14/08_baseline.py": (5, 5),
    "08-10-vit-h14/08-2_expandable-segments.py": (4, 0),
    "08-10-vit-h14/08-3_ddp.py": (4, 3),
    "08-10-vit-h14/08-4_zero-1.py": (4, 2),
    "08-10-vit-h14/08a_fsdp-defaults.py": (4, 3),
    "08-10-vit-h14/08b_fsdp-custom.py": (6, 2),
    "08-10-vit-h14/08c_fsdp-size-wrap.py": (5, 2),
    "08-10-vit-h14/09_fsdp-act-checkp.py": (3, 1),
    "08-10-vit-h14/09-2_fsdp2-act-checkp.py": (20, 8),
    "08-10-vit-h14/10_fsdp-with-cpu-offload.py": (3, 2),
    "11-16-under-1gb/11_act-checkp.py": (5, 0),
    "11-16-under-1gb/11-2_selective-checkp.py": (8, 2),
    "11-16-under-1gb/11-3_float16-mixed.py": (1, 1),
    "11-16-under-1gb/12_optimizer-in-backward.py": (15, 6),
    "11-16-under-1gb/13_batch-64.py": (1, 1),
    "11-16-under-1gb/13-2_token-dropping.py": (10, 0),
    "11-16-under-1gb/14_adamw-8bit.py": (7, 2),
    "11-16-under-1gb/14-2_adamw-4bit.py": (2, 2),
    "11-16-under-1gb/14-3_activation-offload.py": (2, 1),
    "11-16-under-1gb/14-4_optimizer-offload.py": (5, 2),
    "11-16-under-1gb/15_lora.py": (20, 2),
    "11-16-under-1gb/15-2_lora-peft.py": (6, 2),
    "11-16-under-1gb/16_qlora.py": (12, 5),
    "11-16-under-1gb/16-2_activation-offload.py": (2, 1),
    "11-16-under-1gb/16-3_vit-h14.py": (5, 5),
    "11-16-under-1gb/16-4_vit-h14-offload.py": (2, 1),
    "bonus_distilbert-after.py": (14, 6),
    "bonus_bigbird.py": (22, 18),
    "bonus_distilbert-lora.py": (6, 0),
}


@dataclass(frozen=True)
class Rung:
    """One script of the ladder."""

    script: str  # path relative to the repository
    parent: str | None  # the script it builds on
    variant: bool  # a side branch: later scripts do not contain its change
    title: str  # the docstring's first line
    lesson: str  # the docstring's paragraphs between `Builds on:` and `Run:`
    run: str  # the command that runs it


class LadderError(NoAnswer):
    """A docstring does not say where its script belongs."""


def read_rung(path: Path) -> Rung:
    """Read a script's docstring.

    Raises LadderError if a part of it is missing, or the file is no Python.
    """
    script = path.relative_to(ROOT).as_posix()
    try:
        doc = ast.get_docstring(ast.parse(path.read_bytes())) or ""
    except SyntaxError as error:  # also of a source that is not UTF-8
        raise LadderError(f"{script}, line {error.lineno}: {error.msg}") from None
    except (ValueError, RecursionError, MemoryError) as error:
        raise LadderError(f"{script} is no Python: {error}") from None
    match = re.fullmatch(
        r"(?P<title>.+)\n\nBuilds on: (?P<parent>\S+)(?P<variant> \(variant\))?\n\n"
        r"(?P<lesson>.+)\n\nRun: (?P<run>.+)",
        doc,
        re.DOTALL,
    )
    if match is None:
        raise LadderError(
            f"{script}: the docstring needs a first line, `Builds on: …`, the lesson and `Run: …`"
        )
    parent = None
    if match["parent"] != "nothing":  # named as seen from the script's own folder, or from the root
        sibling = path.parent / match["parent"]
        parent = sibling.relative_to(ROOT).as_posix() if sibling.exists() else match["parent"]
    return Rung(
        script, parent, bool(match["variant"]), match["title"], match["lesson"], match["run"]
    )


def read_ladder(root: Path = ROOT) -> list[Rung]:
    """All rungs, each after the one it builds on.

    Where that leaves a choice, they are in the order of their names, the bonus scripts last. A file
    without any of a docstring's parts is no rung: somebody may have a script of their own with such
    a name (see `strays`). Raises LadderError if there is no such order, or a part is missing.
    """
    files = [path for pattern in SCRIPTS for path in sorted(root.glob(pattern))]
    rungs = {rung.script: rung for rung in map(read_rung, filter(_claims_a_place, files))}
    for rung in rungs.values():
        if rung.parent is not None and rung.parent not in rungs:
            raise LadderError(f"{rung.script}: there is no script {rung.parent} to build on")
    sorter = TopologicalSorter(
        {rung.script: [rung.parent] if rung.parent else [] for rung in rungs.values()}
    )
    try:
        sorter.prepare()
    except CycleError as error:
        raise LadderError(f"these scripts build on each other: {error.args[1]}") from None
    order, ready = [], []
    while sorter.is_active():
        ready = sorted([*ready, *sorter.get_ready()], key=_place)
        script = ready.pop(0)
        order.append(rungs[script])
        sorter.done(script)
    return order


def strays(root: Path = ROOT) -> list[str]:
    """The files that are called as if they were of the ladder, and do not say where they belong."""
    files = [path for pattern in SCRIPTS for path in sorted(root.glob(pattern))]
    return [path.relative_to(root).as_posix() for path in files if not _claims_a_place(path)]


def _claims_a_place(path: Path) -> bool:
    """Whether a file has one of the parts by which a rung's docstring says where it belongs."""
    try:
        text = path.read_bytes()
    except OSError:  # a folder, a link to nothing
        return False
    return b"\nBuilds on: " in text or b"\nRun: python " in text


def _place(script: str) -> tuple[bool, str]:
    name = script.rpartition("/")[2]
    return name.startswith("bonus"), name.replace("_", " ", 1)  # 14_ before 14-2_


def family(script: str) -> str:
    """The model that a script trains (one of FAMILIES). Figures compare within it."""
    if script.startswith("bonus"):
        return "language models"
    return "ViT-H/14" if "vit-h14" in script else "ViT-L/16"


def of_family(ladder: list[Rung], name: str) -> list[Rung]:
    """The rungs that train the model `name`."""
    return [rung for rung in ladder if family(rung.script) == name]


def reading_order(ladder: list[Rung]) -> list[Rung]:
    """The rungs model by model: of each model in the ladder's order."""
    return [rung for name in FAMILIES for rung in of_family(ladder, name)]


def stem(script: str) -> str:
    """A script's name without folder and `.py`, which its page and the tables use."""
    return script.rpartition("/")[2].removesuffix(".py")


def number(script: str) -> str:
    """What a script is called for short: "11-2", or its name if it has no number."""
    name = stem(script)
    return name.partition("_")[0] if name[0].isdigit() else name


def needs_bfloat16(script: str) -> bool:
    """Whether a script of the ladder trains in bfloat16, which older GPUs do not compute in."""
    return any('precision="bf16' in line for line in code(script))


def several_gpus(script: str) -> bool:
    """Whether a script of the ladder needs more than one GPU."""
    return any("check_gpus(2)" in line for line in code(script))


def code(script: str) -> list[str]:
    """A script's lines after its docstring."""
    text = (ROOT / script).read_text()
    docstring = ast.parse(text).body[0]
    return text.splitlines()[docstring.end_lineno :]


def diff(rung: Rung) -> list[str]:
    """The unified diff from the parent's code to the rung's, without docstrings; [] for a trunk."""
    if rung.parent is None:
        return []
    parent, own = code(rung.parent), code(rung.script)
    return list(difflib.unified_diff(parent, own, rung.parent, rung.script, lineterm=""))


def changed(diff_lines: list[str]) -> tuple[int, int]:
    """How many lines a unified diff adds and removes."""
    body = diff_lines[2:]  # without the two lines that name the files
    return sum(line[0] == "+" for line in body), sum(line[0] == "-" for line in body)
