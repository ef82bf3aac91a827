"""A comment on a pull request: what a script needs, and what the pull request changes about that.

    python -m vramcast.command.pull_request HEAD.json BASE.json --base main --text ANSWER.txt

Prints Markdown. The two files hold what `vramcast --json` said of the pull request's script and of
its base's. action.yml uses it.
"""

import argparse
import hashlib
import json
from pathlib import Path

from vramcast.kinds import KINDS
from vramcast.markdown import block, code
from vramcast.prediction import moved_gb, tflop, word

LONGEST = 30_000  # characters of the whole answer; GitHub takes 65,536 in a comment
NONE = "–"


def comment(head: dict, base: dict, base_name: str = "base", text: str = "") -> str:
    """The comment in Markdown, from two answers; `text` is the pull request's answer in words.

    All that may come from a script is in code spans and blocks. Of answers in rows, only the words
    are shown.
    """
    parts = [f"### vramcast: {_headline(head, base)}"]
    if "error" in head:
        parts.append(block(head["error"]))
    if "reserved_gb" in head:
        parts.append(_table(head, base, base_name))
    if "error" in base:
        parts += [f"{code(base_name)}: no prediction to compare with.", block(base["error"])]
    if text:
        cut = text if len(text) <= LONGEST else f"{text[:LONGEST]}\n… (the rest is in the log)"
        parts.append(f"<details><summary>The whole answer</summary>\n\n{block(cut)}\n\n</details>")
    return "\n\n".join(parts) + "\n"


def marker(question: str) -> str:
    """The first line of a comment, by which the next one for the same question finds it."""
    return f"<!-- vramcast {hashlib.sha256(question.encode()).hexdigest()[:16]} -->"


def _headline(head: dict, base: dict) -> str:
    """The answer in one line, and the change of what PyTorch reserves."""
    script = code(head.get("script") or "the script")
    if "error" in head:
        return f"no prediction for {script}"
    if "reserved_gb" not in head:
        return script
    now, before = head["reserved_gb"], base.get("reserved_gb")
    verdict = f"{_verdict(head)} {code(head['gpu'])}" if "fits" in head else "is predicted"
    change = f"{now:.2f} GB reserved"
    if before is not None:
        change = f"reserved {before:.2f} GB → {now:.2f} GB ({_change(before, now)})"
    return f"{script} {verdict}, {change}"


def _verdict(row: dict) -> str:
    return word(row["fits"], row["may_fit"]) if "fits" in row else NONE


def _change(before: float, now: float) -> str:
    return f"{now - before:+.2f}" if f"{before:.2f}" != f"{now:.2f}" else "no change"


def _table(head: dict, base: dict, base_name: str) -> str:
    """Both predictions as columns, with what a step costs; what is next to 0 is left out."""
    rows = [(f"{name}, GB", f"{name}_gb", ".2f") for name in ("reserved", "allocated")]
    rows += [(f"· {kind}", kind, ".2f") for kind in KINDS]
    rows += [("host, GB", "host_gb", ".2f"), ("TFLOP a sample", "tflop", ".3g")]
    rows += [("links, GB a step", "moved", ".2f")]
    before, now = _figures(base), _figures(head)
    lines = [
        _line(label, before.get(key), now.get(key), form)
        for label, key, form in rows
        if max(before.get(key) or 0, now.get(key) or 0) >= (0.005 if form == ".2f" else 1e-9)
    ]
    if "fits" in head:
        memory = f"{code(head['gpu'])}, {head['memory_gb']:.2f} GB"
        lines.append(f"| {memory} | {_verdict(base)} | {_verdict(head)} | |")
    titles = f"| predicted peak | {code(base_name)} | this pull request | change |"
    return "\n".join([titles, "| --- | --: | --: | --: |", *lines])


def _figures(row: dict) -> dict:
    """The figures of a prediction by their names; {} of an answer without one."""
    if "reserved_gb" not in row:
        return {}
    return row | row["breakdown_gb"] | {"tflop": tflop(row["cost"]), "moved": moved_gb(row["cost"])}


def _line(label: str, before: float | None, now: float, form: str) -> str:
    old, new = (NONE if one is None else f"{one:{form}}" for one in (before, now))
    change = "" if before is None or old == new else f"{now - before:+{form}}"
    return f"| {label} | {old} | {new} | {change} |"


def _read(path: Path) -> dict:
    """The answer in a file. One that cannot be read is an answer that says so."""
    try:
        answer = json.loads(path.read_text())
    except (OSError, ValueError):
        return {"error": "there was no answer"}
    return answer


def main() -> None:
    parser = argparse.ArgumentParser("python -m vramcast.command.pull_request")
    parser.add_argument("head", type=Path)
    parser.add_argument("base", type=Path)
    parser.add_argument("--base", dest="name", default="base", help="the base's name")
    parser.add_argument("--no-base", default="", help="why there is no answer of the base")
    parser.add_argument("--text", type=Path, help="a file with the answer in words")
    parser.add_argument("--question", default="", help="what was asked: tells comments apart")
    asked = parser.parse_args()
    base = {"error": asked.no_base} if asked.no_base else _read(asked.base)
    text = asked.text.read_text(errors="backslashreplace") if asked.text else ""
    print(marker(asked.question))
    print(comment(_read(asked.head), base, asked.name, text))


if __name__ == "__main__":
    main()
