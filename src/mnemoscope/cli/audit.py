"""``mnemoscope audit``: from two folders to a verdict and a report."""

import sys
from pathlib import Path

import click

from mnemoscope.audit.run import AuditConfig, Finished, run_audit
from mnemoscope.audit.run.settings import recorded
from mnemoscope.audit.run.stages import training_recipe
from mnemoscope.cli.report import report_files
from mnemoscope.cli.terminal import Asked, settings, show_json, show_plan
from mnemoscope.core.progress import Progress, unwatched
from mnemoscope.core.provenance import Run
from mnemoscope.core.types import AuditResult

LATENT_CHANNELS = 4


def audit(
    *,
    real: Path | str,
    synthetic: Path | str,
    out: Path | str,
    config: AuditConfig | None = None,
    progress: Progress = unwatched,
) -> AuditResult:
    """Audits a synthetic set and writes ``audit.json``, its tables and ``report.html`` into ``out``.

    Args:
        real: folder of the real clips with train, val and holdout patients (or their latent store).
        synthetic: folder of the synthetic clips (or their latent store).
        out: folder of the run; what was finished there before is reused where its inputs are unchanged.
        config: settings.
        progress: told how far the stages are.

    Raises:
        MnemoscopeError: when the input does not allow an audit; the message says the remedy.

    Example:
        >>> result = mnemoscope.audit(real="clips", synthetic="generated", out="runs/first")  # doctest: +SKIP
        >>> result.verdict.status  # doctest: +SKIP
        'pass'
    """
    return audited(Path(real), Path(synthetic), Path(out), config or AuditConfig(), progress).result


def audited(real: Path, synthetic: Path, out: Path, config: AuditConfig, progress: Progress) -> Finished:
    """As :func:`audit`, with the tables."""
    identity = {"real": str(real.resolve()), "synthetic": str(synthetic.resolve())}
    run = Run(out, command="audit", identity=identity, config=recorded(config), seed=config.seed)
    with run.recording():
        finished = run_audit(run, real=real, synthetic=synthetic, config=config, progress=progress)
        with run.measured("report"):
            report_files(run, finished, config.frames)
    return finished


@click.command()
@click.option("--real", required=True, type=click.Path(path_type=Path), help="Real clips, or their latent store.")
@click.option("--synthetic", required=True, type=click.Path(path_type=Path), help="Synthetic clips, or their store.")
@click.option("--out", required=True, type=click.Path(path_type=Path), help="Folder of the run.")
@click.option("--gate", is_flag=True, help="Exit with 1 if the verdict is fail.")
@settings(AuditConfig)
def command(real: Path, synthetic: Path, out: Path, gate: bool, asked: Asked[AuditConfig]) -> None:
    """Audit a synthetic set against the real clips its generator was trained on.

    \b
    Example: mnemoscope audit --real CLIPS --synthetic GENERATED --out runs/first
    """
    with asked.answering() as (config, progress):
        if asked.dry_run:
            channels = LATENT_CHANNELS if config.space == "latent" else 1
            recipe = training_recipe(config, channels=channels).model_dump(mode="json")
            places = {"real": real, "synthetic": synthetic, "out": out}
            show_plan(config.model_copy(update={"reid": recipe}), places)
            return
        result = audited(real, synthetic, out, config, progress).result
        if asked.as_json:
            show_json(result.to_json())
        else:
            click.echo(summary(result, out))
    if gate and result.verdict.status == "fail":
        sys.exit(1)


def _ratio(result: AuditResult) -> str:
    matched = result.recall.matched if result.recall else None
    if matched is None:
        return f"not measured ({result.absent.get('recall.matched', 'no recall')})"
    return f"{matched.ratio.value:.2f} [{matched.ratio.low:.2f}, {matched.ratio.high:.2f}] times as many"


def _known(result: AuditResult) -> str:
    known = result.recall.known_share if result.recall else None
    if known is None:
        return f"not measured ({result.absent.get('recall.known_share', 'no recall')})"
    return f"{known.value:.0%} [{known.low:.0%}, {known.high:.0%}]"


def summary(result: AuditResult, out: Path) -> str:
    """The audit in a few lines."""
    lines = [f"verdict: {result.verdict.status}", *(f"  {reason}" for reason in result.verdict.reasons)]
    if result.reid is not None:
        auc = result.reid.auc
        lines.append(f"re-identification on holdout: AUC {auc.value:.4f} [{auc.low:.4f}, {auc.high:.4f}]")
    if result.privacy is not None:
        lines.append(
            f"flagged: {result.privacy.flagged} of {result.sets['synthetic'].clips} (tau {result.privacy.tau:.3f})"
        )
    if result.recall is not None:
        lines.append(
            f"learned: {result.recall.learned} of {result.sets['train'].clips} train clips "
            f"({result.recall.learned_share:.1%}), {result.recall.learned_and_flagged} of them only by flagged clips; "
            f"a clip of a stranger has a nearest train clip too"
        )
        lines.append(f"  beside holdout clips, at equal number: {_ratio(result)}")
        lines.append(f"  share of train patients known: {_known(result)}")
    lines += ["not tested:", *(f"  {what}" for what in result.verdict.not_tested), f"report: {out / 'report.html'}"]
    return "\n".join(lines)
