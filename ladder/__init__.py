"""The scripts as data, their results and pages, and what both commands share.

rungs              the scripts: docstrings, order, differences and their budgets
scripts            which scripts are meant by the words on a command line

rows               results files: one row for each script
costs              a rung's arithmetic, relative to its parent's and its trunk's
fitting            which scripts to suggest for a GPU, and which of them fit
record             takes over what a machine found into results/
steps              the memory of one training step over time, short enough to be kept
pages, markers     bring the README and docs/ up to date; they use the modules below
tables, pictures   the ladder's tables; its bars, and pictures of a step beside its parent's
rung_page          the page of one rung
comparisons        predictions beside what was measured, and beside other tools
combining          the matrix in docs/combining.md
margin             by how much predictions were too low, where somebody has measured
summary            what this machine found, beside what is published
"""
