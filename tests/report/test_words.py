import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markupsafe import Markup

from mnemoscope.audit.run.probes import HIDE, SWAP
from mnemoscope.core.types import Estimate
from mnemoscope.data.ladder import RUNGS
from mnemoscope.report import words
from tests.report import full

FINITE = st.floats(-1e6, 1e6, allow_nan=False)


def parsed(text: str) -> float:
    return float(text.replace(words.MINUS, "-").replace(",", "").split(words.NBSP)[0].removeprefix("+"))


@pytest.mark.parametrize(
    ("said", "text"),
    [
        (words.count(0), "0"),
        (words.count(100_000), "100,000"),
        (words.decimal(0.9984), "0.998"),
        (words.decimal(-0.00001), "0.000"),
        (words.decimal(-1234.5, 1), "−1,234.5"),
        (words.percent(0.188), "18.8\u00a0%"),
        (words.percent(0.0), "0.00\u00a0%"),
        (words.percent(0.0030), "0.30\u00a0%"),
        (words.percent(0.00001), "under 0.01\u00a0%"),
        (words.percent(1.0), "100.0\u00a0%"),
        (words.points(0.029), "+2.9\u00a0points"),
        (words.points(-0.047), "−4.7\u00a0points"),
        (words.points(0.0), "0.00\u00a0points"),
        (words.p_value(0.0004), "below 0.001"),
        (words.p_value(0.001), "0.001"),
        (words.p_value(1.0), "1.000"),
        (words.seconds(9.34), "9.3 s"),
        (words.seconds(812.3), "13.5 min"),
        (words.seconds(7200), "2.0 h"),
        (words.moment("2026-11-23T06:40:59+00:00"), "2026-11-23 06:40 UTC"),
        (words.moment(None), "not recorded"),
        (words.tenths(771.34), "771.3"),
        (words.plain("sector_mask"), "sector mask"),
        (words.level("0.001"), "0.1\u00a0%"),
        (words.middle(Estimate(0.5, 0.4, 0.6), words.decimal), "0.500"),
        (words.middle(0.25, words.percent), "25.0\u00a0%"),
        (words.span(Estimate(0.049, 0.039, 0.059), words.percent), "3.9 to 5.9\u00a0%"),
        (words.span(Estimate(0.991, 0.982, 0.998), words.decimal), "0.982 to 0.998"),
        (words.interval(Estimate(0, -0.012, 0.01), words.points), "95\u00a0% interval −1.2 to +1.0\u00a0points"),
    ],
)
def test_a_value_is_said_as_a_reader_expects(said: str, text: str) -> None:
    assert said == text


@pytest.mark.parametrize("say", [words.count, words.decimal, words.percent, words.points, words.p_value, words.seconds])
def test_absent_is_said_and_nan_is_never_shown(say: object) -> None:
    assert callable(say)
    assert say(None) == "not measured"
    assert say(math.nan) == "not available"


def test_an_absent_estimate_is_said() -> None:
    assert words.span(None, words.percent) == words.interval(None, words.percent) == "not measured"


@given(st.floats(0.0, 1.0))
def test_a_share_reads_back_within_its_rounding(share: float) -> None:
    text = words.percent(share)
    if text.startswith("under"):
        assert 0.0 < 100 * share < 0.005
    else:
        assert abs(parsed(text) - 100 * share) <= 0.05 + 1e-9
        assert (parsed(text) == 0.0) == (share == 0.0)


@given(FINITE)
def test_a_decimal_reads_back_within_its_rounding(value: float) -> None:
    assert abs(parsed(words.decimal(value)) - value) <= 0.0005 + 1e-9 * abs(value)


@given(st.text())
def test_printable_text_has_no_character_that_hides_or_turns(text: str) -> None:
    found = words.printable(text)
    assert all(c.isprintable() or c in "\n\u00a0" for c in found)
    if text.isprintable():
        assert found == text


def test_direction_changes_and_undecodable_names_are_spelt_out() -> None:
    assert words.printable("a\u202egpj.exe\udcff\x00") == "a\\u202egpj.exe\\udcff\\u0000"


def test_the_last_net_catches_what_a_template_missed() -> None:
    assert words.shown(math.nan) == words.shown(None) == words.shown(math.inf) == "not available"
    assert words.shown("a\x07") == "a\\u0007"
    assert words.shown(Markup("<b>")) == Markup("<b>")
    assert words.shown(3) == 3


def test_a_record_is_flattened_in_order() -> None:
    record = {"b": {"c": 1, "d": {"e": 0.0005}}, "a": [1, 2.5], "f": {}, "g": None, "h": math.nan, "i": True}
    assert list(words.flat(record)) == [
        ("b.c", "1"),
        ("b.d.e", "0.0005"),
        ("a", "1, 2.5"),
        ("f", "none"),
        ("g", "none"),
        ("h", "not available"),
        ("i", "True"),
    ]


def test_what_was_not_tested_is_said_once() -> None:
    result = full.result()
    assert words.untested(result) == result.verdict.not_tested
    forgetful = replace(result, labels=None, verdict=replace(result.verdict, not_tested=["mirrored copies"]))
    found = words.untested(replace(forgetful, reid=None, absent={"reid": "too few clips", "labels": "no reader"}))
    assert found[:2] == ["whether the instrument recognises a patient at all (too few clips)", "mirrored copies"]
    assert [item for item in found if "label" in item] == [
        "whether the videos show the ejection fraction that their label says: no reader"
    ]


def test_a_reason_is_that_of_the_number_or_of_all_below_it() -> None:
    absent = {"power.blur": "only latents", "power.gain": "only latents", "power.flip": "too few", "recall.irs": "none"}
    assert words.why(absent, "recall.irs") == "none"
    assert words.why(absent, "power") == "only latents; too few"
    assert words.why(absent, "recall.irs_adjusted") == "the audit gives no reason"
    assert words.why(absent, "recall.irs_adjusted", "as before") == "as before"


def test_every_change_and_every_probe_is_explained() -> None:
    assert set(words.RUNGS) == set(RUNGS)
    assert set(words.PROBES) == {*HIDE, *SWAP}


def test_an_estimate_in_a_record_shows_its_interval() -> None:
    said = "0.8 (95 % interval 0.7 to 0.9)"
    assert words.leaf(Estimate(0.8, 0.7, 0.9)) == said
    read_back = {"shift": {"tpr": {"value": 0.8, "low": 0.7, "high": 0.9}}}
    assert list(words.flat(read_back)) == [("shift.tpr", said)]


def test_every_status_has_an_answer_with_its_own_sign_and_word() -> None:
    assert set(words.ANSWERS) == {"pass", "fail", "inconclusive"}
    assert len({answer.sign for answer in words.ANSWERS.values()}) == 3
    assert len({answer.word for answer in words.ANSWERS.values()}) == 3


def test_what_was_not_tested_is_one_line_for_one_reason() -> None:
    alone = ["the anatomy: no holdout (--real)", "patients who were not given"]
    changes = [f"copies changed by {name}: only latents; give videos" for name in ("gain", "blur")]
    assert words.by_reason([*alone, *changes]) == ["copies changed by gain, blur: only latents; give videos", *alone]


@pytest.mark.parametrize(
    ("reason", "said"),
    [
        ("9 clips are close; the rest is far", ("9 clips are close.", "The rest is far.")),
        ("nothing is close (p = 0.7)", ("Nothing is close.", "p = 0.7.")),
        ("Nothing is close.", ("Nothing is close.", "")),
    ],
)
def test_a_reason_is_sentences(reason: str, said: tuple[str, str]) -> None:
    assert words.sentence(reason) == said
