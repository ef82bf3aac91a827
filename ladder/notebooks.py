"""Run the notebooks, and keep what they show: python -m ladder.notebooks     (or: make notebooks)

They need no GPU: what they show are predictions. A cell that needs one says so without it.
"""

import os
import sys
from pathlib import Path

import nbformat
from nbclient import NotebookClient

from ladder.rungs import ROOT
from vramcast.processes.entry import as_command

FOLDER = ROOT / "notebooks"


def run(path: Path, folder: Path) -> nbformat.NotebookNode:
    """A notebook with what its cells show when they are run in a folder, in this environment.

    Raises nbclient's CellExecutionError if one fails.
    """
    book = nbformat.read(path, as_version=4)
    programs = str(Path(sys.executable).parent)
    environment = os.environ | {
        "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
        "CUDA_VISIBLE_DEVICES": "",
    }
    client = NotebookClient(
        book, timeout=None, kernel_name="python3", record_timing=False,
        coalesce_streams=True,
        resources={"metadata": {"path": str(folder)}},
    )  # fmt: skip
    client.execute(env=environment)
    for cell in book.cells:
        for output in cell.get("outputs", ()):
            if "text/html" in output.get("data", {}):
                output.data.pop("text/plain", None)  # the same, as long as it is wide
    book.metadata.pop("language_info", None)  # of this machine's Python
    return book


def shown(book: nbformat.NotebookNode) -> list[str]:
    """The pictures that a notebook's cells show, as HTML."""
    outputs = (output for cell in book.cells for output in cell.get("outputs", ()))
    return [output.data["text/html"] for output in outputs if "text/html" in output.get("data", {})]


def main() -> int:
    for path in sorted(FOLDER.glob("*.ipynb")):
        nbformat.write(run(path, FOLDER), path)
        print(f"updated {path.relative_to(ROOT)}", flush=True)
    return 0


if __name__ == "__main__":
    as_command(main)
