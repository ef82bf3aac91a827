"""What a script may not do, and where its files go.

audit            Python's audit events: no connections, no processes, no changed files
landlock         the same by Linux' kernel, also for C code: files
seccomp          and processes, sockets, signals, attributes of files and the system
system_calls     calls of that kernel for which Python has no function
shared_memory    what a script leaves there
written_files    what the script writes goes to the scratch folder
real_paths       paths as they are without that
checkpoints      of saved tensors, the shapes are kept
programs         programs are not found
"""
