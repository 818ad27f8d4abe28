"""Which clips were kept, which were left out, and why."""

from __future__ import annotations

import csv
import json
from collections import Counter
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path

from ...files import whole_file
from ..dataset.motion_shard import FPS, SPLITS

JSON_NAME, CSV_NAME = "report.json", "report.csv"


@dataclass(frozen=True, slots=True)
class ClipReport:
    """One clip; frames are counted at 25 per second."""

    file: str
    identity: str
    split: str
    reason: str = ""  # why it was left out; "" = it was kept
    frames: int = 0
    good_frames: int = 0
    bad_frames: dict[str, int] = field(default_factory=dict)  # reason → frames
    has_sound: bool = False
    lag: int | None = None  # frames by which its sound was estimated to be late; None = no estimate
    lag_z: float = 0.0
    shifted: int = 0  # frames by which the sound was moved forward
    rest: str = ""  # where its neutral face comes from: "clip" or "identity"


@dataclass(frozen=True, slots=True)
class Report:
    """The reports of all clips of a folder."""

    clips: tuple[ClipReport, ...]

    @property
    def kept(self) -> tuple[ClipReport, ...]:
        """Clips that became shards."""
        return tuple(clip for clip in self.clips if not clip.reason)

    @property
    def dropped(self) -> Counter[str]:
        """Reason → clips that were left out for it."""
        # The text before the colon is the kind of reason; behind it are the numbers of one clip.
        return Counter(clip.reason.split(":")[0] for clip in self.clips if clip.reason)

    @property
    def bad_frames(self) -> Counter[str]:
        """Reason → frames of kept clips that were marked as bad."""
        return sum((Counter(clip.bad_frames) for clip in self.kept), Counter())

    def minutes(self, split: str, with_sound: bool = False) -> float:
        """Minutes of good frames in a split, of all kept clips or only of those with sound."""
        clips = (clip for clip in self.kept if clip.split == split and (clip.has_sound or not with_sound))
        return sum(clip.good_frames for clip in clips) / FPS / 60

    def identities(self, split: str) -> tuple[str, ...]:
        """The names of the identities of a split."""
        return tuple(sorted({clip.identity for clip in self.kept if clip.split == split}))

    def describe(self) -> str:
        """A few lines of text."""
        lines = [f"{len(self.kept)} of {len(self.clips)} clips kept"]
        for split in SPLITS:
            clips = sum(clip.split == split for clip in self.kept)
            with_sound = self.minutes(split, with_sound=True)
            lines.append(
                f"  {split}: {clips} clips, {self.minutes(split):.1f} min ({with_sound:.1f} min with sound), "
                f"{len(self.identities(split))} identities"
            )
        shifted = [clip for clip in self.kept if clip.shifted]
        lines += [f"  {len(shifted)} clips had their sound moved"] if shifted else []
        lines += [f"left out, {reason}: {count} clips" for reason, count in self.dropped.most_common()]
        lines += [f"bad frames, {reason}: {count}" for reason, count in self.bad_frames.most_common()]
        return "\n".join(lines)

    def summary(self) -> dict[str, object]:
        """The numbers of `describe`."""
        return {
            "clips": len(self.clips),
            "kept": len(self.kept),
            "dropped": dict(self.dropped),
            "bad_frames": dict(self.bad_frames),
            "minutes": {split: round(self.minutes(split), 2) for split in SPLITS},
            "minutes_with_sound": {split: round(self.minutes(split, with_sound=True), 2) for split in SPLITS},
            "identities": {split: list(self.identities(split)) for split in SPLITS},
        }

    def write(self, folder: Path) -> None:
        """Write report.json (all) and report.csv (a row per clip), each whole or not at all."""
        rows = [asdict(clip) for clip in self.clips]
        with whole_file(folder / JSON_NAME) as part:
            text = json.dumps({"summary": self.summary(), "clips": rows}, indent=1, ensure_ascii=False)
            part.write_text(text + "\n", encoding="utf-8")
        with whole_file(folder / CSV_NAME) as part, part.open("w", newline="", encoding="utf-8") as stream:
            writer = csv.DictWriter(stream, [column.name for column in fields(ClipReport)])
            writer.writeheader()
            writer.writerows(row | {"bad_frames": _flat(row["bad_frames"])} for row in rows)


def _flat(counts: dict[str, int]) -> str:
    return "; ".join(f"{reason} {count}" for reason, count in counts.items() if count)
