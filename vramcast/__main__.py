"""The command `vramcast`; where it is not installed: python -m vramcast."""

import sys


def main() -> None:
    """Be the command: end with its exit status."""
    if sys.platform == "win32":  # which has no fork
        sys.exit("vramcast runs on Linux and macOS. On Windows, use it within WSL.")
    from vramcast.command.main import main as answer
    from vramcast.processes.supervisor import as_command

    as_command(answer)


if __name__ == "__main__":
    main()
