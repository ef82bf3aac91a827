"""Figures that others measured on GPUs, held against predictions of the same training steps.

cases       what was measured: where it is published, under which conditions
litgpt_steps, timm_steps, torchvision_steps, bert_steps, peft_steps
            the measured steps, rebuilt from the projects' own models and optimizers
__main__    predicts them all: python -m benchmarks.measured_by_others

None of the projects' scripts is run as it is: they want data, checkpoints and command lines. A step
here has the same model, precision, batch, optimizer and order of calls.
"""
