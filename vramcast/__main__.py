"""python -m vramcast: the command, where it is not installed."""

from vramcast.command.main import run

if __name__ == "__main__":
    run()
