"""Figures that others measured on GPUs, held against predictions of the same training steps.

case        one figure, as it is published and as it is rebuilt
cases       all of them: those of the first sources, and what the modules *_cases add
*_steps     the measured steps, rebuilt from the projects' own models and optimizers
__main__    predicts them all: python -m benchmarks.measured_by_others

None of the projects' scripts is run as it is: they want data, checkpoints and command lines. A step
here has the same model, precision, batch, optimizer and order of calls, and its variables live as
long as theirs. What was chosen of a source stands at the head of its *_cases module.
"""
