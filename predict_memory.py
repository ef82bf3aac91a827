"""Predict a script's peak GPU memory: see vramcast/command/main.py."""

import signal

if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # nothing to tell or to tidy up yet

    from vramcast.command.main import run

    run()
