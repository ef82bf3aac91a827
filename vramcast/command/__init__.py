"""The command line: what is asked, and the answer in words.

main          the command
arguments     what is asked, about which script
batches       other batch sizes, and the largest that fits
report        the answer on the terminal
progress      a line that shows how far it is
advice        which techniques would help if the script does not fit
files         pictures and snapshots, if asked for
pictures      one training step's memory over time
"""
