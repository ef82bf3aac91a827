"""Techniques applied to a script that does not use them: what would it need with them?

They are applied from outside: to a model before it is put on the GPU, to an optimizer when it is
made. The script stays as it is.

catalog      all of them: what each costs and changes, and which exclude each other
applied      where a script is caught: its models, optimizers, backward passes
blocks       the repeated blocks of a model
weights      what is done to a model
logits       a loss in chunks
sharded      a model in parts on several GPUs
updates      what is done to an optimizer
"""
