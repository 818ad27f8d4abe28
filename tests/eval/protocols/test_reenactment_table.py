"""The table of self-reenactment from made-up values."""

from vividtalk_core.eval.protocols.reenactment_score import CLOSED_FORM, NETWORK, REAL, STATIC, RowScore
from vividtalk_core.eval.protocols.reenactment_table import better_share, gains, to_markdown, values_of

ROWS = (
    (STATIC, RowScore(face_psnr=20.0, csim=1.0)),
    (CLOSED_FORM, RowScore(face_psnr=26.0, csim=0.9, face_ssim=0.8, perceptual=0.20, face_jitter=0.5, still_change=0)),
    (NETWORK, RowScore(face_psnr=27.5, csim=0.9, face_ssim=0.9, perceptual=0.10, face_jitter=1.0, still_change=0)),
    (REAL, RowScore(csim=0.95, face_jitter=1.0)),
)
OTHER = (
    (STATIC, RowScore(face_psnr=22.0)),
    (CLOSED_FORM, RowScore(face_psnr=28.0, face_ssim=0.8, perceptual=0.20, still_change=0.0)),
    (NETWORK, RowScore(face_psnr=28.5, face_ssim=0.7, perceptual=0.15, still_change=3.0)),
    (REAL, RowScore()),
)
CLIPS = {"a.mp4": dict(ROWS), "b.mp4": dict(OTHER)}


def cells(line):
    return [cell.strip() for cell in line.strip("|\n").split("|")]


def test_medians_and_gains():
    heading, rule, *lines = to_markdown(CLIPS).splitlines()
    names = cells(heading)
    assert names[:3] == ["median of 2", "face PSNR dB", "SSIM"] and set(cells(rule)) == {"---"}
    table = {cells(line)[0]: dict(zip(names[1:], cells(line)[1:], strict=True)) for line in lines}
    assert list(table) == [STATIC, CLOSED_FORM, NETWORK, REAL, "network − closed form", "network better in"]
    assert [row["face PSNR dB"] for row in table.values()] == ["21.00", "27.00", "28.00", "–", "+1.00", "100 %"]
    assert table["network better in"]["SSIM"] == "50 %" and table["network better in"]["perceptual"] == "100 %"
    assert table["network − closed form"]["perceptual"] == "-0.0750"
    assert table["network better in"]["jitter ÷ real: face"] == "–", "neither more nor less is better"


def test_the_worst_still_pixel_counts():
    assert "| 3.000 |" in to_markdown(CLIPS)


def test_columns_that_nothing_was_measured_for_are_left_out():
    assert "M-LMD" not in to_markdown(CLIPS)


def test_without_networks_nothing_is_compared():
    clips = {name: {row: score for row, score in rows.items() if row != NETWORK} for name, rows in CLIPS.items()}
    assert NETWORK not in to_markdown(clips)
    assert gains(clips, "face_psnr") == [] and better_share(clips, "face_psnr") is None


def test_a_clip_without_a_figure_is_not_counted():
    assert values_of(CLIPS, REAL, "csim") == [0.95]
    assert gains(CLIPS, "csim") == [0.0] and better_share(CLIPS, "csim") == 0
