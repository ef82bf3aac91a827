"""What a script may not do, and where its files go.

audit            Python's audit events: no connections, no programs, no changed files
landlock         the same by Linux' kernel, also for C code
written_files    what the script writes goes to the scratch folder
"""
