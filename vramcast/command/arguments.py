"""The command line: what is asked, about which script."""

import argparse
import contextlib
import difflib
import importlib.metadata
import importlib.util
import json
import os
from pathlib import Path

from vramcast import gpus
from vramcast.command import as_json, files
from vramcast.libraries import example_data as examples
from vramcast.options import SEVERAL, Example, Options
from vramcast.processes import entry
from vramcast.run.source import several_gpus
from vramcast.techniques import catalog

NEEDED = ("torch", "rich")
SAME = Path("its own options")  # what --compare compares with, if it names no other script
ASSUMED = (
    f"its text shows that it is for several GPUs: it is one of {SEVERAL} processes, if --gpus says "
    "nothing else"
)
SHARDED = f"sharded over {SEVERAL} GPUs, if --gpus says nothing else"


class Parser(entry.Parser):
    """An argument parser whose errors are JSON if --json was asked for."""

    json, script = False, None

    def error(self, message: str) -> None:
        if message.startswith("unrecognized arguments"):
            words = message.partition(": ")[2].split()
            near = difflib.get_close_matches(words[0], self._option_string_actions, 1, 0.7)
            message += f". Did you mean {near[0]}?" if near else ""
            message += ". The script's own options come after --" * (not near)
        if self.json:
            print(as_json.error(self.script, message))
        gap = "\n" if "\n" in message else "  "
        self.exit(2, f"{self.prog}: {message}{gap}(--help shows all options)\n")


def found(name: str) -> Path:
    """The script of a name, which may lack its ".py". Raises ValueError if there is none."""
    for path in (Path(name), Path(f"{name}.py")):
        if os.path.isfile(path):  # not if it is too long for a path, say
            if path.suffix != ".py":
                raise ValueError(f"{name} is no Python file")
            return path.resolve()
    near = difflib.get_close_matches(Path(name).stem, [p.stem for p in Path().glob("*.py")], 3)
    meant = f". Did you mean {' or '.join(f'{one}.py' for one in near)}?" if near else ""
    where = "" if Path(name).is_absolute() else f" in {Path.cwd()}"
    raise ValueError(f"there is no script {name}{where}{meant}")


def example(text: str) -> Example:
    """The example that the option's text describes. Raises ArgumentTypeError."""
    try:
        return examples.read(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def config(text: str) -> tuple[str, str]:
    """A model's name and its config.json, from NAME=PATH. Raises ArgumentTypeError."""
    name, _, file = text.partition("=")
    try:
        if "model_type" not in json.loads(Path(file).read_text()):
            raise ValueError("it names no model_type")
    except (OSError, ValueError, TypeError) as error:
        raise argparse.ArgumentTypeError(
            f"{text!r} is no NAME=path/to/config.json: {error}"
        ) from None
    return name, str(Path(file).absolute())


def techniques(text: str) -> tuple[str, ...]:
    """The names of techniques that can be applied together. Raises ArgumentTypeError."""
    try:
        return catalog.read(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def numbers(text: str) -> tuple[int, ...]:
    """Numbers of GPUs. Raises ArgumentTypeError."""
    words = text.split(",")
    if not all(word.isdecimal() and int(word) > 0 for word in words):
        raise argparse.ArgumentTypeError(f"{text!r} is no number of GPUs, nor several: 1,2,4")
    return tuple(map(int, words))


def positive(text: str) -> float:
    """A number of seconds. Raises ArgumentTypeError."""
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < float("inf"):
        raise argparse.ArgumentTypeError(f"{text} is no number of seconds above 0")
    return min(seconds, 1e9)  # thirty years: what a timer can take


def version() -> str:
    """This tool's version, and PyTorch's."""
    import vramcast

    with contextlib.suppress(importlib.metadata.PackageNotFoundError):
        return f"{vramcast.__version__}, torch {importlib.metadata.version('torch')}"
    return vramcast.__version__


def _joined(arguments: list[str]) -> list[str]:
    """The arguments with --batch-option and its value as one word, since that begins with "--"."""
    if "--batch-option" not in arguments[:-1]:
        return arguments
    place = arguments.index("--batch-option")
    both = "=".join(arguments[place : place + 2])
    return [*arguments[:place], both, *arguments[place + 2 :]]


def _sets(words: list[str]) -> list[tuple[str, ...]]:
    """The script's own options; "--" between them begins another set."""
    sets: list[tuple[str, ...]] = [()]
    for word in words:
        sets = [*sets, ()] if word == "--" else [*sets[:-1], (*sets[-1], word)]
    return sets


def read(arguments: list[str]) -> tuple[argparse.Namespace, Options]:
    """Read the command line; the program ends with status 2 if it makes no sense."""
    parser = Parser(
        "vramcast",
        description="Predict a training script's peak GPU memory, without a GPU.",
        epilog="After --: the script's own options. Exit status: 1 if it does not or may not fit, "
        "2 if nothing can be said.",
    )
    own = arguments.index("--") if "--" in arguments else len(arguments)
    arguments, theirs = _joined(arguments[:own]), _sets(arguments[own + 1 :])
    parser.json = "--json" in arguments
    words = [word for word in arguments if not word.startswith("-")]
    parser.script = next((word for word in words if word.endswith(".py")), (words or [None])[0])
    parser.add_argument("script", help="a Python file")
    parser.add_argument(
        "--gpu", metavar="GPU",
        help=f"does it fit this one? GB, or one of {', '.join(gpus.KNOWN)}; or: all",
    )  # fmt: skip
    parser.add_argument("--fits", metavar="GPU", help="find the largest batch size that fits")
    parser.add_argument(
        "--exact", action="store_true",
        help="with --fits: to the very number, not a power of two or a multiple of 8",
    )  # fmt: skip
    parser.add_argument("--batch-size", type=int, metavar="N", help="in place of the script's")
    parser.add_argument(
        "--batch-option", metavar="--NAME", help="the script's own option that takes it"
    )
    parser.add_argument(
        "--example", metavar="images:3x224x224", type=example,
        help="what stands in for data that is not here; or: tokens:512, audio:16000x10; or several",
    )  # fmt: skip
    parser.add_argument("--classes", type=int, default=1000, metavar="N", help="its classes (1000)")
    parser.add_argument(
        "--columns", default="", metavar="NAME,NAME",
        help="its columns, for a data set of the hub; those called label… are classes",
    )  # fmt: skip
    parser.add_argument(
        "--batches", type=int, default=16, metavar="N",
        help="where a loader's batches differ in size, the largest of the first N counts (16)",
    )  # fmt: skip
    parser.add_argument(
        "--config", action="append", default=[], metavar="NAME=FILE", type=config,
        help="the config.json of a model that the script names",
    )  # fmt: skip
    parser.add_argument(
        "--eager", action="store_true",
        help="as if nothing were compiled: in seconds instead of minutes. (As --fits, --what-if, "
        "--with, --gpu all and tables do)",
    )  # fmt: skip
    parser.add_argument(
        "--gpus", type=numbers, metavar="N",
        help="GPUs it finds (1; 4 for a script that shows that it is for several), or that fsdp2 "
        "shards it over (4); or a table for several numbers: 1,2,4,8",
    )  # fmt: skip
    parser.add_argument(
        "--as-of", type=int, choices=[2023], metavar="2023",
        help="by the rules of PyTorch in 2023",
    )  # fmt: skip
    parser.add_argument(
        "--with", dest="techniques", default=(), metavar="NAME,NAME", type=techniques,
        help="as if it used these techniques: " + ", ".join(catalog.KNOWN),
    )  # fmt: skip
    parser.add_argument(
        "--what-if", action="store_true", help="predict it with each of them, and compare"
    )
    parser.add_argument(
        "--why", action="store_true", help="the largest tensors at the peak, and what stays"
    )
    parser.add_argument(
        "--compare",
        type=Path,
        nargs="?",
        const=SAME,
        metavar="OTHER.py",
        help="beside another script's prediction; or with several sets of its own options: "
        "--compare -- --width 512 -- --width 1024",
    )
    parser.add_argument(
        "--timeline", type=Path, metavar="FILE",
        help="draw one step's memory; FILE.json: its figures",
    )  # fmt: skip
    parser.add_argument(
        "--snapshot", type=Path, metavar="FILE.pickle",
        help="keep the history of the memory for PyTorch's viewer, pytorch.org/memory_viz",
    )  # fmt: skip
    parser.add_argument("--time-limit", type=positive, metavar="SECONDS", help="for it (none)")
    parser.add_argument("--json", action="store_true", help="one JSON object on standard output")
    parser.add_argument("--show", action="store_true", help="show the script's own output")
    parser.add_argument("--version", action="version", version=f"vramcast {version()}")
    asked = parser.parse_args(arguments)
    missing = [name for name in NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        parser.error(
            f"not installed here: {', '.join(missing)}. Install with  pip install "
            f"{' '.join(missing)}"
        )
    gpu, fits = asked.gpu is not None, asked.fits is not None
    if gpu and fits:
        parser.error("--gpu asks whether a script fits, --fits for which batch it does: choose one")
    for name in ("batch_size", "batches", "classes"):
        if getattr(asked, name) is not None and getattr(asked, name) < 1:
            parser.error(f"--{name.replace('_', '-')} has to be at least 1")
    try:
        asked.all = asked.gpu == "all"
        named = asked.fits if fits else asked.gpu
        model = gpus.DEFAULT if named is None or asked.all else gpus.find(named)
        asked.script = found(asked.script)
        asked.own = theirs
        if asked.compare == SAME and len(theirs) == 1:
            raise ValueError(
                "compare with what? With another script: --compare OTHER.py. Or with other options "
                "of its own: --compare -- --width 512 -- --width 1024"
            )
        if len(theirs) > 1 and asked.compare != SAME:
            raise ValueError("several sets of the script's own options are for --compare")
        if asked.compare and asked.compare != SAME:
            asked.compare = found(str(asked.compare))
        files.check(asked.timeline, asked.snapshot)
        several = several_gpus(asked.script.read_bytes())
        sharded = "fsdp2" in asked.techniques
        if several and sharded:
            raise ValueError("fsdp2 is for a script that trains on one GPU; this is for several")
        assumed = ASSUMED * several or SHARDED * sharded
        asked.assumed = assumed if asked.gpus is None else ""
        asked.gpus = asked.gpus or ((SEVERAL,) if assumed else (1,))
    except ValueError as error:
        parser.error(str(error))
    except OSError as error:
        parser.error(f"the script cannot be read: {error}")
    tables = [asked.all, len(asked.gpus) > 1, asked.compare is not None, fits, asked.what_if]
    if sum(tables) > 1:
        parser.error(
            "one question at a time: --gpu all, --gpus 1,2,…, --compare, --fits or --what-if"
        )
    if asked.exact and not fits:
        parser.error("--exact says how --fits searches: name both")
    if asked.batch_option and not (fits or asked.batch_size):
        parser.error("--batch-option says where --fits or --batch-size puts a number: name one")
    searches = (any(tables) and asked.compare is None) or bool(asked.techniques)
    options = Options(
        model,
        asked.gpus[0],
        arguments=theirs[0],
        example=asked.example,
        classes=asked.classes,
        columns=tuple(filter(None, asked.columns.split(","))),
        configs=tuple(asked.config),
        batches=asked.batches,
        batch_size=asked.batch_size,
        batch_option=asked.batch_option,
        techniques=asked.techniques,
        why=asked.why,
        eager=asked.eager or searches,
        as_of=asked.as_of,
        capacity=(gpu and not asked.all) or fits,
        timeline=asked.timeline is not None,
        snapshot=asked.snapshot is not None,
        time_limit=asked.time_limit,
    )
    return asked, options
