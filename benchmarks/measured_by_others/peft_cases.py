"""PEFT's comparisons of methods: all results of its repository at one commit.

peft_results.json holds of each result what decides its memory: bytes, versions, and the settings
that differ from the defaults of peft's class (of 0.20.0, the release nearest to all results).
Learning rates and seeds are left out. Two results that then ask for the same run are counted once.
"""

import json
from pathlib import Path

from benchmarks.measured_by_others.case import Case, Table

RESULTS = json.loads(Path(__file__).with_name("peft_results.json").read_text())
SOURCE = "huggingface/peft, method_comparison/{}/results/, commit 5d602fd"
START = 2 * 2**20  # bytes: what was reserved when their counting began, which is not in the figure

# The longest batch's tokens, from the result of plain LoRA (rank 32): the length with which its
# prediction is nearest to it. It is the comparison's first method, and its memory is the simplest.
# This figure is not counted; all others test the length.
GAVE, LONGEST = "lora--llama-3.2-3B-rank32", 701


# Of results that no prediction can be made for.
SPARSE = "its buffers are sparse tensors, which vramcast does not know"
PLACES = "how many places it trains follows from numbers, which are not there"
UNPREDICTED = {
    "adamss--llama-3.2-3B-rank32": "it clusters the weights by their numbers, which are not there",
    "boft--llama-3.2-3B-default": "a size in it depends on numbers, which are not there",
    "boft--flux2-klein-default": "it was stopped after a quarter of an hour, in loops over blocks",
    "frod--llama-3.2-3B-default": SPARSE,
    "frod--llama-3.2-3B-sparse0.02-lr_0.001": SPARSE,
    "frod--flux2-klein-default": SPARSE,
    "shira--llama-3.2-3B-lr_0.0003-random_seed_42": PLACES,
    "shira--flux2-klein-default": PLACES,
}


def _table(folder: str, conditions: str) -> Table:
    return Table(
        {
            "project": f"PEFT, {folder}",
            "source": SOURCE.format(folder),
            "conditions": f"L40S, bfloat16, adapters in float32, AdamW, {conditions}; "
            "max_memory_reserved()",
            "quantity": "reserved", "unit_name": "bytes", "unit": 1, "gpu": "L40S",
        }
    )  # fmt: skip


def _add(table: Table, results: list[dict], step: str, shared: dict, notes: dict) -> list[Case]:
    first: dict[str, str] = {}  # the name of the first result that asks for a run
    for result in results:
        given = ("adapter", "optimizer", "settings", "autocast_adapter_dtype")
        arguments = shared | {key: result[key] for key in given if key in result}
        name = result["name"]
        same = first.setdefault(repr(arguments), name)
        note = notes.get(name, "" if same == name else f"the same run as {same}")
        table.add(
            name, result["bytes"] + START, step, arguments, note=note, counted=not note,
            explanation=UNPREDICTED.get(name, ""),
            conditions=f"{table.shared['conditions']}, PyTorch {result['torch']}",
        )  # fmt: skip
    return table.cases


def metamath() -> list[Case]:
    """Llama 3.2 3B on mathematical questions."""
    table = _table("MetaMathQA", "Llama 3.2 3B, batch 4, up to 768 tokens")
    shared = {"longest": LONGEST}
    notes = {GAVE: f"gave the length of the longest batch, {LONGEST} tokens, to the others"}
    return _add(table, RESULTS["MetaMathQA"], "peft_steps.finetune", shared, notes)


def image_generation() -> list[Case]:
    """FLUX.2 klein 4B on 14 images."""
    table = _table("image-gen", "FLUX.2 klein 4B, 512 pixels, batch 2, checkpointing")
    return _add(table, RESULTS["image-gen"], "flux_steps.finetune", {}, {})
