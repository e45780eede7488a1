"""Page: an audit as one HTML file that opens from disk, says first whether the set may leave, and asks no network."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import UInt8
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from mnemoscope.core.files import write_text
from mnemoscope.core.types import AuditResult, Privacy
from mnemoscope.report import figures, tables, words
from mnemoscope.report.pictures import png_uri, svg

REPORT_FILE = "report.html"
_MOST_PAIRS = 10
_MOST_PATIENTS = 20


@dataclass(frozen=True)
class PairPicture:
    """A synthetic frame beside the train frame it is closest to; gray (H, W) or RGB (H, W, 3), uint8."""

    synthetic: UInt8[np.ndarray, "H W *color"]
    train: UInt8[np.ndarray, "H W *color"]
    synthetic_clip_id: str
    train_clip_id: str
    train_patient_id: str
    similarity: float
    flagged: bool


@dataclass(frozen=True)
class Chart:
    """A figure in the page, and the same said in words."""

    image: Markup
    alt: str


def write_report(
    *,
    result: AuditResult,
    samples: pd.DataFrame,
    holdout: pd.DataFrame,
    patients: pd.DataFrame,
    pairs: Sequence[PairPicture],
    run_record: Mapping[str, Any],
    out: Path,
) -> Path:
    """Writes ``report.html``: verdict, key figures, evidence, and the record of the run.

    Args:
        result: the audit's numbers.
        samples: one row per synthetic clip, as in ``samples.parquet``.
        holdout: the same columns, one row per holdout clip.
        patients: the ledger, as in ``patients.parquet``.
        pairs: pictures of nearest pairs; the ten most similar are shown.
        run_record: the content of ``run.json``.
        out: a folder, which then holds ``report.html``, or the ``.html`` file to write.

    Returns:
        The file's path.

    Raises:
        InputError: if a table lacks a column.
        DegenerateValues: if a picture is not a uint8 frame.
        OutOfSpace: if the disk is full; an older report stays as it was.
    """
    tables.require_columns(samples, tables.SAMPLE_COLUMNS, name="samples")
    tables.require_columns(holdout, tables.SAMPLE_COLUMNS, name="holdout")
    tables.require_columns(patients, tables.PATIENT_COLUMNS, name="patients")
    path = out if out.suffix == ".html" else out / REPORT_FILE
    page = (
        _environment()
        .get_template("report.html.j2")
        .render(
            result=result,
            answer=words.ANSWERS[result.verdict.status],
            untested=words.untested(
                result.verdict, [stage for stage in words.STAGES if getattr(result, stage) is None]
            ),
            expected_flagged=_expected_flagged(result.privacy, len(samples)),
            leaked_patients=int(patients["leaked"].sum()),
            patients_total=len(patients),
            histogram=_histogram(samples, holdout, result.privacy),
            hits=_hits(samples, result),
            pairs=sorted(pairs, key=lambda pair: -pair.similarity)[:_MOST_PAIRS],
            exposed=tables.most_exposed(patients, most=_MOST_PATIENTS),
            record=run_record,
            stages=tables.stages(run_record),
        )
    )
    # A file name that is no text becomes visible escapes; it must not stop the report.
    write_text(path, page.encode("utf-8", "backslashreplace").decode("utf-8"))
    return path


def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("mnemoscope.report"),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=words.shown,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    numbers = (words.count, words.decimal, words.percent, words.points, words.p_value)
    others = (words.span, words.interval, words.moment, words.flat, words.leaf, png_uri)
    said = {function.__name__: function for function in (*numbers, *others)}
    environment.filters |= said
    environment.globals |= said
    return environment


def _expected_flagged(privacy: Privacy | None, clips: int) -> float | None:
    return None if privacy is None else clips * (1.0 - privacy.percentile / 100.0)


def _histogram(samples: pd.DataFrame, holdout: pd.DataFrame, privacy: Privacy | None) -> Chart | None:
    if samples.empty and holdout.empty:
        return None
    figure = figures.similarity_histogram(holdout["p_max"], samples["p_max"], tau=privacy.tau if privacy else None)
    alt = f"Two histograms. {_described(holdout, 'real holdout')} {_described(samples, 'synthetic')}"
    if privacy:
        alt += f" The threshold tau is {words.decimal(privacy.tau)}."
    return Chart(svg(figure, name="histogram"), alt)


def _described(frame: pd.DataFrame, name: str) -> str:
    median = words.decimal(float(frame["p_max"].median()))
    return f"The median similarity of {words.count(len(frame))} {name} clips is {median}."


def _hits(samples: pd.DataFrame, result: AuditResult) -> Chart | None:
    train = result.sets.get("train")
    if result.recall is None or train is None:
        return None
    hits = tables.hits_per_clip(samples)
    most = words.count(int(hits.iloc[0])) if len(hits) else "0"
    alt = f"{words.count(len(hits))} of {words.count(train.clips)} training clips are the nearest of a synthetic clip; "
    alt += f"the most-hit one {most} times."
    return Chart(svg(figures.hits_curve(hits.to_numpy(), train_clips=train.clips), name="hits"), alt)
