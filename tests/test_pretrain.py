"""The pretraining of the stand-in model, in small."""

from types import SimpleNamespace

import torch
from safetensors.torch import load_file

from rehearsal.pretraining import vision
from rehearsal.pretraining.glyphs import load_glyphs, sample
from rehearsal.weights import small_vit


def test_glyphs_look_like_counted_bitmaps():
    glyphs, labels = load_glyphs()
    assert set(labels.tolist()) == set(range(10))
    counts, answers = sample(glyphs, labels, 64, torch.Generator().manual_seed(0))
    assert counts.shape == (64, 8, 8)
    assert counts.min() == 0
    assert counts.max() == 16
    assert torch.equal(counts, counts.round())
    assert (counts.sum((1, 2)) > 0).all()
    again, _ = sample(glyphs, labels, 64, torch.Generator().manual_seed(0))
    assert torch.equal(counts, again)
    assert len(answers) == 64


def test_adapting_to_small_steps_keeps_the_function():
    torch.manual_seed(0)
    model, images = small_vit().eval(), torch.randn(2, 3, 224, 224)
    torch.nn.init.normal_(model.heads.head.weight)
    before = model(images)
    vision.adapt_to_small_steps(model)
    torch.testing.assert_close(model(images), before, rtol=1e-4, atol=1e-4)


def test_pretraining_writes_checkpoint_and_log(tmp_path, monkeypatch):
    monkeypatch.setattr(vision, "CHECKPOINT", tmp_path / "vit.safetensors")
    monkeypatch.setattr(vision, "STEPS", 2)
    monkeypatch.setattr(vision, "BATCH", 8)
    uci = vision.load_digits()
    few = SimpleNamespace(images=uci.images[:100], target=uci.target[:100])
    monkeypatch.setattr(vision, "load_digits", lambda: few)

    def fewer(glyphs, labels, number, generator):
        return sample(glyphs, labels, min(number, 200), generator)

    monkeypatch.setattr(vision, "sample", fewer)
    vision.main()
    state = load_file(tmp_path / "vit.safetensors")
    assert set(state) | {"heads.head.weight", "heads.head.bias"} == set(small_vit().state_dict())
    assert "UCI digits, without any finetuning" in (tmp_path / "vit.log").read_text()
