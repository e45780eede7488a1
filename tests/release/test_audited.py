import pytest

from mnemoscope.release.audited import listed, names_in


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("like patient7, or not", ["patient7"]),
        ("like patient77", []),
        ("drawn_patient7_1", ["patient7"]),
        ("a.b-c d", ["a.b-c d"]),
        ("a.b-c dd", []),
        ("123 or 4567", []),
        ("of 1234567 clips", ["1234567"]),
        ("x----y", []),
        ("x ---- y", ["----"]),
        ("", []),
    ],
)
def test_ids_are_found_as_words_of_their_own(text: str, found: list[str]) -> None:
    names = {"patient7", "a.b-c d", "123", "4567", "1234567", "----", "never"}
    assert names_in(text, names) == found


def test_many_names_are_cut_and_hostile_ones_escaped() -> None:
    assert listed(["a", "\x1b[2J\n"]) == r"'a', '\x1b[2J\n'"
    assert listed([str(n) for n in range(23)]).endswith("'19' and 3 more")
