"""The scripts as data: which of them fit a GPU, their results and pages.

Commands (python -m ladder.NAME):

fits       which scripts fit a GPU
predict    predicts the GPU memory of all
examples   predicts the small scripts that docs/out-of-memory.md and docs/your-model.md show
summary    what this machine found, beside what is published
record     takes it over into results/
answer     predicts one script, for the README's picture of an answer
notebooks  runs the notebooks, and keeps what they show
pages      makes the README's tables and the pages in docs/ anew: a room of its own

What they share:

rungs      the scripts: docstrings, order, differences and their budgets
scripts    which scripts are meant by the words on a command line
rows       results files: one row for each script
fingerprints    what a row was made from
steps      the memory of one training step over time, short enough to be kept
margin     by how much predictions were too low, where somebody has measured
"""

import vramcast  # noqa: F401  which says so if Python is too old
