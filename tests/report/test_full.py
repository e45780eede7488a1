"""A full audit, and one of which nothing but the frame is there: every number shown, every gap with its reason."""

import re
from collections.abc import Iterator
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mnemoscope.audit.power import minimum_detectable_share
from mnemoscope.core.types import AuditResult, Curve, Estimate, RarefactionCurve, rungs
from mnemoscope.report import words
from mnemoscope.report.material import Pair
from tests.report import full
from tests.report.test_page import Reader, pair, written

SAYERS = (words.count, words.decimal, words.tenths, words.percent, words.points, words.p_value, words.leaf)


def pairs() -> list[Pair]:
    top = full.samples().sort_values("p_max", ascending=False).head(10)
    return [
        replace(pair(row.p_max, name=row.clip_id), ssim=row.ssim) for row in top.itertuples() if row.ssim == row.ssim
    ]


def shown(out: Path, result: AuditResult) -> str:
    tables = {"samples": full.samples(), "holdout": full.holdout(), "patients": full.patients()}
    return written(out, result, pairs=pairs(), **tables)


@pytest.fixture(scope="module")
def html(tmp_path_factory: pytest.TempPathFactory) -> str:
    return shown(tmp_path_factory.mktemp("full"), full.result())


@pytest.fixture(scope="module")
def text(html: str) -> str:
    return Reader(html).text


def estimates(value: Any, path: str = "") -> Iterator[tuple[str, Estimate | float]]:
    """Every number of a result, by its place; curves and points are drawn, not written."""
    if isinstance(value, Estimate | int | float) and not isinstance(value, bool):
        yield path, value
    elif is_dataclass(value) and not isinstance(value, Curve | RarefactionCurve):
        for field in fields(value):
            yield from estimates(getattr(value, field.name), f"{path}.{field.name}")
    elif isinstance(value, dict):
        for key, inner in value.items():
            yield from estimates(inner, f"{path}.{key}")
    elif isinstance(value, list | tuple) and not path.endswith(("lag_share", "labels.points")):
        for number, inner in enumerate(value):
            yield from estimates(inner, f"{path}.{number}")


def said(found: Estimate | float) -> Iterator[str]:
    for say in SAYERS:
        if isinstance(found, Estimate):
            yield f"{say(found.value)} {words.span(found, say)}".replace(words.NBSP, " ")
            yield f"{say(found.value)}, {words.interval(found, say)}".replace(words.NBSP, " ")
        else:
            yield say(found).replace(words.NBSP, " ")


def test_every_number_of_the_result_is_in_the_page(text: str) -> None:
    detail = text[text.index("How close the clips are") :]
    numbers = dict(estimates(full.result()))
    assert len(numbers) > 180
    missing = [
        path
        for path, found in numbers.items()
        if path != ".sets.synthetic.patients"  # synthetic clips are nobody's
        and not path.startswith(".sets")
        and not any(re.search(rf"(?<![\d.,−]){re.escape(form)}(?![\d]|[.,]\d)", detail) for form in said(found))
    ]
    assert missing == []


def rows() -> Iterator[str]:
    """What stands side by side in the page."""
    yield "732 of 10,000 +2.3 points over strangers, 95 % interval +1.1 to +3.4 points"
    yield "Rate 7.3 % 6.8 to 7.8 %"
    yield "Smallest leak that would be noticed 3.0 % of the set"
    yield "2,411 of 7,465 0.82 times what strangers reach, 95 % interval 0.776 to 0.858"
    yield "Videos that leap between frames 11.5 % of 200 95 % interval 7.4 to 15.6 %"
    yield "copies noticed: at worst 4.5 %, 0.00 to 9.0 % (flip); 10 of 19 rungs reach the 80 % asked for"
    yield "Threshold tau (logit) 6.004 5.941 to 6.087"
    yield "Nearer to train than to holdout 87.6 % 86.9 to 88.3 % Without copying 85.4 % would be"
    yield "p-value 0.032"
    yield "Copying test C_T −1.283 Below 0"
    yield "(17 regions); p-value of copying 0.022"
    yield "Authentic (AuthPct) 56.5 % 55.5 to 57.5 %"
    yield "Clips looked at 200"
    yield "Threshold (SSIM) 0.537"
    yield "Flags confirmed 23"
    yield "Flags doubted 174"
    yield "Clips that count 9,472"
    yield "Ratio to the holdout 0.817 0.776 to 0.858"
    yield "Reached by synthetic clips 771.3 740.1 to 802.5"
    yield "Reached by the holdout 944.6 916.2 to 973.0"
    yield "(Chao1) 2,876 2,791 to 2,977"
    yield "Coverage (Good–Turing) 94.3 % 93.8 to 94.8 %"
    yield "Image retrieval score (IRS) 0.329 0.321 to 0.337"
    yield "IRS over the holdout's 0.559 0.526 to 0.592"
    yield "Patients known 42.2 % 38.6 to 45.8 %"
    yield "Precision 0.813 Balls around the 5 nearest, 7,465 real and 10,000 synthetic clips."
    yield "Recall 0.635"
    yield "Density 0.942"
    yield "Coverage 0.727"
    # 1 − ∏_{i=1..5} (7465 − i)/(10000 + 7465 − i), by hand.
    yield "two like sets of these sizes reach about 0.99"
    yield "Hubness 8.414"
    yield "Hubness, corrected 3.227"
    yield "Learned, corrected 2,963 Training clips learned after that; of all of them: 39.7 %"
    yield "ef ≥ 60 699 14.4 % 12.3 to 16.5 % 2.2 % 1.4 to 3.1 %"
    yield "Separation (AUC) 0.988 0.979 to 0.993"
    yield "Frozen 3.5 % 1.0 to 6.0 %"
    yield "Jumping 11.5 % 7.4 to 15.6 %"
    yield "real, of one clip 198 0.892 0.880 to 0.904"
    yield "synthetic, of one clip 200 0.854 0.837 to 0.871"
    yield "real, of two patients 197 0.122 0.099 to 0.145"
    yield "R² 0.643 0.582 to 0.704"
    yield "Mean error (MAE) 5.274 4.864 to 5.684"
    yield "p-value 0.002 How often shuffled"
    yield "Among the first five (top-5) 92.7 % 90.4 to 94.6 %"
    yield "By another clip (top-1) not measured every holdout patient has one clip."
    yield "sum of differences (L1) 0.978 0.973 to 0.983"
    yield "cosine not measured all features are alike"
    yield "text swapped text of another clip burned in 0.824 0.811 to 0.837 0.887 0.697 to 1.077"
    yield "rotation turned by 10° 200 32.4 % 27.9 to 36.9 % 32.4 % 28.0 to 36.8 % 28.5 % 23.5 to 33.5 %"
    yield "flip mirrored 200 4.5 % 0.00 to 9.0 % 4.5 % 0.10 to 8.9 %"
    yield "none not even a set of only these"
    yield "of all changes in equal parts it is 3.0 %"
    yield "vae round trip : not measured : pixels have no encoder"
    yield "s09997 real"
    yield "beside this one. SSIM is how alike"
    yield "the export then refuses, whatever is decided, and the verdict of this set is fail"
    yield "SSIM 0.952: ▲ more alike than strangers"
    yield "SSIM 0.413: no more alike than strangers"
    yield "patient-00 ▲ leaked 1 71 31 below 0.001 9.300"


@pytest.mark.parametrize("row", list(rows()))
def test_each_number_stands_beside_its_name(text: str, row: str) -> None:
    assert row in text


def test_all_seven_figures_are_drawn_and_said(html: str) -> None:
    figures = [attributes["aria-label"] for tag, attributes in Reader(html).tags if attributes.get("role") == "img"]
    starts = ("Two histograms.", "Share of planted copies above tau: exact 100.0", "2,307 of 7,465 training clips")
    starts += ("Different training clips reached: 10,000 synthetic clips reach 2,409", "Median similarity of the last")
    starts += ("EF measured by EF asked for: mean error 5.27", "Pairs of one patient that are found: 97.2")
    assert len(figures) == len(starts)
    assert all(str(found).startswith(start) for found, start in zip(figures, starts, strict=True))


def test_every_link_of_the_contents_leads_somewhere(html: str) -> None:
    tags = Reader(html).tags
    ids = {attributes.get("id") for _, attributes in tags}
    links = [str(attributes["href"]) for tag, attributes in tags if tag == "a"]
    assert len(links) == 12
    assert {link.removeprefix("#") for link in links} <= ids


def bare() -> AuditResult:
    """All that may be null is null, each with a reason of its own."""
    result = full.result()
    assert result.privacy is not None
    assert result.recall is not None
    assert result.reid is not None
    empty = {
        "privacy": ("tau_interval", "nearer_to_train", "copying", "authentic_share", "evidence"),
        "recall": ("matched", "chao1", "coverage_goodturing", "irs", "irs_adjusted", "known_share", "manifold"),
        "reid": ("top5", "top1_other_clip"),
    }
    empty["recall"] += ("hubness",)
    stages = ("consistency", "labels", "probes")
    names = [f"{stage}.{name}" for stage, inner in empty.items() for name in inner]
    names += [*stages, "power.flip", "power.blur", "recall.curves", "recall.subgroups", "reid.heads"]
    changed: dict[str, Any] = {
        stage: replace(getattr(result, stage), **dict.fromkeys(inner)) for stage, inner in empty.items()
    }
    changed["recall"] = replace(changed["recall"], curves={}, subgroups=[])
    changed["reid"] = replace(changed["reid"], heads={})
    absent = {name: f"the reason of {name}" for name in names}
    return replace(result, **changed, **dict.fromkeys(stages), power=None, absent=absent)


def test_whatever_is_null_says_so_with_its_reason(tmp_path: Path) -> None:
    result = bare()
    text = Reader(shown(tmp_path, result)).text
    detail = text[text.index("How close the clips are") :]
    for reason in result.absent.values():
        assert re.search(rf"not measured[ :]+(the reason of \S+; )*{re.escape(reason)}\b", detail), reason
    assert "ratio to strangers not measured: the reason of recall.matched" in text


def test_no_cell_is_empty(tmp_path: Path, html: str) -> None:
    for page in (html, shown(tmp_path, bare())):
        found = re.findall(r"<t[dh][^>]*>\s*</t[dh]>", page)
        assert found == ["<td></td>"]  # the corner of the table of pairs by truth and by answer


def test_the_smallest_leak_has_the_interval_of_what_the_copies_leave_open(html: str) -> None:
    # Each rate, and with it the mean, may be lower or higher; at the mean's ends these shares are noticed.
    sizes = {"n_synthetic": full.SYNTHETIC, "n_holdout": full.HOLDOUT, "percentile": 95.0}
    mean = [np.mean([getattr(full.rung(rate).tpr, end) for rate in full.RUNG_TPR.values()]) for end in ("high", "low")]
    low, high = (minimum_detectable_share(**sizes, tpr=float(tpr)) for tpr in mean)
    assert (low or 1.0) < 0.0305 < (high or 0.0)
    assert f"3.0 % of the set 95 % interval {100 * low:.1f} to {100 * high:.1f} %; copies noticed" in Reader(html).text


def test_an_audit_that_notices_nothing_says_none_and_not_zero(tmp_path: Path) -> None:
    result = full.result()
    power = {name: replace(rung, minimum_detectable_share=None) for name, rung in rungs(result.power).items()}
    text = Reader(shown(tmp_path, replace(result, power=power | {"minimum_detectable_share": None}))).text
    assert "Smallest leak that would be noticed none copies noticed: at worst 4.5 %" in text
    assert "Not even a set of nothing but changed copies would be noticed." in text
    assert "of all changes in equal parts it is none: even a set of nothing else" in text


def test_an_audit_read_back_gives_the_same_page(tmp_path: Path, html: str) -> None:
    result = full.result()
    assert shown(tmp_path, AuditResult.from_json(result.to_json())) == html
