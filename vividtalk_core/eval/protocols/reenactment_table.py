"""Self-reenactment of many clips as one table: a row for each way to make them, and what the networks gain."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median

from .reenactment_score import CLOSED_FORM, NETWORK, RowScore

Clips = Mapping[str, Mapping[str, RowScore]]  # clip → row → figures


@dataclass(frozen=True, slots=True)
class Column:
    """A figure as it is printed."""

    heading: str
    digits: int
    better: int  # 1 more is better, −1 less is better, 0 neither


COLUMNS = {
    "face_psnr": Column("face PSNR dB", 2, 1),
    "mouth_psnr": Column("mouth PSNR dB", 2, 1),
    "face_ssim": Column("SSIM", 4, 1),
    "perceptual": Column("perceptual", 4, -1),
    "csim": Column("CSIM", 3, 1),
    "mouth_distance": Column("M-LMD IOD", 4, -1),
    "misregistration_px": Column("misregistration px", 2, -1),
    "cpbd": Column("CPBD", 3, 1),
    "cpbd_ratio": Column("CPBD ÷ portrait", 3, 1),
    "face_tremble": Column("tremble ÷ real: face", 2, 0),
    "border_tremble": Column("oval's border", 2, 0),
    "edge_tremble": Column("edge of motion", 2, 0),
    "still_change": Column("still px change", 3, -1),
    "background_change": Column("background change", 3, -1),
}


def figures_of(clips: Clips, row: str, name: str) -> list[float]:
    """A figure of one row in all clips that have it."""
    values = (getattr(rows[row], name) for rows in clips.values() if row in rows)
    return [value for value in values if value is not None]


def gains(clips: Clips, name: str) -> list[float]:
    """What the networks add to the closed form, clip by clip."""
    pairs = ((getattr(r[NETWORK], name), getattr(r[CLOSED_FORM], name)) for r in clips.values() if NETWORK in r)
    return [made - before for made, before in pairs if made is not None and before is not None]


def better_share(clips: Clips, name: str) -> float | None:
    """Share of the clips in which the networks better a figure; None where none can be better."""
    changes, sign = gains(clips, name), COLUMNS[name].better
    return sum(sign * change > 0 for change in changes) / len(changes) if changes and sign else None


def to_markdown(clips: Clips) -> str:
    """Medians over the clips for each row; beside the networks what they gain, and in how many clips they are better.

    The worst clip, not the median, stands for the change of still pixels, which must be 0 in all.
    """
    rows = list(dict.fromkeys(row for scores in clips.values() for row in scores))
    names = [name for name in COLUMNS if any(figures_of(clips, row, name) for row in rows)]
    lines = [[f"median of {len(clips)}", *(COLUMNS[name].heading for name in names)], ["---"] * (len(names) + 1)]
    lines += [[row, *(_cell(name, figures_of(clips, row, name)) for name in names)] for row in rows]
    if NETWORK in rows:
        lines.append([f"{NETWORK} − {CLOSED_FORM}", *(_cell(name, gains(clips, name), "+") for name in names)])
        lines.append([f"{NETWORK} better in", *(_share(better_share(clips, name)) for name in names)])
    return "".join(f"| {' | '.join(cells)} |\n" for cells in lines)


def _cell(name: str, values: Sequence[float], sign: str = "") -> str:
    if not values:
        return "–"
    value = max(values) if name == "still_change" else median(values)
    return f"{value:{sign}.{COLUMNS[name].digits}f}"


def _share(share: float | None) -> str:
    return "–" if share is None else f"{100 * share:.0f} %"
