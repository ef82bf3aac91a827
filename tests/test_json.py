"""--json: its answers have the form of vramcast/answer.schema.json, and nothing besides.

`warm.predict` holds every answer against it that a test asks for, of all forms.
"""

import copy
import json

import pytest
from jsonschema import Draft202012Validator, ValidationError

from ladder.pages import answer_fields
from tests.scripts import TRAINING
from tests.warm import FORM, predict, predicted
from vramcast.command import arguments, as_json, what_if
from vramcast.kinds import KINDS
from vramcast.run import schema

DEFINED = FORM.schema["$defs"]
ANSWERS = ("prediction", "side_by_side", "no_answer")
TWO = """
import torch

for gpu in ("cuda:0", "cuda:1"):
    model = torch.nn.Linear(64, 64).to(gpu)
    optimizer = torch.optim.SGD(model.parameters())
    model(torch.ones(8, 64, device=gpu)).sum().backward()
    optimizer.step()
"""


@pytest.fixture(scope="module")
def answer(tmp_path_factory) -> dict:
    """Of a script that uses two GPUs, with all that can be asked of one prediction."""
    file = tmp_path_factory.mktemp("script") / "script.py"
    file.write_text(TWO)
    return predicted("--gpu", "T4", "--gpus", "2", "--why", "--with", "expandable-segments", file)


def test_the_schema_is_one_and_its_number_is_the_answers():
    Draft202012Validator.check_schema(FORM.schema)
    for name in ANSWERS:
        assert DEFINED[name]["properties"]["schema"]["const"] == as_json.FORM
        assert "schema" in DEFINED[name]["required"]


def test_what_was_asked_is_told(answer):
    assert (answer["schema"], answer["gpu"], answer["gpus"]) == (1, "T4", 2)
    assert answer["memory_gb"] == pytest.approx(14_912 * 2**20 / 1e9)
    assert answer["techniques"] == ["expandable-segments"]
    assert [one["device"] for one in answer["devices"]] == ["cuda:0", "cuda:1"]


def fields(value: object) -> list[dict]:
    """All objects of an answer."""
    inner = value.values() if type(value) is dict else value if type(value) is list else ()
    return [value] * (type(value) is dict) + [one for part in inner for one in fields(part)]


def test_a_field_that_is_not_described_is_an_error_wherever_it_is(answer):
    for number in range(len(fields(answer))):
        other = copy.deepcopy(answer)
        fields(other)[number]["more"] = "a text"
        with pytest.raises(ValidationError):
            FORM.validate(other)


def test_each_field_is_described():
    """All that a prediction may hold, but for what goes into files, and for its data set's size."""
    described = {
        key
        for name in ("run", "figures", "gpu_row", "failed_row")
        for key in DEFINED[name]["properties"]
    }
    assert set(as_json.KEYS) == described
    elsewhere = {"samples", "timeline", "snapshot"}
    assert schema.ALWAYS.keys() | schema.SOMETIMES.keys() <= described | elsewhere
    assert tuple(DEFINED["kinds"]["properties"]) == KINDS
    for one in DEFINED.values():
        for key, field in one.get("properties", {}).items():
            assert {"description", "const"} & field.keys(), key


def test_a_row_without_a_prediction_names_its_script(tmp_path):
    for name, text in (("script.py", TRAINING), ("other.py", "raise ValueError('too hot')")):
        (tmp_path / name).write_text(text)
    process = predict("--json", tmp_path / "script.py", "--compare", tmp_path / "other.py")
    assert process.returncode == 2
    one, other = json.loads(process.stdout)["rows"]
    assert one["script"].endswith("script.py")
    assert other["script"].endswith("other.py")
    assert other["error"] == "line 1: ValueError: too hot"


def test_techniques_change_the_training_as_much_as_the_one_that_changes_most():
    found = what_if.Tried(("checkpointing", "sgd", "bf16"), None, "why").report()
    assert found == {
        "techniques": ["checkpointing", "sgd", "bf16"],
        "lines": 2 + 1 + 2,
        "training": "another training",
        "error": "why",
    }


def test_a_question_that_makes_no_sense_names_its_script(capsys):
    with pytest.raises(SystemExit):
        arguments.read(["--json", "--gpu", "eight", "train.py", "--lr"])
    answer = json.loads(capsys.readouterr().out)
    FORM.validate(answer)
    assert answer["script"] == "train.py"


def test_the_page_has_a_table_for_each_object():
    page = answer_fields.tables()
    for name, one in DEFINED.items():
        for key in one.get("properties", {}):
            assert f"| `{key}` | " in page, (name, key)
