"""The report of a preparation."""

import csv
import json

import pytest

from vividtalk_core.training.prepare.report import ClipReport, Report


@pytest.fixture
def report():
    return Report(
        (
            ClipReport("a.mp4", "Ada", "train", "", 1500, 1440, {"face turned away": 60}, True, 6, 9.5, 6, "clip"),
            ClipReport("b.mp4", "Bob", "train", "", 750, 750, {}, False, None, 0.0, 0, "identity"),
            ClipReport("c.mp4", "Cy", "validation", "too short: 0.5 s", 12, 12),
            ClipReport("d.mp4", "Di", "validation", "too short: 0.8 s", 20, 20),
            ClipReport("e.mp4", "Eve", "test", "no track: no face in any of the 9 frames", bad_frames={"x": 5}),
        )
    )


def test_figures(report):
    assert [clip.file for clip in report.kept] == ["a.mp4", "b.mp4"]
    assert report.dropped == {"too short": 2, "no track": 1}
    assert report.bad_frames == {"face turned away": 60}
    assert report.minutes("train") == pytest.approx((1440 + 750) / 1500)
    assert report.minutes("train", with_sound=True) == pytest.approx(0.96)
    assert report.minutes("validation") == 0
    assert report.identities("train") == ("Ada", "Bob")
    assert report.identities("test") == ()


def test_description(report):
    assert report.describe().splitlines() == [
        "2 of 5 clips kept",
        "  train: 2 clips, 1.5 min (1.0 min with sound), 2 identities",
        "  validation: 0 clips, 0.0 min (0.0 min with sound), 0 identities",
        "  test: 0 clips, 0.0 min (0.0 min with sound), 0 identities",
        "  1 clips had their sound moved",
        "left out, too short: 2 clips",
        "left out, no track: 1 clips",
        "bad frames, face turned away: 60",
    ]


def test_files(report, tmp_path):
    report.write(tmp_path)
    written = json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))
    assert written["summary"]["minutes"]["train"] == 1.46
    assert written["summary"]["identities"]["train"] == ["Ada", "Bob"]
    assert written["clips"][0]["bad_frames"] == {"face turned away": 60}
    with (tmp_path / "report.csv").open(newline="", encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    assert len(rows) == 5
    assert rows[0]["bad_frames"] == "face turned away 60"
    assert (rows[0]["lag"], rows[1]["lag"], rows[2]["reason"]) == ("6", "", "too short: 0.5 s")
    assert len(list(tmp_path.iterdir())) == 2
