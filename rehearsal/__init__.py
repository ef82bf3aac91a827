"""What `rehearse.py` puts in the place of GPUs, data and weights: stand-ins for library calls.

In the order in which a script meets them:

needs              the cores and the memory that it may need
progress           the line that says what runs and what is left
run                runs one script on the stand-ins, in a process of its own
ranks              the script's further processes, one for each GPU
hardware           the CPU in the GPU's place: devices, `torch.cuda`, autocast
fabric             Lightning Fabric and FSDP on the CPU
arithmetic         16-bit products as tensor cores compute them
data               handwritten digits in the place of CIFAR-10
reviews            short reviews in the place of IMDb
weights            a small pretrained vision transformer in the place of ViT-L/16 and ViT-H/14
language           small language models and their tokenizer
observer           watches losses, speed, accuracy and precision
outcome            what all processes of a script observed, and whether it learned

pretraining/       the checkpoints, the tokenizer, and what made them

What an `install` function of theirs replaces stays replaced until the process ends.
"""

used: dict[str, str] = {}  # what a script asked for, and what it was given in its place
GPUS = 2  # of which a script with a strategy for several takes all
