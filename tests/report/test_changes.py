import re
from dataclasses import replace
from pathlib import Path

from mnemoscope.audit.intervals import share_difference, wilson
from mnemoscope.core.types import AuditResult, Estimate, Verdict, rungs
from mnemoscope.report.changes import Change, as_rows, compared, write_changes
from mnemoscope.report.differences import Difference
from tests.report import full
from tests.report.test_page import HOSTILE, Reader


def filtered() -> AuditResult:
    """The full audit after a filter: far fewer flags, recall a hair lower, one number gone."""
    result = full.result()
    assert result.privacy is not None
    assert result.recall is not None
    rate = wilson(120, 10_000)
    privacy = replace(result.privacy, flagged=120, flag_rate=rate, authentic_share=None)
    recall = replace(result.recall, irs=full.share(0.327, 0.0081))
    return replace(result, privacy=privacy, recall=recall, verdict=Verdict("pass", ["no more than strangers"], ["x"]))


def changes(results: list[AuditResult]) -> list[Change]:
    return compared(results, []).changes


def model(first: str, second: str) -> Difference:
    return Difference("re-identification model", [first, second], ("privacy", "power"), "audit both with one")


def test_a_change_is_said_where_the_interval_of_the_difference_excludes_zero() -> None:
    first = full.result()
    assert first.privacy is not None
    found = {change.name: change for change in changes([first, filtered()])}
    rate = found["privacy.flag_rate"]
    assert rate.says == ["lower: better"]
    assert rate.differences == [share_difference(wilson(120, 10_000), first.privacy.flag_rate)]
    assert found["recall.irs"].says == ["no change shown"]
    assert found["privacy.flagged"].says == ["no interval"]
    assert found["privacy.authentic_share"].numbers[1] is None
    assert found["privacy.authentic_share"].says == ["not measured"]
    assert found["power.gain.tpr"].says == ["no change shown"]


def test_an_audit_against_itself_changes_nothing() -> None:
    said = {says for change in changes([full.result(), full.result()]) for says in change.says}
    assert said == {"no change shown", "no interval"}


def test_five_figures_are_told_in_words_and_whether_they_changed() -> None:
    first, second = full.result(), filtered()
    assert first.privacy is not None
    assert second.privacy is not None
    lower = replace(second, privacy=replace(second.privacy, excess_rate=Estimate(0.0, -0.001, 0.001)))
    figures = compared([first, lower], []).figures
    assert [figure.says for figure in figures] == [["lower: better"], *[["no change shown"]] * 4]
    assert lower.privacy is not None
    difference = share_difference(lower.privacy.excess_rate, first.privacy.excess_rate)
    ends = [f"{100 * end:+.1f}".replace("-", "−") for end in (difference.value, difference.low, difference.high)]
    unit = "\u00a0points"
    assert figures[0].by == [f"over strangers: {ends[0]}{unit}, 95\u00a0% interval {ends[1]} to {ends[2]}{unit}"]
    assert figures[0].title == "Clips too close to a real patient"
    assert figures[0].shown[1][0] == "120 of 10,000"
    assert figures[0].shown[1][1].endswith("95\u00a0% interval −0.10 to +0.10\u00a0points")
    weak = min(rung.tpr.low for rung in rungs(first.power).values())
    found = {name: rung for name, rung in rungs(first.power).items() if rung.tpr.low > weak}
    stronger = compared([first, replace(first, power=found)], []).figures[1]
    assert stronger.says == ["higher: better"]


def test_what_may_not_be_compared_is_neither_better_nor_worse() -> None:
    both = [full.result(), filtered()]
    found = compared(both, [model("a", "b")])
    by_name = {change.name: change for change in found.changes}
    assert by_name["privacy.flag_rate"].says == ["not comparable"]
    assert by_name["privacy.flag_rate"].differences == [None]
    assert found.figures[0].by == [""]
    assert as_rows(dict(zip("ab", both, strict=True)), found)[1] == ["verdict", "fail", "pass", "not comparable"]
    assert by_name["recall.irs"].says == ["no change shown"]
    assert [figure.says for figure in found.figures[:3]] == [
        ["not comparable"],
        ["not comparable"],
        ["no change shown"],
    ]
    assert [part.name for part in found.forbidden] == ["re-identification model"]
    same = compared(both, [model("a", "a")])
    assert {change.name: change.says for change in same.changes}["privacy.flag_rate"] == ["lower: better"]


def test_the_page_begins_with_what_differs_and_folds_all_but_five_figures(tmp_path: Path) -> None:
    results = {"a": full.result(), "b": filtered()}
    apart = compared(list(results.values()), [model("hash-a", "hash-b")])
    html = write_changes(results, apart, tmp_path / "c.html").read_text(encoding="utf-8")
    text = Reader(html).text
    assert text.index("These audits differ in more than their sets") < text.index("Verdicts and five figures")
    assert "hash-a" in text
    assert "closeness to patients, what would be noticed" in text
    shown, folded = html.split("<details>")
    assert "Clips too close to a real patient" in shown
    assert "privacy.flag_rate" not in shown
    assert "privacy.flag_rate" in folded
    alike = write_changes(results, compared(list(results.values()), []), tmp_path / "d.html").read_text(
        encoding="utf-8"
    )
    assert "Nothing differs but the numbers" in alike
    assert "not fully comparable" not in alike


def test_each_later_audit_is_held_against_the_first() -> None:
    found = {change.name: change for change in changes([filtered(), full.result(), filtered()])}
    assert found["privacy.flag_rate"].says == ["higher: worse", "no change shown"]


def test_the_table_has_a_row_for_each_number_and_the_verdicts() -> None:
    results = {"a": full.result(), "b": filtered()}
    rows = as_rows(results, compared(list(results.values()), []))
    assert rows[0] == ["", "a", "b", "b against a"]
    assert rows[1] == ["verdict", "fail", "pass", "changed"]
    by_name = {row[0]: row[1:] for row in rows}
    assert by_name["privacy.flag_rate"][0] == "0.0732 [0.0683, 0.0785]"
    assert by_name["privacy.flag_rate"][2].startswith("lower: better: −0.0612 [−0.06685, ")
    assert by_name["privacy.authentic_share"][1] == "not measured"
    assert not [name for name in by_name if name.startswith(("recall.curves", "consistency.real", "absent"))]


def test_the_page_escapes_titles_and_asks_no_network(tmp_path: Path) -> None:
    results = {HOSTILE: full.result(), "b": filtered()}
    html = write_changes(results, compared(list(results.values()), []), tmp_path / "c.html").read_text(encoding="utf-8")
    reader = Reader(html)
    assert HOSTILE in reader.text
    assert "<img" not in html
    assert not {tag for tag, _ in reader.tags} & {"script", "link", "img"}
    assert not re.search(r"https?:", html)
