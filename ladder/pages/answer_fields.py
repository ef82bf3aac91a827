"""The fields of `vramcast --json` in docs/json.md, from the JSON Schema that the tool ships."""

import json

from ladder.pages.escaping import code, line
from ladder.rungs import ROOT

SCHEMA = ROOT / "vramcast" / "answer.schema.json"
TITLES = {
    "prediction": "A prediction",
    "run": "What a script needs",
    "figures": "What one GPU needs",
    "side_by_side": "Rows",
    "gpu_row": "A row with `--gpu all`",
    "failed_row": "A row without a prediction",
    "no_answer": "No answer",
    "tried": "Techniques, in `what_if` and `fits_with`",
    "technique": "In `what_if`",
    "set": "In `fits_with`",
    "device": "In `devices`",
    "kinds": "In `breakdown_gb` and `after_step_gb`",
    "cost": "In `cost`",
    "loop": "In `left_out`",
    "tensors": "In `largest`",
}
OWN = {"string": "text", "boolean": "true or false", "null": "null", "array": "list"}


def tables() -> str:
    """A table for each object of the schema; those without fields of their own have none."""
    defined = json.loads(SCHEMA.read_text())["$defs"]
    names = [*TITLES, *(defined.keys() - TITLES.keys())]
    return "\n\n".join(
        _table(name, defined[name]) for name in names if "properties" in defined[name]
    )


def _table(name: str, one: dict) -> str:
    always = one.get("required", ())
    rows = [
        f"| {code(key)} | {_type(field)} | {'yes' * (key in always)} "
        f"| {line(field.get('description', ''))} |"
        for key, field in one["properties"].items()
    ]
    head = f"## {TITLES[name]}\n\n{one['description']}{_more(one)}.\n"
    return "\n".join([head, "| field | is | always | what it says |", "| --- " * 4 + "|", *rows])


def _more(one: dict) -> str:
    """Where the other fields of an object are."""
    base = one.get("$ref", "").rpartition("/")[2]
    return f"; with the fields of “{TITLES[base].lower().replace('gpu', 'GPU')}”" if base else ""


def _type(field: dict) -> str:
    """What a field is, in words."""
    if "const" in field:
        return code(json.dumps(field["const"]))
    if "enum" in field:
        return ", ".join(code(value) for value in field["enum"])
    if "anyOf" in field:
        return " or ".join(map(_type, field["anyOf"]))
    if "$ref" in field:
        return "object"
    types = field["type"] if isinstance(field["type"], list) else [field["type"]]
    return " or ".join(OWN.get(one, one) for one in types)
