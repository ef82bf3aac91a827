"""The files that a prediction writes if asked to: pictures and snapshots of a training step."""

import base64
from pathlib import Path

from ladder import rows


def check(timeline: Path | None, snapshot: Path | None) -> None:
    """Raise ValueError if one of the files cannot be written. Call it before long work."""
    if timeline:
        from vramcast.command import pictures as figures

        figures.check(timeline)
    if snapshot:
        rows.check_file(snapshot, (".pickle",))


def write(row: dict, timeline: Path | None, snapshot: Path | None) -> None:
    """Write the files that were asked for; notes in the row name them, or say why there is none."""
    if timeline:
        from vramcast.command import pictures as figures

        if row["timeline"]:
            row["notes"] += [
                f"the step's peak, {row['timeline']['peak']['bytes'] / 1e9:.2f} GB: "
                f"{row['timeline']['peak']['phase']}, {figures.whose(row['timeline']['peak'])}",
                *(
                    f"activations held then: {figures.share(group)}"
                    for group in row["timeline"]["activations"]
                ),
            ]
        note = f"one step's memory is drawn in {timeline}"
        try:
            figures.timeline(row["timeline"], row["script"], timeline)
        except (ValueError, OSError) as error:
            note = f"{timeline} was not drawn: {error}"
        row["notes"].append(note)
    if snapshot:
        note = f"the memory's history is in {snapshot}, for pytorch.org/memory_viz"
        try:
            snapshot.write_bytes(base64.b64decode(row["snapshot"]))
        except OSError as error:
            note = f"{snapshot} was not written: {error}"
        row["notes"].append(note)
