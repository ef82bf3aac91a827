"""What `rehearse.py` puts in the place of GPUs, data and weights, at the boundaries of libraries.

As a script meets it:

run                runs one script on the stand-ins, in a process of its own
ranks              its further processes, one for each GPU
hardware           the CPU in the GPU's place: devices, `torch.cuda`, autocast
fabric             Lightning Fabric and FSDP on the CPU
arithmetic         16-bit products as tensor cores compute them
data               handwritten digits in the place of CIFAR-10
reviews            short reviews in the place of IMDb
weights            a small pretrained vision transformer in the place of ViT-L/16 and ViT-H/14
language           small language models and their tokenizer
observer           watches losses, speed, accuracy and precision

glyphs, pretrain, pretrain_language made the checkpoints that lie here.
"""

used: dict[str, str] = {}  # what a script asked for, and what it was given in its place
