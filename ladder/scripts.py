"""Which scripts are meant by the words on a command line, and what a script is called."""

import difflib
import os
import sys
from pathlib import Path

from ladder.rungs import ROOT, read_ladder, strays


class UnknownScript(Exception):
    """A name on the command line for which there is no file."""


def find_scripts(names: list[str]) -> list[Path]:
    """The named scripts, or the whole ladder if none is named.

    A name is looked for in the working directory, then in the repository, then among the ladder's
    scripts in any folder. It may lack its `.py`; a number alone ("11-2") is the ladder's script.

    Raises UnknownScript if there is no such file, and LadderError as `rungs.read_ladder`.
    """
    if not names:
        if others := strays():
            told = f"Left out: {', '.join(others)}, since no docstring says what it builds on."
            print(told, file=sys.stderr)
        return [ROOT / rung.script for rung in read_ladder()]
    scripts = []
    for name in names:
        file = name if name.endswith(".py") else f"{name}.py"
        folders = [Path.cwd(), ROOT, *ROOT.glob("[0-9]*/")]
        found = [folder / file for folder in folders if _is_file(folder / file)]
        if not found:
            known = [rung.script for rung in read_ladder()]
            number = f"{name.zfill(2)}_"
            found = [ROOT / one for one in known if Path(one).name.startswith(number)]
            if len(found) != 1:
                raise UnknownScript(_unknown(name, known))
        scripts.append(found[0].resolve())
    return scripts


def _is_file(path: Path) -> bool:
    """Whether a path leads to a file; it does not if it is too long, or no path at all."""
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False


def _unknown(name: str, known: list[str]) -> str:
    """Why a name is none of a script, and which script may have been meant."""
    if os.path.exists(name):
        return f"{name} is no Python file"
    if len(Path(name).parts) > 1:
        return f"there is no file {name}"
    near = difflib.get_close_matches(Path(name).stem, [Path(one).stem for one in known], 3)
    meant = [one for one in known if Path(one).stem in near] or known
    listed = "".join(f"\n  {one}" for one in meant)
    return f"there is no script {name}. " + ("Did you mean:" if near else "There are:") + listed


def display_name(script: Path) -> str:
    """The script's path in the repository, or its full path where it lies elsewhere."""
    return script.relative_to(ROOT).as_posix() if script.is_relative_to(ROOT) else str(script)
