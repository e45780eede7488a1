from datetime import UTC, datetime
from pathlib import Path

import pytest

from mnemoscope.core.errors import InputError
from mnemoscope.release.decisions import Decided, Decision, read_decisions
from tests.release.audits import write_decisions

CLIPS = {"s1", "s2", 'a,"b"', "<img src=x>"}
WHEN = "2026-03-01T14:30:00Z"


def test_the_last_line_of_a_clip_wins(tmp_path: Path) -> None:
    path = write_decisions(
        tmp_path / "d.csv",
        f"s1,release,Ann,{WHEN},seen it",
        f"s2,withhold,,{WHEN},",
        "s1,withhold,Ben,2026-02-01,earlier by time but later in the file",
    )
    assert read_decisions(path, Decided(CLIPS)) == {
        "s1": Decision("withhold", "Ben", "2026-02-01", "earlier by time but later in the file"),
        "s2": Decision("withhold", "", WHEN, ""),
    }


def test_quoted_cells_byte_order_mark_and_windows_lines(tmp_path: Path) -> None:
    lines = ("clip_id,decision,who,when,why", f'"a,""b""",release,Ann,{WHEN},"one,', 'two"', "")
    text = "\r\n".join([*lines, f"<img src=x>,withhold,,{WHEN},", ""])
    (tmp_path / "d.csv").write_bytes(b"\xef\xbb\xbf" + text.encode())
    found = read_decisions(tmp_path / "d.csv", Decided(CLIPS))
    assert found['a,"b"'] == Decision("release", "Ann", WHEN, "one,\r\ntwo")
    assert found["<img src=x>"].decision == "withhold"


def test_every_problem_is_in_one_message(tmp_path: Path) -> None:
    path = write_decisions(
        tmp_path / "d.csv",
        f"nobody\x1b[2J,release,Ann,{WHEN},why",
        f"s1,maybe,Ann,{WHEN},why",
        "s1,release,Ann,yesterday,why",
        f"s1,release,  ,{WHEN},why",
        f"s2,release,Ann,{WHEN}, ",
        f"s2,release,Ann,{WHEN},too,many",
    )
    with pytest.raises(InputError) as caught:
        read_decisions(path, Decided(CLIPS))
    assert str(caught.value).splitlines() == [
        f"{path}: 6 problems in the decisions; mend the lines, or export again (--decisions):",
        r"- line 2: expected a clip of the audit, found 'nobody\x1b[2J'",
        "- line 3: expected the decision release or withhold, found 'maybe'",
        "- line 4: expected a time such as 2026-03-01T14:30:00Z, found 'yesterday'",
        "- line 5: expected who released the clip, and why; found an empty cell",
        "- line 6: expected who released the clip, and why; found an empty cell",
        "- line 7: expected 5 cells, found 6; quote a cell that holds a comma",
    ]


FINISHED = datetime(2026, 1, 5, 10, tzinfo=UTC)


@pytest.mark.parametrize(
    ("audit", "when", "problem"),
    [
        ("this", WHEN, None),
        ("this", "2025-01-01", None),  # the same audit, run again
        ("another", WHEN, "found one that the report of another audit wrote"),
        (None, "2026-01-05", None),
        (None, "2026-01-05T09:00:00+14:00", "after the audit"),
        (None, "2026-01-04", "after the audit"),
        (None, "2999-01-01", "a time that has come"),
        ("this", "2999-01-01", "a time that has come"),
    ],
)
def test_decisions_on_another_audit_or_of_another_time_are_refused(
    tmp_path: Path, audit: str | None, when: str, problem: str | None
) -> None:
    """Sets of other seeds have clips of the same names: a word on one must not count for another."""
    header, line = "clip_id,decision,who,when,why", f"s1,release,Ann,{when},seen"
    if audit is not None:
        header, line = f"{header},audit", f"{line},{audit}"
    (tmp_path / "d.csv").write_text(f"{header}\n{line}\n")
    about = Decided(CLIPS, "this", FINISHED)
    if problem is None:
        assert read_decisions(tmp_path / "d.csv", about)["s1"].when == when
        return
    with pytest.raises(InputError, match=problem):
        read_decisions(tmp_path / "d.csv", about)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "No such file"),
        (b"", "expected the header clip_id,decision,who,when,why, found ''"),
        (b"clip_id,decision\n", "found 'clip_id,decision'"),
        (b"clip_id,decision,who,when,why\ns1,release,\xff,x,y\n", "utf-8"),
        (b'clip_id,decision,who,when,why\n"s1\n', "unexpected end of data"),
    ],
)
def test_an_unreadable_table_is_refused(tmp_path: Path, content: bytes | None, message: str) -> None:
    if content is not None:
        (tmp_path / "d.csv").write_bytes(content)
    with pytest.raises(InputError, match=message):
        read_decisions(tmp_path / "d.csv", Decided(CLIPS))


def test_an_apostrophe_before_a_formula_is_taken_off(tmp_path: Path) -> None:
    table = tmp_path / "decisions.csv"
    table.write_text(
        "clip_id,decision,who,when,why\n'=s,release,'@me,2026-03-01T14:30:00Z,''t is\n'n,withhold,,2026-03-01,\n"
    )
    found = read_decisions(table, Decided({"=s", "'n"}))
    assert (found["=s"].who, found["=s"].why, found["'n"].decision) == ("@me", "'t is", "withhold")
