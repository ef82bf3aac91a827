"""What `--json` prints: one object, in the form that vramcast/answer.schema.json describes.

A prediction, predictions in rows, or the reason why there is none. Fields may be added at any time;
if one is taken away or changes its meaning, the number of the form changes.
"""

import json

from vramcast.options import Options

FORM = 1  # the number of the form, under "schema"

KEYS = (
    "script", "arguments", "gpu", "memory_gb", "gpus", "batch_size", "batch_size_line",
    "batch_size_may_fit", "techniques", "fits", "may_fit", "room_gb", "reserved_gb",
    "reserved_least_gb", "reserved_within_gb", "allocated_gb", "breakdown_gb", "peak_phase",
    "peak_module", "host_gb", "host_training_gb", "created_gb", "cost", "like",
    "compiled", "uncompiled_gb", "groups", "devices", "left_out", "largest", "after_step_gb",
    "seconds", "error", "notes",
)  # fmt: skip


def prediction(row: dict, options: Options, found: dict) -> str:
    """A prediction, and what was found about techniques."""
    return _text(_row(row, options) | found)


def rows(script: str, found: list[dict], options: Options) -> str:
    """Predictions side by side, each with the reason if there is none."""
    return _text({"script": script, "rows": [_row(row, options) for row in found]})


def error(script: str | None, reason: str) -> str:
    """Why there is no answer."""
    return _text({"script": script, "error": reason})


def _row(row: dict, options: Options) -> dict:
    """What is told of a prediction, and what it was asked about."""
    asked: dict = {"gpus": options.gpus}
    if options.techniques:
        asked |= {"techniques": list(options.techniques)}
    if options.capacity:
        asked |= {"gpu": options.gpu.name, "memory_gb": options.gpu.memory / 1e9}
    row = asked | row
    return {key: row[key] for key in KEYS if key in row}


def _text(answer: dict) -> str:
    return json.dumps({"schema": FORM} | answer)
