"""What a row of results was made from, as a fingerprint: as long as it is the same, so is the row.

It stands in each row of predicted.json, predicted_2023.json and rehearsed.json. The tests make anew
only the rows whose fingerprint has changed (all of them: make test-all).
"""

import functools
import hashlib
from pathlib import Path

from ladder.rungs import ROOT, SCRIPTS

# By the results file: the packages that make its rows. All else that they depend on is the script,
# what the scripts share, and the versions of all packages.
MADE_BY = {
    "predicted": ("vramcast",),
    "predicted_2023": ("vramcast",),
    "rehearsed": ("rehearsal", "vramcast/processes"),
}
LOCK = "requirements.lock"


def of(script: Path, kind: str) -> str:
    """The fingerprint of a script's row in the results file of this name: 16 hexadecimal digits."""
    own = hashlib.sha256(_shared(kind))
    own.update(script.read_bytes())
    return own.hexdigest()[:16]


@functools.cache
def _shared(kind: str) -> bytes:
    """A digest of all that the rows of this kind depend on, but for the scripts."""
    ladder = {path for pattern in SCRIPTS for path in ROOT.glob(pattern)}
    files = {path for path in ROOT.glob("*.py") if path not in ladder} | {ROOT / LOCK}
    for package in MADE_BY[kind]:
        files |= {path for path in (ROOT / package).rglob("*") if _counts(path)}
    digest = hashlib.sha256(kind.encode())
    for path in sorted(files):
        digest.update(f"{path.relative_to(ROOT)}\0".encode())
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.digest()


def _counts(path: Path) -> bool:
    return path.is_file() and "__pycache__" not in path.parts and path.suffix != ".draft"
