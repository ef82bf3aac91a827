"""Predict published training scripts: python -m benchmarks.public_scripts FOLDER [WORD …]

FOLDER holds the projects' unpacked releases (source archives of PyPI and Debian, and snapshots of
repositories), in folders named as in public_scripts.toml, which lists the scripts. Samples in the
formats of their data are in `data` and in the projects' folders: public_samples.py makes those of
the third round; of the first two, a few were made for that trial (`data/coco`, `data/flow`,
`data/names`). Packages: those of the projects, today's versions. A script finds its project's own
packages, as if that were installed. Writes results/public_scripts.json.

The scripts were chosen in three rounds, each before any of its scripts was tried. The first: the
projects are those whose releases contain training scripts and can be installed beside today's
PyTorch. Of each, at most six scripts were taken that train a network by gradients on one GPU, with
the options that its README names or that are required. Then what had been missing was built. The
second: more scripts of these projects. The third: well-known projects whose repositories can be
had, without a look at whether they can be installed. Of its 85 scripts, 13 were not tried before
what had been missing was built, some of them since they are slow; their rows have no first try
("at_first": null). The first tries were made in processes forked from one that had imported PyTorch
and Lightning. Each other row keeps what was said when its script was first tried.

What was tried last ran beside a dozen other processes on two cores: its seconds, and time limits
that ended it, say little of a quiet machine.

With words, only scripts whose repository, path or options have one of them are tried. The rows of
others stay, and those of scripts that are not there.
"""

import json
import os
import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path

from ladder.rungs import ROOT
from vramcast.processes.supervisor import write_json

LIST = Path(__file__).with_suffix(".toml")
RESULTS = ROOT / "results" / "public_scripts.json"
KEY = ("repository", "path", "options")  # of a row
SAID = ("reserved_gb", "allocated_gb", "seconds", "error", "notes")  # of an answer


def scripts(folder: Path) -> list[dict]:
    """Each script of the list: its row as far as that is known, and how it is started."""
    found = []
    for project in tomllib.loads(LIST.read_text())["project"]:
        inside = Path(project["folder"])
        for script in project["scripts"]:
            own = script.get("own", "").replace("DATA", str(folder / "data"))
            row = {name: project[name] for name in ("repository", "release", "chosen")}
            row |= {"path": str(Path(*inside.parts[1:]) / script["path"])}
            row |= {"options": script.get("own", "")}
            ours = script.get("ours", "").replace("DATA", str(folder / "data"))
            file = folder / inside / script["path"]
            start = folder / inside / script["from"] if "from" in script else file.parent
            found.append({"row": row, "file": file, "own": own, "ours": ours, "from": start})
            found[-1]["fault"] = script.get("fault", "ours")
    return found


def answer(script: dict, folder: Path) -> dict:
    """What is predicted for a script, or why not."""
    project = folder / script["file"].relative_to(folder).parts[0]
    command = [sys.executable, "-m", "vramcast", "--json", "--time-limit", "1800"]
    command += [*shlex.split(script["ours"]), str(script["file"])]
    if script["own"]:
        command += ["--", *shlex.split(script["own"])]
    packages = os.pathsep.join((str(ROOT), str(project)))
    process = subprocess.run(
        command,
        cwd=script["from"],
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": packages},
    )
    said = json.loads(process.stdout)
    if "error" in said:
        said["error"] = re.sub(r"/\S*/site-packages/", "", said["error"]).replace(f"{folder}/", "")
    return {name: said[name] for name in SAID if name in said}


def main(folder: Path, words: list[str]) -> None:
    """Predict those of the scripts that one of the words names; the other rows stay."""
    known = {key(row): row for row in json.loads(RESULTS.read_text())}
    listed = scripts(folder)
    for script in listed:
        row = script["row"]
        this = key(row)
        named = not words or any(word in " ".join(this) for word in words)
        if not named or not script["file"].exists():
            continue
        row |= answer(script, folder)
        said = row.get("error") or f"{row['reserved_gb']:.2f} GB, {row['seconds']:.0f} s"
        now = {"at_first": "error" not in row, "first": row.get("error", row.get("reserved_gb"))}
        before = known.get(this, now)
        known[this] = row | {name: before[name] for name in (*now, "counted_gb") if name in before}
        print(f"{row['repository']} {row['path']}: {said}", flush=True)
        record(known, listed)


def record(known: dict, listed: list[dict]) -> None:
    """Write the rows in the list's order, and why those are not predicted that are not."""
    rows = []
    for script in listed:
        row = known.get(key(script["row"]))
        if row is not None:
            row.pop("fault", None)
            rows.append(row | ({"fault": script["fault"]} if "error" in row else {}))
    write_json(rows, RESULTS)


def key(row: dict) -> tuple[str, ...]:
    """What a row is of: repository, path and options."""
    return tuple(row[name] for name in KEY)


if __name__ == "__main__":
    main(Path(sys.argv[1]).absolute(), sys.argv[2:])
