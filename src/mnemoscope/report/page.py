"""Page: an audit as one HTML file that opens from disk, says first whether the set may leave, and asks no network."""

import base64
import hashlib
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from mnemoscope.audit.manifold import coverage_expectation
from mnemoscope.audit.run.results import audit_name
from mnemoscope.audit.verdict import Limits
from mnemoscope.core.files import write_text
from mnemoscope.core.types import AuditResult, Privacy, rungs
from mnemoscope.release.audited import no_export
from mnemoscope.report import charts, figures, provenance, tables, words
from mnemoscope.report.cards import first_cards
from mnemoscope.report.live import data_block, map_points, percentiles
from mnemoscope.report.material import Material
from mnemoscope.report.redact import kept_count

REPORT_FILE = "report.html"
_MOST_PATIENTS = 20
_SCRIPTS = ("privacy.js", "pairs.js", "map.js")


def write_report(material: Material, *, out: Path) -> Path:
    """Writes ``report.html``: verdict, key figures, evidence, and the record of the run.

    Args:
        material: what the page is made of; :func:`mnemoscope.report.redact.redacted` makes it fit to leave the house.
        out: a folder, which then holds ``report.html``, or the ``.html`` file to write.

    Returns:
        The file's path.

    Raises:
        InputError: if a table lacks a column.
        OutOfSpace: if the disk is full; an older report stays as it was.
    """
    for name, columns in (("samples", tables.SAMPLE_COLUMNS), ("holdout", tables.SAMPLE_COLUMNS)):
        tables.require_columns(getattr(material, name), columns, name=name)
    tables.require_columns(material.patients, tables.PATIENT_COLUMNS, name="patients")
    path = out if out.suffix == ".html" else out / REPORT_FILE
    page = environment(redacted=material.redacted).get_template("report.html.j2").render(_shown(material))
    # A file name that is no text becomes visible escapes; it must not stop the report.
    write_text(path, page.encode("utf-8", "backslashreplace").decode("utf-8"))
    return path


def _shown(material: Material) -> dict[str, Any]:
    """What the template speaks of."""
    result, samples = material.result, material.samples
    found, script = rungs(result.power), _script()
    patients = result.sets["train"].patients if material.redacted else len(material.patients)
    leaked = int(material.patients["leaked"].sum())
    untested = words.untested(result)
    drawn = {} if material.redacted else {"hits": charts.hits(samples, result)}
    return {
        "material": material,
        "result": result,
        "answer": words.ANSWERS[result.verdict.status],
        "untested": words.by_reason(untested),
        "untested_count": len(untested),
        "no_export": None if material.redacted else no_export(samples),
        "strata": list(
            dict.fromkeys(p.stratum for p in sorted(material.pairs, key=lambda p: p.ef or 0.0) if p.stratum)
        ),
        "copies": any(pair.copy_of for pair in material.pairs),
        "cards": first_cards(result, len(samples), words.suppressed_count if material.redacted else words.count),
        "expected_flagged": _expected_flagged(result.privacy, len(samples)),
        "leaked_patients": kept_count(leaked, of=patients) if material.redacted else leaked,
        "patients_total": patients,
        "limits": Limits(),
        "levels": figures.levels(found),
        "expected_coverage": _expected_coverage(result),
        "rungs": found,
        "histogram": charts.histogram(
            samples, material.holdout, result.privacy, fewest=words.FEWEST if material.redacted else 1
        ),
        "hits": drawn.get("hits"),
        "ladder": charts.ladder(found),
        "reach": charts.reach(result.recall),
        "lags": charts.lags(result.consistency),
        "asked": charts.asked(result.labels),
        "rates": charts.rates(result.reid),
        "exposed": tables.most_exposed(material.patients, most=_MOST_PATIENTS),
        "record": material.record,
        "stages": tables.stages(material.record),
        "commands": provenance.commands(material.record),
        "citation": provenance.citation(material.record),
        "script": script,
        "script_hash": base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        "data": data_block(_data(material)),
    }


def _data(material: Material) -> dict[str, Any]:
    """What the scripts read."""
    return {
        # Decisions are kept and exported under this name: another audit's are not taken for this one's.
        "audit": audit_name(material.samples),
        "percentiles": percentiles(material),
        "map": map_points(material),
    }


def _script() -> Markup:
    folder = files("mnemoscope.report").joinpath("templates")
    return Markup("\n".join(folder.joinpath(name).read_text(encoding="utf-8") for name in _SCRIPTS))


def environment(*, redacted: bool = False) -> Environment:
    """What the templates know: numbers said in words, and every text escaped."""
    made = Environment(
        loader=PackageLoader("mnemoscope.report"),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=words.shown_redacted if redacted else words.shown,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    counted: Callable[[int | None], str] = words.suppressed_count if redacted else words.count
    numbers = (words.decimal, words.tenths, words.percent, words.points, words.p_value)
    names = (words.plain, words.level, words.why, words.moment, words.flat, words.leaf, words.sentence, words.exact)
    others = (words.middle, words.is_estimate, words.span, words.interval, *names)
    said = {function.__name__: function for function in (*numbers, *others)} | {"count": counted}
    made.filters |= said
    made.globals |= said | {"RUNGS": words.RUNGS, "HEADS": words.HEADS, "PROBES": words.PROBES}
    return made


def _expected_coverage(result: AuditResult) -> float | None:
    found = result.recall.manifold if result.recall else None
    return coverage_expectation(found.n_real, found.n_synthetic, k=found.k) if found else None


def _expected_flagged(privacy: Privacy | None, clips: int) -> float | None:
    return None if privacy is None else clips * (1.0 - privacy.percentile / 100.0)
