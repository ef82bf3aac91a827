"""A prediction on the terminal: the words of prediction.py, with colours and a bar."""

import functools

from vramcast.kinds import COLORS
from vramcast.prediction import Prediction, answer, details, verdict
from vramcast.processes.messages import plain


@functools.cache
def console():
    """The terminal, or plain text where it is none."""
    from rich.console import Console  # takes a moment

    class Terminal(Console):
        def on_broken_pipe(self) -> None:
            raise  # rich would end the command with status 1, which is an answer

    return Terminal(highlight=False, soft_wrap=True)


def progress(script: str, report: dict) -> str:
    """One line on how far a running prediction is."""
    steps = f"{report['steps']} optimizer step{'s' * (report['steps'] != 1)}"
    reserved = f"{report['reserved_gb']:.2f} GB reserved so far"
    return f"{plain(script)}: {report['phase']}, {steps}, {reserved}"


def split(row: Prediction, where):
    """What the allocated peak consists of: figures in words, and a bar if the terminal has colours.

    A `rich.text.Text` for the console `where`; the whole bar is as long as that is wide.
    """
    from rich.text import Text

    kinds = [(kind, size) for kind, size in row.breakdown_gb.items() if size >= 0.005]
    text, width = Text(), min(where.width - 4, 72)
    if where.is_terminal and where.color_system:
        text.append("  ")
        end = total = 0
        for kind, size in kinds:
            total += size
            cells = round(width * total / row.allocated_gb) - end
            text.append("█" * cells, style=COLORS[kind])
            end += cells
        text.append("\n")
    text.append("  ")
    for number, (kind, size) in enumerate(kinds):
        if number:
            text.append(", ")
        text.append(f"{kind} {size:.2f}", style=COLORS[kind])
    return text.append(" GB of it")


def show(row: Prediction, where=None) -> None:
    """Print a prediction: the answer, then the details. `where`: a console of rich's."""
    from rich.text import Text

    where = where or console()
    colors = {"fits": "green", "may not fit": "yellow", "does not fit": "red"}
    style = "bold" if row.fits is None else f"bold {colors[verdict(row)]}"
    where.print(Text(plain(answer(row)), style=style))
    first, *rest = map(plain, details(row))
    where.print(Text(f"  {first}"))
    if any(size >= 0.005 for size in row.breakdown_gb.values()):
        where.print(split(row, where))
    for line in rest:
        where.print(Text(f"  {line}"))
