"""A script's own options and folder; predictions from a program."""

import pytest

from tests.scripts import DEEP, LOOP
from tests.warm import predict, predicted, run
from vramcast import NotPredicted, api
from vramcast import predict as from_python

OPTIONS = """
import argparse
import json
import re
import helper
parser = argparse.ArgumentParser()
parser.add_argument("--width", type=int, required=True)
width = parser.parse_args().width + json.load(open("config.json"))["more"] + helper.NONE
model = nn.Linear(width, width, bias=False).cuda()
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
for _ in range(4):
    model(torch.ones(8, width, device="cuda")).sum().backward()
    optimizer.step()
"""


def test_what_stands_after_the_dashes_is_the_scripts(script, tmp_path):
    """Also its siblings, and the configuration beside it."""
    file = script(OPTIONS)
    (tmp_path / "helper.py").write_text("NONE = 0\n")
    (tmp_path / "config.json").write_text('{"more": 96}')
    row = predicted(file, "--gpu", "24", "--", "--width", "4000")
    assert row["breakdown_gb"]["parameters"] == pytest.approx(4096**2 * 4 / 1e9)
    for arguments, told in ((["--wdth", "3"], "required: --width"), ([], "required: --width")):
        process = predict(file, "--", *arguments)
        assert process.returncode == 2
        assert told in process.stderr


def test_a_second_script_is_refused(script):
    process = predict(script(LOOP), "03_bfloat16.py", "--", "--x")
    assert process.returncode == 2
    assert "unrecognized arguments: 03_bfloat16.py" in process.stderr


def test_the_interface_for_notebooks(script, monkeypatch):
    file = script(OPTIONS.replace("import helper\n", "").replace(" + helper.NONE", ""))
    (file.parent / "config.json").write_text('{"more": 0}')
    prediction = from_python(file, gpu=24, arguments=["--width", 512], techniques=["fused"])
    assert prediction.breakdown_gb["parameters"] == pytest.approx(512**2 * 4 / 1e9)
    assert prediction.fits
    assert str(prediction).startswith(f"{file} with fused fits 24 GB: it needs")
    monkeypatch.setattr(api.subprocess, "run", lambda words, **options: run(*words[1:]))
    with pytest.raises(NotPredicted, match="required: --width"):
        from_python(file)
    with pytest.raises(NotPredicted, match="there is no script"):
        from_python("nowhere.py")


def test_bfloat16_on_a_gpu_that_lacks_it_is_told(script):
    file = script((DEEP + LOOP).replace(".cuda()", ".cuda().bfloat16()"))
    told = {name: " ".join(predicted(file, "--gpu", name)["notes"]) for name in ("T4", "L4")}
    assert "T4 has no arithmetic in bfloat16: PyTorch emulates it" in told["T4"]
    assert "emulates" not in told["L4"]
