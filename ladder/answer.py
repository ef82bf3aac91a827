"""Keep one answer of vramcast, which the README shows as a picture: python -m ladder.answer

Its figures have to be those of the script's recorded prediction (results/predicted.json).
"""

import json
import subprocess
import sys

from ladder.rungs import ROOT
from vramcast.processes.entry import NoAnswer, as_command

RECORDED = ROOT / "results" / "answer.json"
SCRIPT, GPU = "03_bfloat16.py", "8"


def main() -> int:
    command = [sys.executable, "-m", "vramcast", SCRIPT, "--gpu", GPU, "--json"]
    answer = json.loads(subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE).stdout)
    if "error" in answer:
        raise NoAnswer(f"No prediction. {SCRIPT}: {answer['error']}")
    del answer["seconds"]  # which are this machine's
    RECORDED.write_text(json.dumps(answer, indent=1) + "\n")
    print(f"updated {RECORDED.relative_to(ROOT)}: now  make results")
    return 0


if __name__ == "__main__":
    as_command(main)
