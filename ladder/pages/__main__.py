"""Bring the generated pages up to date: python -m ladder.pages        (or: make results)"""

from ladder.pages.generate import write
from ladder.rungs import ROOT

if __name__ == "__main__":
    for path in write():
        print(f"updated {path.relative_to(ROOT)}")
