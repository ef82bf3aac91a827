"""An answer of vramcast as a terminal shows it: the README's picture, from results/answer.json."""

import io
import json

from rich.console import Console
from rich.terminal_theme import MONOKAI

from ladder import answer
from ladder.pages.escaping import plain
from vramcast import gpus
from vramcast import prediction as words
from vramcast.command import report
from vramcast.options import Options

COLUMNS = 100
# rich's own loads a font from the network, and draws a window around it.
FORM = """\
<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img">
<title>TITLE</title>
<style>
.{unique_id}-matrix {{font: {char_height}px ui-monospace, Menlo, Consolas, monospace}}
{styles}
</style>
<defs>{lines}</defs>
<rect width="{width}" height="{height}" rx="8" fill="#0c0c0c"/>
<g transform="translate({terminal_x}, 16)">
{backgrounds}
<g class="{unique_id}-matrix">
{matrix}
</g>
</g>
</svg>
"""


def picture() -> str:
    """The recorded answer as SVG: light on dark, wherever it is shown."""
    console = Console(
        record=True, file=io.StringIO(), width=COLUMNS, force_terminal=True, highlight=False,
        color_system="truecolor", legacy_windows=False, _environ={},
    )  # fmt: skip
    asked = f"vramcast {answer.SCRIPT} --gpu {answer.GPU}"
    console.print(f"$ {asked}\n", markup=False)
    report.show(_recorded(), console)
    form = FORM.replace("TITLE", f"The answer of: {asked}")
    return console.export_svg(theme=MONOKAI, code_format=form, unique_id="answer")


def link() -> str:
    """The picture in the README, with its first line for those who do not see it."""
    return f"![{plain(words.answer(_recorded()))}](docs/answer.svg)"


def _recorded() -> words.Prediction:
    row = json.loads(answer.RECORDED.read_text()) | {"seconds": 0}
    return words.Prediction.of(row, Options(gpus.find(answer.GPU)))
