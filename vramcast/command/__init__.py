"""The command line: what is asked, and the answer in words."""
