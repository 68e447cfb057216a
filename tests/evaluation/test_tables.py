"""Tables for the terminal, Markdown and LaTeX."""

from __future__ import annotations

from rich.console import Console

from eamm_jax.constants import EMOTIONS
from eamm_jax.evaluation import tables
from eamm_jax.evaluation.measurement import RECOGNIZED
from eamm_jax.input_pipeline.clips import Labels

HAPPY, SAD = EMOTIONS.index("happy"), EMOTIONS.index("sad")
BY_CLIP = {
    "s0/a": {"truth": {"psnr": 58.9, "ssim": 1.0}, "o_u": {"psnr": 20.0, "ssim": 0.5}},
    "s0/b": {"truth": {"psnr": 58.9, "ssim": 1.0}, "o_u": {"psnr": 30.0, "ssim": 0.5}},
    "s1/a": {"truth": {"psnr": 58.9, "ssim": 1.0}, "o_u": {"psnr": 25.0, "m_lmd": 2.0}},
}
LABELS = {"s0/a": Labels("s0", HAPPY, 2), "s0/b": Labels("s0", SAD, 2), "s1/a": Labels("s1")}


def printed(table) -> str:
    console = Console(width=120)
    with console.capture() as capture:
        console.print(table)
    return capture.get()


def test_means_have_intervals():
    sheet = tables.means(BY_CLIP)
    assert sheet.columns == ("", "truth", "o_u")
    (psnr,) = (row for row in sheet.rows if row[0] == "PSNR, dB ↑")
    assert psnr[1:] == ("58.90 [58.90, 58.90]", "25.00 [20.00, 30.00]")
    (distance,) = (row for row in sheet.rows if row[0] == "M-LMD, px ↓")
    assert distance[1:] == ("-", "2.00")  # of the truth there is none, of the other one
    assert "F-LMD" not in str(sheet.rows)
    text = printed(tables.to_rich(sheet))
    assert "Means of 3 clips" in text
    assert "[20.00, 30.00]" in text


def test_methods_are_compared_pair_by_pair():
    sheet = tables.compared(BY_CLIP)
    assert sheet.rows[0][:3] == ("PSNR, dB ↑", "o_u", "truth")
    assert sheet.rows[0][3].startswith("-33.90 [")
    assert sheet.rows[0][4:] == ("0", "3", "0.250")


def test_groups_have_tables_where_clips_differ():
    emotions, identities = tables.by_group(BY_CLIP, LABELS)  # and one level only
    assert emotions.title == "Means by emotion [95 % interval]"
    assert [row[:3] for row in emotions.rows] == [
        ("happy", "1", "truth"), ("happy", "1", "o_u"), ("sad", "1", "truth"), ("sad", "1", "o_u"),
    ]  # fmt: skip
    assert [row[0] for row in identities.rows] == ["s0", "s0", "s1", "s1"]
    assert len(tables.all_sheets(BY_CLIP, LABELS, {}, {})) == 4
    sheets = tables.all_sheets(BY_CLIP, LABELS, {"o_u": 12.345}, {"s1/sad": {"o_u": "a | b"}})
    assert sheets[1].rows == [("o_u", "12.35")]
    assert sheets[-1].rows == [("s1/sad", "o_u", "a | b")]
    assert tables.to_markdown(sheets[-1]).splitlines()[-1] == r"| s1/sad | o_u | a \| b |"


def test_recognized_emotions_are_counted():
    values = {"a": HAPPY, "b": HAPPY, "c": SAD}
    by_clip = {name: {"ours": {"psnr": 1.0, RECOGNIZED: float(n)}} for name, n in values.items()}
    labels = {"a": Labels("", HAPPY), "b": Labels("", SAD), "c": Labels("", SAD)}
    (sheet,) = tables.confusions(by_clip, labels)
    assert sheet.title == "Emotions recognized in ours: 67 % of 3 clips as labelled"
    rows = {row[0]: dict(zip(sheet.columns, row, strict=True)) for row in sheet.rows}
    assert list(rows) == ["happy", "sad"]
    assert (rows["sad"]["happy"], rows["sad"]["sad"], rows["happy"]["sad"]) == ("1", "1", "0")
    assert tables.confusions(by_clip, dict.fromkeys(labels, Labels())) == []


def test_markdown_and_latex_say_the_same():
    sheet = tables.Sheet("T", ("", "o_u|r"), [("PSNR, dB ↑", "1.0 [0.5, 1.5]"), ("50 %", "2")])
    assert tables.to_markdown(sheet) == (
        "## T\n\n|  | o_u\\|r |\n| --- | ---: |\n| PSNR, dB ↑ | 1.0 [0.5, 1.5] |\n| 50 % | 2 |\n"
    )
    latex = tables.to_latex(sheet)
    assert r"\begin{tabular}{lr}" in latex
    assert r" & o\_u|r \\" in latex
    assert r"PSNR, dB $\uparrow$ & 1.0 [0.5, 1.5] \\" in latex
    assert r"50 \% & 2 \\" in latex
