"""The scripts as texts: order, differences, length, and nothing in them that serves a test."""

import ast
import difflib
import re

import pytest

from ladder.rungs import BUDGETS, ROOT, LadderError, changed, code, diff, read_ladder

LADDER = read_ladder()
each_script = pytest.mark.parametrize("rung", LADDER, ids=lambda rung: rung.script)


def is_code(line: str) -> bool:
    return bool(line.strip()) and not line.strip().startswith("#")


def test_ladder_holds_every_script_in_order():
    trunks = [rung.script for rung in LADDER if rung.parent is None]
    assert trunks == ["01_pytorch-fp32.py", "bonus_distilbert-before.py"]
    others = [rung.script for rung in LADDER if rung.parent]
    assert others == list(BUDGETS), "each rung stands in BUDGETS of ladder/rungs.py, in order"


@each_script
def test_difference_is_within_budget(rung):
    if rung.parent is None:
        return
    added, removed = changed(diff(rung))
    assert rung.script in BUDGETS, f"add ({added}, {removed}) to BUDGETS of ladder/rungs.py"
    most_added, most_removed = BUDGETS[rung.script]
    assert 0 < added <= most_added
    assert removed <= most_removed


@each_script
def test_no_hunk_changes_white_space_only(rung):
    if rung.parent is None:
        return
    lines = difflib.unified_diff(code(rung.parent), code(rung.script), lineterm="", n=0)
    for hunk in re.split(r"^@@.*$", "\n".join(lines), flags=re.MULTILINE)[1:]:
        old, new = (
            re.sub(r"\s", "", "".join(line[1:] for line in hunk.splitlines() if line[:1] == sign))
            for sign in "-+"
        )
        assert old != new, hunk


@each_script
def test_script_is_short(rung):
    assert sum(map(is_code, code(rung.script))) <= 130


@each_script
def test_nothing_in_the_code_serves_rehearsals_or_tests(rung):
    text = "\n".join(code(rung.script)).lower()
    text = re.sub(r"os\.environ\[[^]]+\] = ", "", text)  # a variable may be set, and none read
    for word in ("stand_in", "stand-in", "rehears", "predict_", "mock", "fake", "dummy", "environ"):
        assert word not in text
    text = text.replace('torch.device("cpu")', "")  # where QLoRA creates its model
    for word in ("is_available", '"cpu"', "argparse", "sys.argv"):
        assert word not in text


@each_script
def test_skeleton_is_the_same(rung):
    lines = code(rung.script)
    headings = [line.strip() for line in lines if re.match(r"\s*# \d", line)]
    assert headings == ["# 1. Data", "# 2. Model", "# 3. Finetuning", "# 4. Test"]
    text = "\n".join(lines)
    functions = [node.name for node in ast.parse("\n".join(lines)).body if hasattr(node, "name")]
    own = ["shard"] if "fsdp2" in rung.script else ["LoRA"] if "class LoRA" in text else []
    assert functions == [*own, "evaluate"]
    if "bonus" in rung.script:
        assert "AutoModelForSequenceClassification.from_pretrained(name, num_labels=2)" in text
        return
    model = "vit_l_16(weights=ViT_L_16_Weights.IMAGENET1K_V1)"
    if "vit-h14" in rung.script:
        model = "vit_h_14(weights=ViT_H_14_Weights.IMAGENET1K_SWAG_E2E_V1)"
    assert model in text
    assert "torch.nn.Linear(model.heads.head.in_features, 10)" in text


@each_script
def test_the_docstrings_command_runs_this_script(rung):
    assert rung.run == f"python {rung.script}"


def copy_ladder(tmp_path, monkeypatch):
    for rung in LADDER:
        (tmp_path / rung.script).parent.mkdir(exist_ok=True)
        (tmp_path / rung.script).write_text((ROOT / rung.script).read_text())
    monkeypatch.setattr("ladder.rungs.ROOT", tmp_path)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("Builds on: 03_bfloat16.py", "Builds on: 99_nowhere.py", "there is no script 99_nowhere"),
        ("Builds on: 03_bfloat16.py", "Builds on: 05_gradient-accum.py", "build on each other"),
        ("Builds on: 03_bfloat16.py\n\n", "", "the docstring needs"),
    ],
)
def test_a_wrong_docstring_is_told(tmp_path, monkeypatch, old, new, message):
    copy_ladder(tmp_path, monkeypatch)
    script = tmp_path / "04_lower-batchsize.py"
    script.write_text(script.read_text().replace(old, new))
    with pytest.raises(LadderError, match=message):
        read_ladder(tmp_path)
