"""Self-reenactment of many clips as one table: a row for each method, and the gain of the networks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median

from .reenactment_score import CLOSED_FORM, NETWORK, RowScore

Clips = Mapping[str, Mapping[str, RowScore]]  # clip → row → metrics


@dataclass(frozen=True, slots=True)
class Column:
    """How a metric is printed."""

    heading: str
    digits: int
    better: int  # 1 larger is better, −1 smaller is better, 0 neither


COLUMNS = {
    "face_psnr": Column("face PSNR dB", 2, 1),
    "mouth_psnr": Column("mouth PSNR dB", 2, 1),
    "face_ssim": Column("SSIM", 4, 1),
    "perceptual": Column("perceptual", 4, -1),
    "csim": Column("CSIM", 3, 1),
    "mouth_distance": Column("M-LMD IOD", 4, -1),
    "misregistration_px": Column("misregistration px", 2, -1),
    "mouth_bright": Column("teeth ÷ cheeks", 2, 0),
    "mouth_detail": Column("mouth's detail ÷ real", 2, 0),
    "cpbd": Column("CPBD", 3, 1),
    "cpbd_ratio": Column("CPBD ÷ portrait", 3, 1),
    "face_jitter": Column("jitter ÷ real: face", 2, 0),
    "border_jitter": Column("oval's border", 2, 0),
    "edge_jitter": Column("edge of motion", 2, 0),
    "still_change": Column("still px change", 3, -1),
    "background_change": Column("background change", 3, -1),
}


def values_of(clips: Clips, row: str, name: str) -> list[float]:
    """A metric of one row in all clips that have it."""
    values = (getattr(rows[row], name) for rows in clips.values() if row in rows)
    return [value for value in values if value is not None]


def gains(clips: Clips, name: str) -> list[float]:
    """The metric of the networks minus that of the closed form, clip by clip."""
    # Clip by clip, because clips differ more from each other than the two methods do on one clip.
    pairs = ((getattr(r[NETWORK], name), getattr(r[CLOSED_FORM], name)) for r in clips.values() if NETWORK in r)
    return [learned - closed for learned, closed in pairs if learned is not None and closed is not None]


def better_share(clips: Clips, name: str) -> float | None:
    """Share of the clips in which the networks improve a metric; None where neither direction is better."""
    changes, sign = gains(clips, name), COLUMNS[name].better
    return sum(sign * change > 0 for change in changes) / len(changes) if changes and sign else None


def to_markdown(clips: Clips) -> str:
    """Medians over the clips for each row, the gain of the networks, and the share of clips in which they are better.

    The change of still pixels is that of the worst clip, not the median, because it must be 0 in all.
    """
    rows = list(dict.fromkeys(row for scores in clips.values() for row in scores))
    names = [name for name in COLUMNS if any(values_of(clips, row, name) for row in rows)]
    lines = [[f"median of {len(clips)}", *(COLUMNS[name].heading for name in names)], ["---"] * (len(names) + 1)]
    lines += [[row, *(_cell(name, values_of(clips, row, name)) for name in names)] for row in rows]
    if NETWORK in rows:
        lines.append([f"{NETWORK} − {CLOSED_FORM}", *(_cell(name, gains(clips, name), "+") for name in names)])
        lines.append([f"{NETWORK} better in", *(_share(better_share(clips, name)) for name in names)])
    return "".join(f"| {' | '.join(cells)} |\n" for cells in lines)


def _cell(name: str, values: Sequence[float], sign: str = "") -> str:
    if not values:
        return "–"
    # What must not change must not change in any clip, so the worst one counts.
    value = max(values) if name == "still_change" else median(values)
    return f"{value:{sign}.{COLUMNS[name].digits}f}"


def _share(share: float | None) -> str:
    return "–" if share is None else f"{100 * share:.0f} %"
