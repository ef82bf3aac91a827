"""Run the ladder's scripts, unmodified, on this machine's CPU: small model, real but small data.

    python rehearse.py                          the whole ladder
    python rehearse.py 03_bfloat16.py           one script, or several
    python rehearse.py --show 03_bfloat16.py    with the script's own output

Stand-ins take the place of the GPU, of CIFAR-10 and of the pretrained ViT (see stand_ins/). The
rows of the table are kept in results/rehearsed.json, from which README.md's table is made.
"""

import argparse
import importlib.util
import json
import math
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from stand_ins.ladder import ROOT, LadderError, read_ladder

RESULTS = ROOT / "results" / "rehearsed.json"
NEEDED = ("torch", "torchvision", "lightning", "torchmetrics", "sklearn", "safetensors")
COLUMNS = (  # key, heading, width, format
    ("script", "script", 26, "s"),
    ("precision", "precision that ran", 26, "s"),
    ("seconds", "seconds", 7, ".1f"),
    ("images_per_second", "images/s", 8, ".0f"),
    ("loss_first", "loss: first", 11, ".3f"),
    ("loss_last", "last", 6, ".3f"),
    ("accuracy", "test acc.", 9, ".1%"),
    ("host_gb", "host GB", 7, ".2f"),
)


def cell(row: dict, key: str, width: int, form: str) -> str:
    value = row.get(key)
    text = "-" if value is None else format(value, form)
    return text.ljust(width) if form == "s" else text.rjust(width)


def table_row(row: dict) -> str:
    """One line of the table; a failed script's ends with FAILED."""
    line = "  ".join(cell(row, key, width, form) for key, _, width, form in COLUMNS)
    return line if row["ok"] else f"{line}  FAILED"


class UnknownScript(Exception):
    """A name on the command line belongs to no file."""


def find_scripts(names: list[str]) -> list[Path]:
    """The named scripts, or the whole ladder if none is named; UnknownScript, LadderError."""
    if not names:
        return [ROOT / rung.script for rung in read_ladder()]
    scripts = []
    for name in names:
        found = [path for path in (Path.cwd() / name, ROOT / name) if path.is_file()]
        if not found:
            known = "\n  ".join(rung.script for rung in read_ladder())
            raise UnknownScript(f"there is no script {name}. The ladder's scripts are:\n  {known}")
        scripts.append(found[0].resolve())
    return scripts


def display_name(script: Path) -> str:
    """The script's path in the repository, or its full path where it lies elsewhere."""
    return script.relative_to(ROOT).as_posix() if script.is_relative_to(ROOT) else str(script)


def rehearse(script: Path, show: bool) -> tuple[dict, str]:
    """Run one script on stand-ins in a process of its own: its row, and its output if hidden."""
    with tempfile.TemporaryDirectory(prefix="rehearsal-") as folder:
        result, output = Path(folder) / "result.json", Path(folder) / "output.txt"
        environment = os.environ | {
            "DATA_DIR": folder,
            "RESULTS_DIR": folder,  # a rehearsal is not a measurement
            "PYTHONPATH": str(ROOT),
            "PYTHONUNBUFFERED": "1",
        }
        command = [sys.executable, "-m", "stand_ins.run", str(script), str(result)]
        with output.open("w") as file:
            process = subprocess.Popen(
                command,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=None if show else file,
                stderr=None if show else subprocess.STDOUT,
                start_new_session=True,
            )
            try:
                status = process.wait()
            finally:
                end_group(process)
        seen = json.loads(result.read_text()) if result.exists() else {}
        return {"script": display_name(script)} | seen | {"ok": status == 0}, output.read_text()


def end_group(process: subprocess.Popen) -> None:
    """End a script's process and all that it started: politely first, then for good."""
    for sign in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, sign)
        except ProcessLookupError:
            return
        try:
            process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            continue


def keep(row: dict, results: Path) -> None:
    """Put a row in the results file in place of the script's older one; the others stay.

    JSON has no NaN: a loss that is one is written as null.
    """
    rows = json.loads(results.read_text()) if results.exists() else []
    finite = {
        key: None if isinstance(value, float) and math.isnan(value) else value
        for key, value in row.items()
    }
    rows = [old for old in rows if old["script"] != row["script"]] + [finite]
    rows = [kept for kept in rows if (ROOT / kept["script"]).exists()]
    order = {rung.script: place for place, rung in enumerate(read_ladder())}
    rows.sort(key=lambda kept: (order.get(kept["script"], len(order)), kept["script"]))
    results.parent.mkdir(parents=True, exist_ok=True)
    draft = results.with_suffix(".draft")
    draft.write_text(json.dumps(rows, indent=1) + "\n")
    draft.replace(results)


def main() -> int:
    parser = argparse.ArgumentParser(
        description="Run scripts of the ladder, unmodified, on this machine's CPU."
    )
    parser.add_argument("script", nargs="*", help="a script; none means the whole ladder")
    parser.add_argument("--show", action="store_true", help="show the scripts' own output")
    parser.add_argument(
        "--results",
        type=Path,
        default=RESULTS,
        help="where the rows are kept (default: %(default)s)",
    )
    options = parser.parse_args()
    try:
        scripts = find_scripts(options.script)
    except (UnknownScript, LadderError) as error:
        parser.error(str(error))

    missing = [name for name in NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        parser.error(
            f"not installed here: {', '.join(missing)}. Install with  "
            "pip install -r requirements-dev.txt  or run  make ladder"
        )

    signal.signal(signal.SIGTERM, signal.default_int_handler)  # both end as Ctrl-C does
    start, failed, done = time.monotonic(), [], 0
    print(
        "  ".join(
            heading.ljust(width) if form == "s" else heading.rjust(width)
            for _, heading, width, form in COLUMNS
        ),
        flush=True,
    )
    try:
        for script in scripts:
            row, output = rehearse(script, options.show)
            keep(row, options.results)
            done += 1
            print(table_row(row), flush=True)
            if not row["ok"]:
                failed.append(row["script"])
                print("".join(f"    {line}\n" for line in output.splitlines()[-8:]), flush=True)
    except KeyboardInterrupt:
        print(
            f"\nStopped. {done} of {len(scripts)} scripts ran; their rows are in {options.results}"
        )
        return 130
    print(
        f"{done - len(failed)} of {done} scripts ran to the end, in "
        f"{time.monotonic() - start:.0f} s. Rows kept in {options.results}"
    )
    if options.results == RESULTS:
        from docs import generate  # only the repository's own rows are shown in its README

        generate.write()
    if failed:
        print("Failed: " + ", ".join(failed) + "  (--show shows a script's whole output)")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
