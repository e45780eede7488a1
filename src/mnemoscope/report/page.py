"""Page: an audit as one HTML file that opens from disk, says first whether the set may leave, and asks no network."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import UInt8
from jinja2 import Environment, PackageLoader, StrictUndefined

from mnemoscope.audit.manifold import coverage_expectation
from mnemoscope.audit.verdict import Limits
from mnemoscope.core.files import write_text
from mnemoscope.core.types import AuditResult, Privacy, rungs
from mnemoscope.report import charts, figures, tables, words
from mnemoscope.report.pictures import png_uri

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
            untested=words.untested(result),
            expected_flagged=_expected_flagged(result.privacy, len(samples)),
            leaked_patients=int(patients["leaked"].sum()),
            patients_total=len(patients),
            limits=Limits(),
            levels=figures.levels(rungs(result.power)),
            expected_coverage=_expected_coverage(result),
            rungs=rungs(result.power),
            histogram=charts.histogram(samples, holdout, result.privacy),
            hits=charts.hits(samples, result),
            ladder=charts.ladder(rungs(result.power)),
            reach=charts.reach(result.recall),
            lags=charts.lags(result.consistency),
            ssim=tables.similarity_of_pictures(samples),
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
    numbers = (words.count, words.decimal, words.tenths, words.percent, words.points, words.p_value)
    names = (words.plain, words.level, words.why, words.moment, words.flat, words.leaf, png_uri)
    others = (words.middle, words.is_estimate, words.span, words.interval, *names)
    said = {function.__name__: function for function in (*numbers, *others)}
    environment.filters |= said
    environment.globals |= said | {"RUNGS": words.RUNGS, "HEADS": words.HEADS, "PROBES": words.PROBES}
    return environment


def _expected_coverage(result: AuditResult) -> float | None:
    found = result.recall.manifold if result.recall else None
    return coverage_expectation(found.n_real, found.n_synthetic, k=found.k) if found else None


def _expected_flagged(privacy: Privacy | None, clips: int) -> float | None:
    return None if privacy is None else clips * (1.0 - privacy.percentile / 100.0)
