"""The command line: what is asked, and the answer in words.

main          the command
arguments     what is asked, about which script
batches       other batch sizes, and the largest that fits
side_by_side  several predictions: on all GPUs, on several numbers of them, of two scripts
what_if       what each technique saves, and the smallest set of them that fits
report        the answer on the terminal
as_json       the answer for programs
progress      a line that shows how far it is
pull_request  a comment on a pull request, from two answers
files         pictures and snapshots, if asked for
pictures      one training step's memory over time
"""
