"""Which iterations of a script's loops are run, and what the others would add.

A loop repeats itself: once the memory no longer changes from one iteration to the next, the rest of
it is left out, and the script goes on behind it. What grows is continued.

marks      finds loops, and the numbers that conditions compare, in the source
course     the memory at the end of each iteration: at rest, or growing
points     the iterations at which a condition would change
growth     what stays of each iteration, and as much for those that are left out
unknown_ends    loops that end by numbers that are not known
running    the loops of the script while they run
watched    the memory while the script runs, and when the script itself may end
"""
