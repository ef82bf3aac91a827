"""What a script's rehearsal may need: cores, memory and time, as recorded of an earlier one."""

from dataclasses import dataclass
from pathlib import Path

from ladder.rows import by_script
from ladder.rungs import ROOT, several_gpus
from ladder.scripts import display_name
from rehearsal import GPUS
from vramcast.run.source import NO_PYTHON

UNKNOWN = {"host_gb": 4.0, "seconds": 10.0}  # of a stranger's script, whose model is not small


@dataclass(frozen=True)
class Needs:
    """Of one script; memory and seconds are rough, and those of the recording machine."""

    ranks: int  # processes that compute at the same time
    memory: float  # bytes, of all of them
    seconds: float


def needs(scripts: list[Path]) -> dict[Path, Needs]:
    """What each of the scripts may need."""
    recorded = by_script(ROOT / "results" / "rehearsed.json")
    found = {}
    for script in scripts:
        row = recorded.get(display_name(script), {})
        gb, seconds = (row.get(key) or UNKNOWN[key] for key in ("host_gb", "seconds"))
        ranks = GPUS if _several(script) else 1
        found[script] = Needs(ranks, ranks * gb * 1e9, seconds)
    return found


def _several(script: Path) -> bool:
    try:
        return several_gpus(str(script))
    except (*NO_PYTHON, IndexError):  # no Python, or nothing: it will say so itself
        return False
