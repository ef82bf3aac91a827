"""One script, run in a process of its own.

process    starts that process and checks what comes back
schema     the form that a prediction has to have
script     runs the script and says what it would need
setup      all that the script finds in the place of GPU, libraries, data and other ranks
result     the figures, from what was seen
hints      what would help a script that failed
source     what the script's text tells
"""
