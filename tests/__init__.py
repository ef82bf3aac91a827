"""The tests. Fixtures that several files use are in conftest.py.

helpers        processes, and how long they are waited for
warm           commands in processes forked from one that has imported PyTorch
rows_anew      rows of results/ made anew, if what they are made from has changed
probes/        programs that tests run
"""
