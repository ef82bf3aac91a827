"""PEFT's comparison of methods on images: FLUX.2 klein 4B at 512 pixels, as its run.py trains it.

What is measured is the most that was reserved in training alone: the cache is emptied and the peak
reset before it, and around each evaluation. vramcast answers with the peak of the whole run, so
what encodes prompts and images before training is left out here. Their results, and the network
that judges images (DINOv2), are on the GPU all the time. In theirs the transformer takes over
segments of the text encoder, of which parts may stay unused: that is not rebuilt.

The transformer's sizes are those of black-forest-labs/FLUX.2-klein-base-4B; with them it has
3,875,544,576 parameters, as the result of training all of them says.
"""

import torch
from diffusers import Flux2Transformer2DModel
from transformers import Dinov2Config, Dinov2Model

from benchmarks.measured_by_others.peft_steps import adapted, train

SIZES = {
    "num_layers": 5,
    "num_single_layers": 20,
    "num_attention_heads": 24,
    "joint_attention_dim": 7680,
    "guidance_embeds": False,
}
BATCH, IMAGES = 2, 14
SIDE, CHANNELS = 512 // 16, 128  # of an image's latents, two by two of them in one
WORDS = 512  # tokens of a prompt


def finetune(adapter: dict | None = None) -> None:
    """Three optimizer steps. `adapter`: as for peft_steps.finetune."""
    torch.nn.Linear(1, 1).to("cuda")
    transformer = Flux2Transformer2DModel(**SIZES).to(torch.bfloat16)
    transformer.enable_gradient_checkpointing()
    if adapter:
        transformer = adapted(transformer, adapter)
    train(transformer)
    judge = Dinov2Model(Dinov2Config(image_size=518)).to("cuda")
    judge.eval()
    optimizer = torch.optim.AdamW(transformer.parameters(), lr=1e-4, weight_decay=1e-4)
    prompts = torch.zeros(
        IMAGES, WORDS, SIZES["joint_attention_dim"], dtype=torch.bfloat16, device="cuda"
    )
    word_places = torch.zeros(IMAGES, WORDS, 4, dtype=torch.int64, device="cuda")
    images = torch.zeros(IMAGES, CHANNELS, SIDE, SIDE, dtype=torch.bfloat16, device="cuda")
    transformer.to("cuda")
    torch.cuda.empty_cache()
    for step in range(1, 4):
        chosen = torch.zeros(BATCH, dtype=torch.int64, device="cpu").to("cuda")
        latents = images.index_select(0, chosen)
        embeddings = prompts.index_select(0, chosen)
        places = word_places.index_select(0, chosen)
        pixel_places = torch.zeros(BATCH, SIDE * SIDE, 4, dtype=torch.int64, device="cuda")
        noise = torch.randn_like(latents)
        times = torch.zeros(BATCH, device="cpu").to("cuda")
        sigmas = torch.zeros(BATCH, 1, 1, 1, dtype=latents.dtype, device="cpu").to("cuda")
        noisy = (1.0 - sigmas) * latents + sigmas * noise
        packed = noisy.reshape(BATCH, CHANNELS, SIDE * SIDE).permute(0, 2, 1)
        optimizer.zero_grad()
        guess = transformer(
            hidden_states=packed, timestep=times / 1000, guidance=None,
            encoder_hidden_states=embeddings, txt_ids=places, img_ids=pixel_places,
            return_dict=False,
        )[0]  # fmt: skip
        guess = _unpacked(guess[:, : packed.size(1)])
        target = noise - latents
        weights = torch.ones_like(sigmas)
        errors = (weights.float() * (guess.float() - target.float()) ** 2).reshape(BATCH, -1)
        loss = errors.mean(1).mean()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(transformer.parameters(), 1.0)
        optimizer.step()
        if adapter and adapter["peft_type"] == "ADALORA":
            transformer.base_model.update_and_allocate(step)
        loss = loss.detach()
        loss.item()


def _unpacked(tokens: torch.Tensor) -> torch.Tensor:
    """The tokens of each image put into their places, as the pipeline does."""
    images = []
    for one in tokens:
        order = torch.zeros(SIDE * SIDE, 1, dtype=torch.int64, device=one.device)
        image = torch.zeros(SIDE * SIDE, CHANNELS, dtype=one.dtype, device=one.device)
        image.scatter_(0, order.expand(-1, CHANNELS), one)
        images.append(image.view(SIDE, SIDE, CHANNELS).permute(2, 0, 1))
    return torch.stack(images)
