"""torch-preflight's calibration on a T4: one steady training step, by its measure_cuda.py.

Its autocast is to bfloat16 where `torch.cuda.is_bf16_supported()` says so, which on a T4 is true.
The peak is reset between both steps; the second is the higher one, since Adam's averages are there.
"""

import torch
import torchvision
from transformers import AutoModel, AutoModelForCausalLM


def language_model(name: str, batch: int, tokens: int, causal: bool) -> None:
    """Two steps of a model of the hub: with its own loss, or (not `causal`) of its last layer."""
    model = (AutoModelForCausalLM if causal else AutoModel).from_pretrained(name).cuda()
    ids = torch.randint(0, model.config.vocab_size - 1, (batch, tokens), device="cuda")

    def loss():
        if causal:
            return model(input_ids=ids, labels=ids).loss
        return model(input_ids=ids).last_hidden_state.float().pow(2).mean()

    _two_steps(model, loss)


def classifier(name: str, batch: int, side: int) -> None:
    """Two steps of a torchvision model on square images."""
    model = getattr(torchvision.models, name)().cuda()
    images = torch.randn(batch, 3, side, side, device="cuda")
    labels = torch.randint(0, 1000, (batch,), device="cuda")
    _two_steps(model, lambda: torch.nn.functional.cross_entropy(model(images), labels))


def _two_steps(model: torch.nn.Module, loss) -> None:
    model.train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)
    kind = torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float16
    for _ in range(2):
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast("cuda", dtype=kind):
            value = loss()
        value.backward()
        optimizer.step()
        del value
        torch.cuda.synchronize()
