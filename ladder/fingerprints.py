"""What results were made from, as a fingerprint: as long as it is the same, so are they.

It stands in each row of predicted.json, predicted_2023.json, rehearsed.json and seeds.json, and
once in combining.json and without_effect.json. The tests make anew only what has another one (all
of it: make test-all).
"""

import functools
import hashlib
from pathlib import Path

from ladder.rungs import ROOT, SCRIPTS

# By the results file: the packages and modules that make it. All else that it depends on is the
# script, what the scripts share, and the versions of all packages.
PREDICTIONS = ("vramcast", "ladder/predict.py")
REHEARSALS = ("rehearsal", "vramcast/processes")
SMALL = ("pairs", "plain_training", "small_network", "small_training")
MADE_BY = {
    "predicted": PREDICTIONS,
    "predicted_2023": PREDICTIONS,
    "rehearsed": REHEARSALS,
    "seeds": (*REHEARSALS, "benchmarks/seeds.py"),
    "combining": ("rehearsal", *(f"benchmarks/{name}.py" for name in SMALL)),
    "without_effect": ("vramcast", "benchmarks/without_effect.py"),
}
LOCK = "requirements.lock"
NO_PART = ("vramcast/command", "vramcast/api.py")  # they ask and tell; what is found is the same


def of(script: Path, kind: str) -> str:
    """The fingerprint of a script's row in the results file of this name: 16 hexadecimal digits."""
    own = hashlib.sha256(_shared(kind))
    own.update(script.read_bytes())
    return own.hexdigest()[:16]


def of_all(kind: str) -> str:
    """The fingerprint of a results file that is no list of scripts."""
    return _shared(kind).hex()[:16]


@functools.cache
def _shared(kind: str) -> bytes:
    """A digest of all that the results of this kind depend on, but for the scripts."""
    ladder = {path for pattern in SCRIPTS for path in ROOT.glob(pattern)}
    files = {path for path in ROOT.glob("*.py") if path not in ladder} | {ROOT / LOCK}
    for name in MADE_BY[kind]:
        place = ROOT / name
        files |= {place} if place.is_file() else set(filter(_counts, place.rglob("*")))
    digest = hashlib.sha256(kind.encode())
    for path in sorted(files):
        digest.update(f"{path.relative_to(ROOT)}\0".encode())
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.digest()


def _counts(path: Path) -> bool:
    if path.name == "margin.json":  # made of results; no row depends on it
        return False
    if path.relative_to(ROOT).as_posix().startswith(NO_PART):
        return False
    return path.is_file() and "__pycache__" not in path.parts and path.suffix != ".draft"
