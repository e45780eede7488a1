import pytest

from mnemoscope.release.tags import ids_by_word, ids_in, is_own


@pytest.mark.parametrize(
    ("name", "value", "own"),
    [
        ("encoder", "Lavf62.12.102", True),
        ("ENCODER", "Lavc62.28.101 libx264", True),
        ("handler_name", "VideoHandler", True),
        ("handler_name", "/srv/ward3/exam.dcm", False),
        ("encoder", "Doe 1950", False),
        ("language", "und", True),
        ("language", "Doe", False),
        ("BPS-eng", "1200", True),
        ("BPS-A4C000054", "1200", False),
        ("alpha_mode", "1", True),
        ("DURATION", "00:00:00.300000000", True),
        ("creation_time", "2019-03-04T08:00:00Z", False),
        ("title", "", False),
        ("chapter title", "Lavf62", False),
    ],
)
def test_only_what_a_writer_says_of_itself_is_its_own(name: str, value: str, own: bool) -> None:
    assert is_own(name, value) == own


def test_ids_are_found_as_words_of_their_own_in_capitals_or_not() -> None:
    ids = ids_by_word(["A4C000054", "ward-12345678-a", "short1", "\udce9clip000001"])
    assert ids_in(b"\0\xff a4c000054\0 WARD-12345678-A", ids) == ["a4c000054", "ward-12345678-a"]
    assert ids_in(b"xA4C0000541 short1 12345678", ids) == []
