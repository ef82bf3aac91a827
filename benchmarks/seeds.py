"""How well scripts learn with other seeds: python -m benchmarks.seeds [SCRIPT …] [--results FILE]

The accuracy of a rehearsal varies with the numbers that the head begins with, in 13 most of all,
which takes the fewest steps. So the lessons that compare accuracies are held against the mean of
three seeds: the script's own, whose row is in rehearsed.json, and these two.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

from ladder import fingerprints, rows
from ladder.rungs import ROOT

RESULTS = ROOT / "results" / "seeds.json"
SEEDS = (1, 2)
SCRIPTS = [f"11-16-under-1gb/{name}.py" for name in
           ("11_act-checkp", "13_batch-64", "15_lora", "16_qlora")]  # fmt: skip
LINKED = ("local_utilities.py", "cifar10.py", "messages.py")


def accuracies(scripts: list[str], folder: Path) -> dict[str, list[float]]:
    """The test accuracy of each script's rehearsals, one for each of the seeds.

    Raises CalledProcessError if one fails.
    """
    for name in LINKED:
        (folder / name).symlink_to(ROOT / name)
    copies = {}
    for script in scripts:
        text = (ROOT / script).read_text()
        if text.count("manual_seed(123)") != 1:
            raise ValueError(f"{script} does not set the ladder's seed once")
        for seed in SEEDS:
            copy = folder / f"{Path(script).stem}-{seed}.py"
            copy.write_text(text.replace("manual_seed(123)", f"manual_seed({seed})"))
            copies[str(copy)] = script
    results = folder / "rows.json"
    command = [sys.executable, "rehearse.py", "--results", results, *copies]
    subprocess.run(command, cwd=ROOT, check=True)
    found = rows.by_script(results)
    return {
        script: [found[copy]["accuracy"] for copy in copies if copies[copy] == script]
        for script in scripts
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Rehearse scripts with other seeds.")
    parser.add_argument("script", nargs="*", default=SCRIPTS, help="a script of the ladder")
    parser.add_argument("--results", type=Path, default=RESULTS, help="where rows are kept")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found = accuracies(asked.script, Path(folder).resolve())
    rows.keep(
        [
            {"script": script, "seeds": SEEDS, "accuracies": reached,
             "fingerprint": fingerprints.of(ROOT / script, "seeds")}
            for script, reached in found.items()
        ],
        asked.results,
    )  # fmt: skip
    print(json.dumps(found, indent=1))
