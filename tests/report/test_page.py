import base64
import hashlib
import json
import re
from collections.abc import Iterator
from dataclasses import replace
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from mnemoscope.core.errors import InputError
from mnemoscope.core.types import AuditResult, Estimate, Privacy, Recall, SetSize, TopHit, Verdict, Verification
from mnemoscope.report import page
from mnemoscope.report.material import Material, Pair, Portrait
from mnemoscope.report.page import write_report
from mnemoscope.report.pictures import film_uri
from tests.report import full

HOSTILE = "<img src=x onerror=alert(1)>"
VOID = {"meta", "img", "br", "input"}


class Reader(HTMLParser):
    """The page as a reader has it: tags, attributes, and the text that is shown; refuses tags that do not close."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.pieces: list[str] = []
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if not {"style", "script"} & {*self.open}:
            self.pieces.append(data)

    @property
    def text(self) -> str:
        return re.sub(r"\s+", " ", " ".join(self.pieces))


def audit_result() -> AuditResult:
    return AuditResult(
        sets={"train": SetSize(7465, 7123), "holdout": SetSize(1277, 1201), "synthetic": SetSize(4, 4)},
        reid=Verification(
            space="latent",
            preset="default",
            auc=Estimate(0.9912, 0.9823, 0.9978),
            top1=Estimate(0.831, 0.802, 0.857),
            tpr_at_fpr={"0.05": Estimate(0.972, 0.951, 0.983), "0.001": Estimate(0.613, 0.554, 0.667)},
            accuracy=0.9703,
            f1=0.9692,
            precision=0.9811,
            recall=0.9584,
            confusion=((1241, 36), (53, 1224)),
        ),
        privacy=Privacy(
            percentile=97.5,
            tau=6.0042,
            flagged=2,
            flag_rate=Estimate(0.173, 0.141, 0.211),
            excess_rate=Estimate(0.148, 0.116, 0.186),
            p_value=0.0123,
            fdr_rate=0.07,
            fdr_flagged=1,
        ),
        recall=Recall(
            gate=4.1234,
            learned=3,
            learned_share=0.188,
            learned_and_flagged=17,
            top_hits=[TopHit("clip-a", "patient-a", 879), TopHit("clip-b", "patient-b", 23)],
        ),
        verdict=Verdict("fail", ["Two clips are copies of patient-a."], ["Mirrored copies."]),
    )


def scored(p_max: list[float]) -> pd.DataFrame:
    count = len(p_max)
    return pd.DataFrame(
        {
            "clip_id": [f"s{i}" for i in range(count)],
            "patient_id": None,
            "p_max": np.array(p_max, dtype=np.float32),
            "nearest_clip_id": [f"t{i % 3}" for i in range(count)],
            "nearest_patient_id": [f"p{i % 3}" for i in range(count)],
            "query_frame": 0,
            "gallery_frame": 0,
            "conformal_p": np.nan,
            "flagged": [value > 6.0042 for value in p_max],
            "gated": True,
            "learned_for": None,
            "ssim": np.nan,
        }
    )


def ledger() -> pd.DataFrame:
    return pd.DataFrame(
        {
            "patient_id": ["p0", "p1", "p2"],
            "clips": [11, 12, 13],
            "hits": [531, 0, 1],
            "best_similarity": [8.7654, 3.2109, 5.4321],
            "flagged_hits": [472, 0, 0],
            "learned": [True, False, True],
            "leaked": [True, False, False],
            "missed": [False, True, False],
            "exposure_p": [0.0137, 1.0, 0.6249],
        }
    )


def pair(similarity: float = 8.7654, *, name: str = "s0") -> Pair:
    gray = np.full((3, 8, 8), 7, dtype=np.uint8)
    return Pair(
        clip_id=name,
        train_clip_id="t0",
        train_patient_id="p0",
        similarity=similarity,
        learned_for=True,
        picture=film_uri(gray, gray),
    )


def run_record() -> dict[str, Any]:
    return {
        "command": "audit",
        "seed": 4711,
        "started": "2026-11-23T06:40:00+00:00",
        "finished": None,
        "git_commit": "0123abcd",
        "identity": {"real": "EchoNet"},
        "config": {"percentile": 97.5, "reid": {"loop": {"learning_rate": 0.0005}}},
        "versions": {"python": "3.11.7", "mnemoscope": "9.8.7", "torch": None},
        "machine": {"processor": "a processor", "cores": 2},
        "stages": {"latents": {"seconds": 31.2, "peak_memory_mb": 411, "reused": False}},
    }


def written(out: Path, result: AuditResult | None = None, **changed: Any) -> str:
    parts: dict[str, Any] = {
        "result": result or audit_result(),
        "samples": scored([4.5, 5.5, 6.5, 8.7654]),
        "holdout": scored([4.0, 4.5, 5.0, 5.5, 6.0]),
        "patients": ledger(),
        "pairs": [pair()],
        "record": run_record(),
    }
    return write_report(Material(**(parts | changed)), out=out).read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def html(tmp_path_factory: pytest.TempPathFactory) -> str:
    return written(tmp_path_factory.mktemp("report"))


@pytest.mark.parametrize(
    "shown",
    [
        "7,465 real clips of 7,123 patients",
        "1,277 real clips of 1,201 patients",
        "4 synthetic clips",
        "Rate 17.3 % 14.1 to 21.1 %",
        "+14.8 points over strangers, 95 % interval +11.6 to +18.6 points",
        "p-value of the excess 0.012",
        "Closer than 97.5 % of strangers are",
        "about 7.0 % of those named",
        "point at 1 of 3 training patients",
        "18.8 % of the training clips",
        "0.991 AUC 95 % interval 0.982 to 0.998",
        "Threshold tau (logit) 6.004 Percentile 97.5 of the holdout",
        "Interval of tau not measured the audit gives no reason",
        "Clips above it 2 Of 4 synthetic clips",
        "Learned and flagged 17",
        "Gate (logit) 4.123",
        "clip-a patient-a 879",
        "clip-b patient-b 23",
        "Right patient first (top-1) 83.1 % 80.2 to 85.7 %",
        "Found at 5 % false alarms 97.2 % 95.1 to 98.3 %",
        "Found at 0.1 % false alarms 61.3 % 55.4 to 66.7 %",
        "Accuracy 0.970 Right answers",
        "F1 0.969 Balance",
        "Precision 0.981 Of pairs called",
        "Recall 0.958 Of pairs that are",
        "different patients 1,241 36 same patient 53 1,224",
        "Space: latent; preset: default",
        "p0 ▲ leaked 11 531 472 0.014 8.765",
        "p2 learned 13 1 0 0.625 5.432",
        "p1 missed 12 0 0 1.000 3.211",
        "Similarity 8.765: ▲ above the threshold SSIM not measured · counts as learned",
        "Seed 4711",
        "Commit 0123abcd",
        "Started 2026-11-23 06:40 UTC Finished not recorded",
        "reid.loop.learning_rate 0.0005",
        "python 3.11.7 mnemoscope 9.8.7 torch none",
        "latents 31.2 s 411 MB made",
        "tau = 6.004",
        "learned: 3 of 7,465",
    ],
)
def test_every_number_shown_is_the_one_put_in(html: str, shown: str) -> None:
    assert shown in re.sub(r"\s+", " ", Reader(html).text)


def test_the_answer_comes_first_then_why_then_what_nobody_tested(html: str) -> None:
    text = Reader(html).text
    order = [
        "Fail",
        "should not leave",
        "Two clips are copies of patient-a.",
        "Mirrored copies.",
        "how a copy must be changed before the audit no longer notices it",
        "Clips too close to a real patient",
        "Smallest leak that would be noticed",
        "Training clips reached",
        "Videos that leap between frames",
        "Can the audit recognise a patient?",
        "Protected data.",
        "How close the clips are",
        "Which leak would be noticed",
        "The most exposed patients",
        "The nearest pairs",
        "Which training clips were learned",
        "The map",
        "Whether each video holds together",
        "Whether the videos show what their labels say",
        "What the set is worth to train on",
        "How well the instrument sees",
        "The record of this run",
    ]
    places = [text.index(part, 40) for part in order]
    assert places == sorted(places)


@pytest.mark.parametrize(
    ("status", "headline"),
    [
        ("pass", "may leave, as far as it was tested"),
        ("fail", "should not leave"),
        ("inconclusive", "cannot be said yet"),
    ],
)
def test_each_verdict_is_said_in_words(tmp_path: Path, status: Any, headline: str) -> None:
    text = Reader(written(tmp_path, replace(audit_result(), verdict=Verdict(status, [], [])))).text
    assert headline in text
    assert "No reason was recorded." in text


def test_the_file_asks_nothing_from_outside_and_runs_its_own_script_only(html: str) -> None:
    tags = Reader(html).tags
    assert not {tag for tag, _ in tags} & {"link", "iframe", "object", "embed"}
    for _, attributes in tags:
        for name in ("src", "href", "xlink:href"):
            assert (attributes.get(name) or "#").startswith(("data:image/webp;base64,", "#"))
        assert not [name for name in attributes if name.startswith("on")]
    assert "@import" not in html
    assert not re.search(r"url\((?!#)", html)
    scripts = re.findall(r"<script(?: [^>]*)?>(.*?)</script>", html, flags=re.DOTALL)
    assert [json.loads(scripts[0])["map"], len(scripts)] == [None, 2]
    policy = next(attributes["content"] for _, attributes in tags if attributes.get("http-equiv"))
    allowed = base64.b64encode(hashlib.sha256(scripts[1].encode()).digest()).decode()
    assert policy == (f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-{allowed}'")


def test_headings_step_down_without_a_gap_and_pictures_have_words(html: str) -> None:
    tags = Reader(html).tags
    levels = [int(tag[1]) for tag, _ in tags if re.fullmatch(r"h[1-6]", tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))
    images = [attributes for tag, attributes in tags if tag == "img" or attributes.get("role") == "img"]
    assert len(images) == 4  # three charts and a pair
    assert all(image.get("alt") or image.get("aria-label") for image in images)
    ids = [attributes["id"] for _, attributes in tags if "id" in attributes]
    assert len(ids) == len(set(ids))


def hostile_pages(out: Path) -> Iterator[str]:
    """The page with the hostile name in every place that a file can name."""
    top = [TopHit(HOSTILE, HOSTILE, 1)]
    recall, verdict = audit_result().recall, Verdict("fail", [HOSTILE], [HOSTILE])
    assert recall is not None
    named = scored([5.0, 7.0]).assign(clip_id=HOSTILE, nearest_clip_id=HOSTILE, nearest_patient_id=HOSTILE)
    yield written(out, samples=named, holdout=named, patients=ledger().assign(patient_id=HOSTILE))
    yield written(out, replace(audit_result(), recall=replace(recall, top_hits=top), verdict=verdict))
    names = dict.fromkeys(("clip_id", "train_clip_id", "train_patient_id", "stratum"), HOSTILE)
    yield written(out, pairs=[replace(pair(), **names)])
    portrait = Portrait(clip_id=HOSTILE, patient_id=HOSTILE, group=HOSTILE, picture="")
    yield written(out, missed=[portrait], absent={"map": HOSTILE, "pictures": HOSTILE})
    yield written(out, downstream=full.worth(HOSTILE))
    yield written(out, replace(audit_result(), gallery={HOSTILE: HOSTILE}))
    yield written(out, replace(audit_result(), power={HOSTILE: full.rung(0.9)}))
    yield written(out, replace(audit_result(), probes={HOSTILE: full.probes()["unchanged"]}))
    yield written(out, replace(audit_result(), labels=replace(full.labels(), reader=HOSTILE)))
    for key in ("power.vae_round_trip", f"power.{HOSTILE}", "labels", "recall.matched"):
        yield written(out, replace(audit_result(), absent={key: HOSTILE}))
    group = replace(full.recall().subgroups[0], attribute=HOSTILE, stratum=HOSTILE)
    yield written(out, replace(audit_result(), recall=replace(recall, subgroups=[group])))
    stages = {HOSTILE: {"seconds": 1.0}}
    yield written(out, record=run_record() | {"config": {HOSTILE: [HOSTILE]}, "stages": stages, "command": HOSTILE})


def test_a_hostile_name_stays_text_wherever_it_stands(tmp_path: Path) -> None:
    for html in hostile_pages(tmp_path):
        reader = Reader(html)
        assert HOSTILE.lower() in reader.text.lower()
        assert not [attributes for _, attributes in reader.tags if "onerror" in attributes]
        assert "<img src=x" not in html


def test_a_name_that_breaks_out_of_an_attribute_does_not(tmp_path: Path) -> None:
    reader = Reader(written(tmp_path, pairs=[pair(name='a" onload="alert(1)')]))
    assert 'a" onload="alert(1)' in [attributes.get("data-clip") for _, attributes in reader.tags]
    assert not [attributes for _, attributes in reader.tags if "onload" in attributes]


def test_a_name_that_is_no_text_does_not_stop_the_report(tmp_path: Path) -> None:
    text = Reader(written(tmp_path, pairs=[pair(name="a\udcff\u202egpj")])).text
    assert "a\\udcff\\u202egpj" in text


def test_stages_that_did_not_run_are_said_with_their_reason_and_never_zero(tmp_path: Path) -> None:
    stages = ("reid", "privacy", "recall", "power", "consistency", "labels", "probes")
    absent = {stage: f"the reason of {stage}" for stage in stages}
    text = Reader(written(tmp_path, replace(audit_result(), reid=None, privacy=None, recall=None, absent=absent))).text
    titles = ("Verification", "Privacy", "Recall", "Planted copies", "Consistency", "Labels", "Shortcut probes")
    for title, stage in zip(titles, stages, strict=True):
        assert f"{title}: not measured : the reason of {stage}." in text
        assert text.index(f"the reason of {stage}") < text.index("Clips too close to a real patient")
    assert "Clips too close to a real patient not measured the reason of privacy." in text
    assert "Smallest leak that would be noticed not measured the reason of power." in text
    assert not re.search(r"\b0 of 4\b|0\.00 %|of 7,465", text)


def test_a_rate_with_too_few_pairs_is_not_measured(tmp_path: Path) -> None:
    reid = audit_result().reid
    assert reid is not None
    text = Reader(written(tmp_path, replace(audit_result(), reid=replace(reid, tpr_at_fpr={"0.001": None})))).text
    assert "Found at 0.1 % false alarms not measured too few pairs" in text


def test_nobody_learned_and_nobody_pointed_at(tmp_path: Path) -> None:
    nobody = Recall(gate=None, learned=0, learned_share=0.0, learned_and_flagged=0, top_hits=[])
    samples = scored([3.0, 3.5]).assign(gated=False)
    patients = ledger().assign(hits=0, flagged_hits=0, learned=False, leaked=False, missed=True)
    html = written(tmp_path, replace(audit_result(), recall=nobody), samples=samples, patients=patients, pairs=[])
    text = Reader(html).text
    for said in ("No training clip was hit.", "No pairs were kept.", "Gate (logit) none", "learned: 0 of 7,465"):
        assert said in text
    assert "▲ leaked" not in text


@pytest.mark.parametrize("rows", [0, 1])
def test_a_set_of_one_clip_or_none_is_reported(tmp_path: Path, rows: int) -> None:
    html = written(
        tmp_path, samples=scored([5.0]).head(rows), holdout=scored([5.0]).head(rows), patients=ledger().head(0)
    )
    assert "The ledger of patients is empty." in Reader(html).text
    assert ("Similarity: not measured" in Reader(html).text) == (rows == 0)


def test_nan_is_never_printed(tmp_path: Path) -> None:
    nan = float("nan")
    result = audit_result()
    assert result.reid is not None
    assert result.privacy is not None
    reid = replace(result.reid, auc=Estimate(nan, nan, nan), precision=nan)
    privacy = replace(result.privacy, p_value=nan, flag_rate=Estimate(nan, nan, nan))
    result = replace(result, reid=reid, privacy=privacy, gallery={"share": nan})
    patients = ledger().assign(best_similarity=nan, exposure_p=nan)
    record = run_record() | {"config": {"x": nan}, "stages": {"a": {"seconds": nan, "peak_memory_mb": nan}}}
    for samples in (scored([nan, 5.0]), scored([nan])):
        html = written(tmp_path, result, samples=samples, patients=patients, pairs=[pair(nan)], record=record)
        assert not re.search(r"\b[+−-]?(nan|inf|none of 4)\b", Reader(html).text, flags=re.IGNORECASE)
    assert "not available" in Reader(html).text


def test_a_hundred_thousand_samples_make_a_small_file(tmp_path: Path) -> None:
    many = scored(np.random.default_rng(0).normal(5, 0.5, 100_000).tolist())
    many["nearest_clip_id"] = np.random.default_rng(1).integers(0, 7465, len(many)).astype(str)
    assert len(written(tmp_path, samples=many)) < 1_000_000


def test_the_report_is_the_same_each_time_and_row_order_does_not_matter(tmp_path: Path, html: str) -> None:
    again = written(
        tmp_path,
        samples=scored([4.5, 5.5, 6.5, 8.7654]).iloc[::-1],
        holdout=scored([4.0, 4.5, 5.0, 5.5, 6.0]).iloc[::-1],
    )
    assert again == html


def test_the_place_may_be_a_folder_or_a_file(tmp_path: Path) -> None:
    written(tmp_path / "run")
    written(tmp_path / "other.html")
    assert {p.relative_to(tmp_path).as_posix() for p in tmp_path.rglob("*.*")} == {"run/report.html", "other.html"}


def test_a_table_of_another_kind_is_refused_and_an_older_report_stays(tmp_path: Path) -> None:
    written(tmp_path)
    before = (tmp_path / "report.html").read_bytes()
    with pytest.raises(InputError, match=r"holdout: expected the columns .* missing: p_max"):
        written(tmp_path, holdout=scored([1.0]).drop(columns="p_max"))
    assert (tmp_path / "report.html").read_bytes() == before


def themes() -> dict[str, dict[str, str]]:
    """The style sheet's colours, by theme."""
    style = (Path(page.__file__).parent / "templates" / "style.css").read_text()
    light, dark = (dict(re.findall(r"--([\w-]+): (#\w{6})", part)) for part in style.split("@media screen")[:2])
    return {"light": light, "dark": dark}


def contrast(a: str, b: str) -> float:
    """WCAG 2 contrast ratio of two #rrggbb colours."""

    def luminance(colour: str) -> float:
        channels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
        return sum(w * c for w, c in zip((0.2126, 0.7152, 0.0722), linear, strict=True))

    dark, light = sorted((luminance(a), luminance(b)))
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_text_and_charts_reach_the_contrast_of_wcag_aa(theme: str) -> None:
    colours = themes()[theme]
    for text in ("ink", "quiet", "fail"):
        assert contrast(colours[text], colours["paper"]) >= 4.5
    for text in ("ink", "quiet"):
        assert contrast(colours[text], colours["panel"]) >= 4.5
    for status in ("pass", "fail", "inconclusive"):
        assert contrast(colours[status], colours[f"{status}-tint"]) >= 4.5
        assert contrast(colours["ink"], colours[f"{status}-tint"]) >= 4.5
    for line in ("holdout", "synthetic"):
        assert contrast(colours[line], colours["paper"]) >= 3.0


def test_black_on_white_has_the_contrast_that_the_standard_gives() -> None:
    assert contrast("#000000", "#ffffff") == pytest.approx(21.0)
    assert contrast("#777777", "#ffffff") == pytest.approx(4.48, abs=0.01)


def test_what_the_set_is_worth_is_said_arm_by_arm(tmp_path: Path) -> None:
    text = Reader(written(tmp_path, downstream=full.worth())).text
    assert "synthetic full 7,465 0.291 0.260 to 0.322 9.004 8.804 to 9.204 10.321 10.021 to 10.621 not measured" in text
    assert "0.532 0.488 to 0.576" in text


@pytest.mark.parametrize(
    ("hashes", "said"),
    [
        ({"sha256": None}, "It cannot be exported: only latents of its clips were audited; audit the clips themselves"),
        ({"sha256": "0f"}, ""),
        ({}, "It cannot be exported: an older version audited it"),
    ],
)
def test_the_banner_counts_what_was_not_tested_and_says_what_cannot_be_exported(
    tmp_path: Path, hashes: dict[str, Any], said: str
) -> None:
    passed = Verdict("pass", ["nothing is close"], [f"copies changed by {i}: only latents" for i in range(15)])
    page = Reader(written(tmp_path, replace(full.result(), verdict=passed), samples=full.samples().assign(**hashes)))
    counted = re.search(r"Pass · \d\d things were not tested, in (\d+) groups", page.text)
    assert counted
    groups = int(counted[1])
    assert f"and {groups - 4} more of {groups}; all in full" in page.text
    assert "Copies changed by 0, 1, 2, 3" in page.text.replace("copies", "Copies")
    assert ("It cannot be exported" in page.text, said in page.text) == (bool(said), True)
