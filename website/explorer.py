"""The front page: the ladder as a table that reads without JavaScript, and data for explorer.js."""

import difflib
from html import escape

from ladder.fits import learns
from ladder.pages.escaping import script_json, target
from ladder.pages.generate import file_name
from ladder.pages.tables import Figures, batch, how_far, technique
from ladder.rows import memory_of
from ladder.rungs import FAMILIES, Rung, code, family, needs_bfloat16, of_family, several_gpus, stem
from vramcast import evidence, gpus
from vramcast.kinds import COLORS, KINDS


def front_page(ladder: list[Rung], figures: Figures) -> str:
    """The front page: Markdown that contains the explorer as HTML."""
    return "\n".join(
        [
            "# Finetune a vision transformer in a fraction of the GPU memory\n",
            "Short, numbered scripts finetune the same model on the same data. Each one applies "
            "one more technique that saves GPU memory, in a few lines.\n",
            how_far(ladder, figures) + "\n",
            "## Which script fits your GPU?\n",
            _question(),
            _tables(ladder, figures),
            "## What does it cost?\n",
            "Further down takes less memory, further right computes more for each sample. Time and "
            "accuracy are published ones, where there are some: see "
            "[what the figures are](ladder/index.md#what-the-figures-are).\n",
            '<p id="need" class="legend" hidden>The line is what the chosen GPU leaves for tensors;'
            " what does not fit it is pale.</p>\n",
            *(f"![{name}](ladder/{file_name(name)}-flops.svg)\n" for name in FAMILIES),
            "## What changes from one script to another?\n",
            _difference(ladder),
            f'<script type="application/json" id="ladder-data">{_data(ladder, figures)}</script>\n',
            "## All pages\n",
            "```{toctree}\n:maxdepth: 1\n\nladder/index\nyour-script\njson\n"
            "out-of-memory\nyour-model\ncombining\n"
            "how-prediction-works\nhow-far-off\nversions\nrehearsal\nseveral-gpus\nadding-a-rung\nscripts/index\n```",
        ]
    )


def data(ladder: list[Rung], figures: Figures) -> dict:
    """The data for explorer.js: memory in GB."""
    return {
        "gpus": [
            {
                "name": model.name,
                "gb": round(model.memory / 1e9, 1),
                "memory": model.memory / 1e9,
                "context": model.context / 1e9,
                "bfloat16": model.bfloat16,
            }
            for model in gpus.KNOWN.values()
        ],
        "context": gpus.DEFAULT.context / 1e9,
        "kernels": evidence.KERNELS / 1e9,
        "group": evidence.GROUP / 1e9,
        "scripts": [
            {
                "script": rung.script,
                "parent": rung.parent,
                "family": family(rung.script),
                "variant": rung.variant,
                "batch": figures.predicted[rung.script]["batch_size"],
                "learns": learns(figures.rehearsed.get(rung.script)),
                "bfloat16": needs_bfloat16(rung.script),
                "ranks": several_gpus(rung.script),
                "groups": figures.predicted[rung.script]["groups"],
                "margin": evidence.margin(figures.predicted[rung.script]["like"]),
                "room": figures.predicted[rung.script].get("room_gb"),
                "reserved": figures.predicted[rung.script]["reserved_gb"],
            }
            for rung in ladder
            if rung.script in figures.predicted
        ],
    }


def differences(ladder: list[Rung]) -> dict[str, dict[str, str]]:
    """The unified diff from each script's code to each other's, without docstrings, by stems."""
    codes = {rung.script: code(rung.script) for rung in ladder}
    return {
        stem(one): {
            stem(other): "\n".join(difflib.unified_diff(old, new, one, other, lineterm=""))
            for other, new in codes.items()
        }
        for one, old in codes.items()
    }


def _data(ladder: list[Rung], figures: Figures) -> str:
    return script_json(data(ladder, figures))


def _question() -> str:
    options = "".join(
        f'<option value="{escape(name)}">{escape(name)}</option>' for name in gpus.KNOWN
    )
    return (
        '<form id="gpu-form" class="explorer" autocomplete="off" hidden>\n'
        f'<label>GPU <select id="gpu"><option value="">name</option>{options}</select></label>\n'
        '<label>or <input id="gb" type="number" min="0" step="any" value="8"> GB</label>\n'
        '<div id="answer" role="status" aria-live="polite"></div>\n</form>\n'
        '<p class="legend">Predicted for an A100 with as much memory. What another GPU\'s kernels '
        "need is told by <code>vramcast SCRIPT --gpu NAME</code>.</p>\n"
    )


def _tables(ladder: list[Rung], figures: Figures) -> str:
    legend = " ".join(
        f'<span class="kind"><i style="background:{COLORS[kind]}"></i>{kind}</span>'
        for kind in KINDS
    )
    parts = [
        f'<p class="legend">{legend}</p>',
        '<p id="split" class="legend" role="status" aria-live="polite">'
        "Predicted peaks in GB reserved, on one GPU. The colours of a bar show what the allocated "
        "peak consists of. Batch: what an optimizer step sees. FLOPs: of a sample, against the "
        "table's first script.</p>",
    ]
    for name in FAMILIES:
        rungs = [rung for rung in of_family(ladder, name) if rung.script in figures.predicted]
        most = max(figures.predicted[rung.script]["reserved_gb"] for rung in rungs)
        parts.append(
            f'<table class="bars"><caption>{escape(name)}</caption><thead><tr>'
            '<th scope="col">script</th><th scope="col">predicted</th><th scope="col">GB</th>'
            '<th scope="col">batch</th><th scope="col">FLOPs</th>'
            '<th scope="col" class="fit" hidden>fits</th></tr></thead><tbody>'
        )
        parts += [_row(rung, figures, most) for rung in rungs]
        parts.append("</tbody></table>")
    return "\n".join(parts) + "\n"


def _row(rung: Rung, figures: Figures, most: float) -> str:
    row, cost = figures.predicted[rung.script], figures.costs.get(rung.script)
    split = ", ".join(
        f"{kind} {row['breakdown_gb'][kind]:.2f} GB"
        for kind in KINDS
        if row["breakdown_gb"][kind] >= 0.005
    )
    words = f"{stem(rung.script)}: {memory_of(row)} reserved; allocated peak: {split}"
    pieces = "".join(
        f'<i style="width:{100 * row["breakdown_gb"][kind] / most:.2f}%;background:{COLORS[kind]}">'
        "</i>"
        for kind in KINDS
    )
    variant = " (variant)" if rung.variant else ""
    return (
        f'<tr data-script="{escape(rung.script)}"><th scope="row">'
        f'<a href="ladder/{target(stem(rung.script))}.html">{escape(stem(rung.script))}</a>'
        f"<small>{escape(technique(rung) + variant)}</small></th>"
        f'<td><span class="bar" tabindex="0" role="img" aria-label="{escape(words)}" '
        f'title="{escape(words)}">{pieces}</span></td>'
        f"<td>{memory_of(row).removesuffix(' GB')}</td><td>{batch(rung, row)}</td>"
        f"<td>{f'× {cost[1]:.2f}' if cost else 'not counted'}</td>"
        '<td class="fit" hidden></td></tr>'
    )


def _difference(ladder: list[Rung]) -> str:
    def select(name: str, chosen: str) -> str:
        options = "".join(
            f'<option value="{escape(stem(rung.script))}"'
            f"{' selected' if rung.script == chosen else ''}>{escape(rung.script)}</option>"
            for rung in ladder
        )
        return f'<select id="{name}">{options}</select>'

    return (
        '<form id="difference-form" class="explorer" autocomplete="off" hidden>\n'
        f"<label>from {select('from', '02_mixed-precision.py')}</label>\n"
        f"<label>to {select('to', '03_bfloat16.py')}</label>\n</form>\n"
        '<pre id="difference" class="highlight" tabindex="0" aria-label="the difference" hidden>'
        "</pre>\n<noscript>Each script's page shows its difference from the one it builds on.\n"
        "</noscript>\n"
    )
