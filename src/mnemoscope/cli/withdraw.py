"""``mnemoscope withdraw``: what must go when a patient takes back the consent."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import click

from mnemoscope.audit.run.withdraw import Withdrawal, clips_to_withdraw
from mnemoscope.cli.terminal import answering, show_json
from mnemoscope.core.files import whole_file
from mnemoscope.release.verify import files_of


def withdraw(run: Path | str, patients: str | Sequence[str], *, patient_salt: str | None = None) -> Withdrawal:
    """Every synthetic clip that must go when train patients withdraw.

    Args:
        run: folder of a finished audit.
        patients: one id or several, as ``patients.parquet`` names them; raw ids with ``patient_salt``.
        patient_salt: the salt that the audit hashed ids with.

    Raises:
        InputError: if there is no finished audit, or a patient is not one of its train patients.

    Example:
        >>> mnemoscope.withdraw("runs/first", "p0017").clips["clip_id"].tolist()  # doctest: +SKIP
        ['s000412', 's090017']
    """
    names = [patients] if isinstance(patients, str) else list(patients)
    return clips_to_withdraw(Path(run), names, patient_salt=patient_salt)


@click.command()
@click.argument("run", type=click.Path(path_type=Path))
@click.option("--patient", "patients", required=True, multiple=True, metavar="ID", help="Who withdraws; repeatable.")
@click.option("--patient-salt", metavar="TEXT", help="The audit's salt, where --patient is the id before hashing.")
@click.option("--release", type=click.Path(path_type=Path), help="A release: also list its files that must go.")
@click.option("--csv", "table", type=click.Path(path_type=Path), help="Also write the list to this file.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
def command(
    run: Path,
    patients: tuple[str, ...],
    patient_salt: str | None,
    release: Path | None,
    table: Path | None,
    as_json: bool,
) -> None:
    """List every synthetic clip that must go when a train patient of the audit in RUN withdraws.

    \b
    Example: mnemoscope withdraw runs/first --patient p0017
    """
    with answering():
        found = withdraw(run, patients, patient_salt=patient_salt)
        if table is not None:
            with whole_file(table) as temporary:
                found.clips.to_csv(temporary, index=False)
        released = None if release is None else files_of(release, set(found.clips["clip_id"]))
        if as_json:
            of_release = {} if released is None else {"release": released}
            show_json(asdict(found) | {"clips": found.clips.to_dict("records")} | of_release)
        else:
            click.echo(_told(found))
            if released is not None:
                click.echo("\n".join([f"{len(released)} files of {release} must go", *released]))


def _told(found: Withdrawal) -> str:
    head = (
        f"{len(found.clips)} of {found.synthetic_clips} synthetic clips must go: {found.train_clips} train clip(s) of "
        f"{', '.join(found.patients)}, tau {found.tau:.3f}"
    )
    if found.clips.empty:
        return f"{head}\nnothing must go"
    return f"{head}\n{found.clips.to_string(index=False, float_format='{:.4f}'.format)}"
