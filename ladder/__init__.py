"""The scripts as data, their results and pages, and what both commands share.

rungs              the scripts: docstrings, order, differences and their budgets
processes, keeper, forkserver    a script's processes, all of which end with the command
rows               results files: one row for each script
costs              what a rung's step costs, beside its parent's and its trunk's
record             takes over what a machine found into results/
figures            drawn from predictions
pages, markers     the README's tables and the pages in docs/
combining          the matrix in docs/combining.md
others             predictions beside what others measured, and beside other tools
margin             how far predictions were below what was measured
summary            what this machine found, beside what is published
"""
