"""The scripts as data, their results and pages, and what both commands share.

rungs              the scripts: docstrings, order, differences and their budgets
processes, keeper, forkserver    a script's processes, all of which end with the command
rows               results files: one row for each script
costs              what a rung's step costs, beside its parent's and its trunk's
record             takes over what a machine found into results/
steps              one training step's course, short enough to be kept
figures            draws it for --timeline
pages, markers     bring the README and docs/ up to date, from:
tables, pictures   the ladder's tables; bars, and a step beside its parent's
rung_page          a rung's page
comparisons        predictions beside what was measured, and beside other tools
combining          the matrix in docs/combining.md
margin             how far predictions were below what was measured
summary            what this machine found, beside what is published
"""
