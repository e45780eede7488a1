import re
from dataclasses import replace
from pathlib import Path

from mnemoscope.audit.intervals import share_difference, wilson
from mnemoscope.core.types import AuditResult, Verdict
from mnemoscope.report.changes import as_rows, changes, write_changes
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
    assert found["power.gain.tpr"].says == ["no change shown"]


def test_an_audit_against_itself_changes_nothing() -> None:
    said = {says for change in changes([full.result(), full.result()]) for says in change.says}
    assert said == {"no change shown", "no interval"}


def test_each_later_audit_is_held_against_the_first() -> None:
    found = {change.name: change for change in changes([filtered(), full.result(), filtered()])}
    assert found["privacy.flag_rate"].says == ["higher: worse", "no change shown"]


def test_the_table_has_a_row_for_each_number_and_the_verdicts() -> None:
    results = {"a": full.result(), "b": filtered()}
    rows = as_rows(results, changes(list(results.values())))
    assert rows[0] == ["", "a", "b", "b against a"]
    assert rows[1] == ["verdict", "fail", "pass", "changed"]
    by_name = {row[0]: row[1:] for row in rows}
    assert by_name["privacy.flag_rate"][0] == "0.0732 [0.0683, 0.0785]"
    assert by_name["privacy.flag_rate"][2].startswith("lower: better: −0.0612 [−0.06685, ")
    assert by_name["privacy.authentic_share"][1] == "not measured"
    assert not [name for name in by_name if name.startswith(("recall.curves", "consistency.real", "absent"))]


def test_the_page_escapes_titles_and_asks_no_network(tmp_path: Path) -> None:
    results = {HOSTILE: full.result(), "b": filtered()}
    html = write_changes(results, changes(list(results.values())), tmp_path / "c.html").read_text(encoding="utf-8")
    reader = Reader(html)
    assert HOSTILE in reader.text
    assert "<img" not in html
    assert not {tag for tag, _ in reader.tags} & {"script", "link", "img"}
    assert not re.search(r"https?:", html)
