"""Bring the generated pages up to date: python -m ladder.pages        (or: make results)"""

from ladder.pages.generate import write
from ladder.rungs import ROOT
from vramcast.processes.entry import as_command


def main() -> int:
    for path in write():
        print(f"updated {path.relative_to(ROOT)}")
    return 0


if __name__ == "__main__":
    as_command(main)
