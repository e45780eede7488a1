"""Export: from an audited synthetic set to a folder that may leave the house, whole or not at all."""

import hashlib
import json
import re
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd

from mnemoscope.audit.run.results import AUDIT, SAMPLES
from mnemoscope.audit.run.settings import AuditConfig
from mnemoscope.audit.run.sources import synthetic_manifest
from mnemoscope.core.config import Config, build
from mnemoscope.core.errors import InputError, Mismatch, OutputConflict, Refused
from mnemoscope.core.files import read_json, sha256_of, whole_folder, write_json
from mnemoscope.core.progress import Progress, unwatched
from mnemoscope.core.provenance import RUN_FILE, STAGE_FILE, environment
from mnemoscope.data.clips import VIDEO_SUFFIXES, VideoInfo
from mnemoscope.data.containers import container_tags, probe_container
from mnemoscope.release.audited import MOST_NAMED, Audited, listed, names_in, no_export, other_labels, real_names
from mnemoscope.release.chain import generator_record, latent_digests, sampling_run
from mnemoscope.release.decisions import WITHHOLD, Decision
from mnemoscope.release.dicom import write_dicom
from mnemoscope.release.documents import Card, file_list, write_documents
from mnemoscope.release.selection import Chosen
from mnemoscope.release.tags import ids_by_word, ids_in, is_own
from mnemoscope.release.verify import DICOM, PROVENANCE, SCHEMA, VIDEOS, WORKERS

_NOT_STATED = "not stated"
_LABELS = ("ef", "esv", "edv")
_PLAIN_NAME = re.compile(r"(?!clip-)[A-Za-z0-9][A-Za-z0-9_-]{0,99}", re.ASCII)


class ExportConfig(Config):
    """Export of a release.

    Attributes:
        title: of the data set.
        licence: under which it may be used: an SPDX id, a name or an address.
        creator: who publishes it.
        contact: whom to ask, such as an address.
        accept_inconclusive: "who: why", where a verdict of inconclusive is accepted; kept in the provenance.
        dicom: also write each clip as a DICOM file.
    """

    title: str = "Synthetic medical video"
    licence: str = _NOT_STATED
    creator: str = _NOT_STATED
    contact: str = _NOT_STATED
    accept_inconclusive: str | None = None
    dicom: bool = False


@dataclass(frozen=True)
class Exported:
    """A finished release.

    Attributes:
        out: its folder.
        clips: released.
        withheld: audited clips that a decision keeps back.
        unaudited: clips of the input that the audit did not look at, which stay.
        sha256: of ``provenance.json``; kept in the house, it is a seal that ``verify`` can be given.
        not_stated: what a stranger will miss in it: generator, licence, creator, contact.
    """

    out: Path
    clips: int
    withheld: int
    unaudited: int
    sha256: str
    not_stated: tuple[str, ...]


@dataclass(frozen=True)
class _Written:
    """A clip in the release: its files' hashes, what its video says of itself, and known ids in the video's bytes."""

    hashes: dict[str, str]
    info: VideoInfo
    tags: list[tuple[str, str]]
    names: list[str]


@dataclass(frozen=True)
class _Clip:
    """One clip on its way: where it lies, what the audit saw, and what it is called in the release."""

    clip_id: str
    source: Path
    sha256: str
    name: str

    @property
    def video(self) -> str:
        return f"{VIDEOS}/{self.name}{self.source.suffix.lower()}"

    @property
    def dicom(self) -> str:
        return f"{DICOM}/{self.name}.dcm"


def export(
    audited: Audited,
    synthetic: Path,
    out: Path,
    config: ExportConfig,
    *,
    decisions: Mapping[str, Decision],
    selected: Chosen | None = None,
    progress: Progress = unwatched,
) -> Exported:
    """Writes the release of an audited set.

    Args:
        audited: the audit.
        synthetic: folder of the clips that were audited, wherever it lies now.
        out: the release; there must be nothing yet.
        config: card and options.
        decisions: on single clips.
        selected: clips to keep; None keeps all that were audited and not withheld.
        progress: told how far copying is.

    Raises:
        Refused: if the verdict, a flagged clip, the name of a real patient or what a video says of itself says no.
        Mismatch: if the clips are not those that were audited.
        InputError: if clips or options cannot be used.
        OutputConflict: if there is something at ``out``.
    """
    if out.exists() or out.is_symlink():
        raise OutputConflict(f"{out}: expected a new folder for the release, found one there; choose another --out")
    if out.resolve().is_relative_to(synthetic.resolve()):
        raise OutputConflict(f"{out}: lies inside the clips that were audited; choose another --out")
    wanted = set(audited.samples.index if selected is None else selected.clips)
    words = {clip_id: decision for clip_id, decision in decisions.items() if clip_id in wanted}
    withheld = {clip_id for clip_id, decision in decisions.items() if decision.decision == WITHHOLD}
    kept = sorted(wanted - withheld)
    for flag in ("title", "licence", "creator", "contact"):
        _require_one_line(f"--{flag}", getattr(config, flag))
    accepted = _acceptance(audited, config.accept_inconclusive)
    names, places = real_names(audited), {str(place) for place in audited.record["identity"].values() if place}
    _gate(audited, kept, words, accepted=accepted is not None, real=names)
    rows, clips = _found(audited, kept, synthetic)
    with whole_folder(out) as folder:
        written = _copied(clips, folder, names, dicom=config.dicom, progress=progress)
        _require_plain_tags(clips, written)
        hashes = {name: digest for one in written for name, digest in one.hashes.items()}
        record = _record(audited, synthetic, clips, words, config) | {
            "accepted": accepted,
            "withheld": len(withheld),
            "selection": None if selected is None else {"clips": len(selected.clips), "chosen_by": selected.how},
        }
        table = file_list(rows.loc[kept], [one.info for one in written], [Path(clip.video).name for clip in clips])
        card = Card(**config.model_dump(include={"title", "licence", "creator", "contact"}), created=record["created"])
        documents = write_documents(folder, card, audited.result, table, record)
        hashes |= {name: sha256_of(folder / name) for name in documents}
        write_json(folder / PROVENANCE, record | {"files": dict(sorted(hashes.items()))})
        said = [text for one in written for tag in one.tags for text in tag]
        _require_nothing_told(folder, [*documents, PROVENANCE], _typed(record, config, said), names | places)
        seal = sha256_of(folder / PROVENANCE)
    unaudited = len(rows.index.difference(audited.samples.index))
    return Exported(out, len(clips), len(withheld), unaudited, seal, _not_stated(config, record))


def _not_stated(config: ExportConfig, record: Mapping[str, Any]) -> tuple[str, ...]:
    generator = [] if record["generator"] else ["which generator made the clips (they lie outside a sampling run)"]
    card = [name for name in ("licence", "creator", "contact") if getattr(config, name) == _NOT_STATED]
    return (*generator, *(f"{name} (--{name})" for name in card))


def _acceptance(audited: Audited, text: str | None) -> dict[str, str] | None:
    """Who accepted an inconclusive verdict, why and when."""
    if text is None:
        return None
    who, _, why = (part.strip() for part in text.partition(":"))
    if not (who and why):
        raise InputError(f'--accept-inconclusive: expected "who: why", found {text!a}')
    for part in (who, why):
        _require_one_line("--accept-inconclusive", part)
    status = audited.result.verdict.status
    if status == "pass":
        raise InputError("--accept-inconclusive: the verdict is pass, which nobody needs to accept; leave it out")
    return {"who": who, "why": why, "when": _now()}


def _require_one_line(flag: str, text: str) -> None:
    """The card is Markdown: a text of several lines could write headings of its own."""
    if not text.isprintable():
        raise InputError(f"{flag}: expected one line of text, found {text!a}; take line breaks and controls out")


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def _gate(
    audited: Audited, clips: Sequence[str], words: Mapping[str, Decision], *, accepted: bool, real: set[str]
) -> None:
    """Refuses with every reason at once; what no decision can mend comes before them all."""
    unproven = no_export(audited.samples.loc[list(clips)].reset_index())
    if unproven:
        raise InputError(f"{audited.run}: expected an audit that knows the file of each clip: {unproven}")
    verdict = audited.result.verdict
    flagged = [clip_id for clip_id in clips if audited.samples["flagged"][clip_id] and clip_id not in words]
    doubled = sorted(real & set(clips))
    reasons = {
        f"the verdict is fail ({'; '.join(verdict.reasons)}); take the flagged clips away and audit what is left with "
        f"a model trained anew (--seed), because the present one would pass its own choice": verdict.status == "fail",
        f"the verdict is inconclusive ({'; '.join(verdict.reasons)}); mend that, or say who accepts it and why "
        f'(--accept-inconclusive "who: why")': verdict.status == "inconclusive" and not accepted,
        f"{len(flagged)} clips are flagged and nobody released them: {listed(flagged)}; say of each release or "
        f"withhold, and who, when and why (--decisions), or choose other clips (--select)": bool(flagged),
        f"{len(doubled)} clips have the id of a real clip or patient: {listed(doubled)}; rename them and audit again": (
            bool(doubled)
        ),
    }
    refused = [f"- {reason}" for reason, holds in reasons.items() if holds]
    if refused:
        raise Refused("\n".join([f"{audited.run} may not be released:", *refused]))
    if not clips:
        raise InputError(f"{audited.run}: expected at least one clip to release, all are withheld; choose other ones")


def _found(audited: Audited, kept: list[str], synthetic: Path) -> tuple[pd.DataFrame, list[_Clip]]:
    """The table of the folder's clips, and the kept ones where they lie."""
    hashes = audited.samples["sha256"]
    manifest = synthetic_manifest(synthetic, build(AuditConfig, audited.record["config"]))
    files = dict(zip(manifest.clips["clip_id"], manifest.files, strict=True))
    missing = [clip_id for clip_id in kept if not (clip_id in files and files[clip_id].is_file())]
    twins = sorted(name for name in files if name not in hashes.index and Path(name).stem in missing)
    if twins:
        raise InputError(
            f"{synthetic}: expected one file for each clip that was audited, found several of one name: "
            f"{listed(twins)}; take away those that were not audited"
        )
    if missing:
        raise Mismatch(
            f"{synthetic}: expected the clips that were audited, {len(missing)} are not there: {listed(missing)}; give "
            f"the audited folder (--synthetic), or audit this one"
        )
    foreign = sorted({files[clip_id].suffix.lower() for clip_id in kept} - set(VIDEO_SUFFIXES))
    if foreign:
        raise InputError(
            f"{synthetic}: expected videos ({', '.join(VIDEO_SUFFIXES)}), found {', '.join(foreign)}, whose headers "
            f"may name patients; write the clips as videos and audit those"
        )
    rows, seen = manifest.clips.set_index("clip_id"), audited.synthetic
    for label in [label for label in _LABELS if label in seen.columns]:
        changed = other_labels(rows[label].loc[kept], seen[label])
        if len(changed):
            raise Mismatch(
                f"{synthetic}: expected the {label.upper()} that was audited, {len(changed)} clips have another or "
                f"none: {listed(changed.tolist())}; give the audited folder with its list (--synthetic), or audit "
                f"this one"
            )
    names = release_names(kept)
    return rows, [_Clip(c, files[c], hashes[c], names[c]) for c in kept]


def release_names(clips: Sequence[str]) -> dict[str, str]:
    """A file name for each clip id: the id itself where it is plain, else a digest of it.

    Plain names hold letters, digits, ``_`` and ``-``, are at most 100 characters long and differ by more than case.
    """
    count = Counter(clip_id.casefold() for clip_id in clips)

    def plain(clip_id: str) -> bool:
        return bool(_PLAIN_NAME.fullmatch(clip_id)) and count[clip_id.casefold()] == 1

    return {
        c: c if plain(c) else f"clip-{hashlib.sha256(c.encode(errors='surrogatepass')).hexdigest()[:16]}" for c in clips
    }


def _copied(
    clips: Sequence[_Clip], folder: Path, real: Collection[str], *, dicom: bool, progress: Progress
) -> list[_Written]:
    """Copies every clip as it is."""
    (folder / VIDEOS).mkdir()
    if dicom:
        (folder / DICOM).mkdir()
    ids = ids_by_word(real)

    def copy(clip: _Clip) -> _Written | None:
        content = clip.source.read_bytes()
        # What is hashed is what is written: nobody can exchange the file in between.
        if hashlib.sha256(content).hexdigest() != clip.sha256:
            return None
        video, hashes = folder / clip.video, {clip.video: clip.sha256}
        video.write_bytes(content)
        if dicom:
            write_dicom(video, folder / clip.dicom, clip_id=clip.clip_id, sha256=clip.sha256)
            hashes[clip.dicom] = sha256_of(folder / clip.dicom)
        return _Written(hashes, probe_container(video), container_tags(video), ids_in(content, ids))

    done: list[_Written] = []
    changed: list[str] = []
    with ThreadPoolExecutor(WORKERS) as pool:
        for number, (clip, written) in enumerate(zip(clips, pool.map(copy, clips), strict=True), start=1):
            done += [written] if written else []
            changed += [] if written else [clip.clip_id]
            progress("release", number, len(clips), "clip")
    if changed:
        raise Mismatch(
            f"expected the files that were audited, {len(changed)} are others by now: {listed(changed)}; audit this "
            f"folder again, or give the audited one (--synthetic)"
        )
    return done


def _require_plain_tags(clips: Sequence[_Clip], written: Sequence[_Written]) -> None:
    """Refuses videos that say more of themselves than how they are built: titles and comments may name patients."""
    told = []
    for clip, one in zip(clips, written, strict=True):
        more = [f"{name}={value}"[:80] for name, value in one.tags if value and not is_own(name, value)]
        more += [f"the id {name} in the file" for name in one.names]
        told += [f"- {clip.clip_id!a}: {', '.join(more)!a}"] if more else []
    if told:
        others = [f"- and {len(told) - MOST_NAMED} more"] if len(told) > MOST_NAMED else []
        raise Refused(
            f"{len(told)} videos carry tags or text that may name patients or folders of the house; take it out "
            f"(ffmpeg -i IN -map 0:v:0 -map_metadata -1 -map_metadata:s -1 -map_chapters -1 -c copy OUT, or encode "
            f"the frames anew) and audit the new files:\n" + "\n".join([*told[:MOST_NAMED], *others])
        )


def _record(
    audited: Audited, synthetic: Path, clips: Sequence[_Clip], words: Mapping[str, Decision], config: ExportConfig
) -> dict[str, Any]:
    """The provenance but for the files' hashes; nothing in it says where in the house something lies."""
    sampled = sampling_run(synthetic)
    ids = [clip.clip_id for clip in clips]
    latents = latent_digests(sampled / "latents" if sampled else audited.synthetic_store, ids)
    here = environment()
    return {
        "schema": SCHEMA,
        "title": config.title,
        "created": _now(),
        "mnemoscope": {"version": here["versions"]["mnemoscope"], "git_commit": here["git_commit"]},
        "generator": generator_record(sampled) if sampled else None,
        "latents_of": "generator" if sampled else "audit",
        "audit": _audit_record(audited),
        "dicom": config.dicom,
        "clips": [
            {
                "clip_id": clip.clip_id,
                "files": [clip.video, clip.dicom] if config.dicom else [clip.video],
                "latent_sha256": latents.get(clip.clip_id),
                "flagged": bool(audited.samples["flagged"][clip.clip_id]),
                "decision": asdict(words[clip.clip_id]) if clip.clip_id in words else None,
            }
            for clip in clips
        ],
    }


def _audit_record(audited: Audited) -> dict[str, Any]:
    record, features = audited.record, audited.run / "features" / STAGE_FILE
    inputs = read_json(features)["inputs"] if features.is_file() else {}
    return {
        "verdict": audited.result.verdict.status,
        "tau": audited.privacy.tau,
        "percentile": audited.privacy.percentile,
        "flagged": audited.privacy.flagged,
        "clips": len(audited.samples),
        "finished": record["finished"],
        "seed": record["seed"],
        "versions": record["versions"],
        "git_commit": record["git_commit"],
        "model": inputs.get("model"),
        "sha256": {name: sha256_of(audited.run / name) for name in (AUDIT, SAMPLES, RUN_FILE)},
    }


def _typed(record: Mapping[str, Any], config: ExportConfig, tags: Sequence[str]) -> str:
    """Everything in a release that people, their tables, file names or videos say."""
    words = [clip["decision"] for clip in record["clips"]] + [record["accepted"]]
    said = [text for word in words if word is not None for text in word.values()]
    said += [(record["selection"] or {}).get("chosen_by") or ""]
    ids = [clip["clip_id"] for clip in record["clips"]]
    return "\n".join([*ids, *said, *sorted(set(tags)), config.title, config.licence, config.creator, config.contact])


def _folded(names: Collection[str]) -> set[str]:
    """In lower case: people write ids as they come."""
    return {name.casefold() for name in names}


def _require_nothing_told(folder: Path, documents: Sequence[str], typed: str, secrets: set[str]) -> None:
    """Looks for real ids and places of the house in all that is written, whichever way they came there."""
    # In our own words an id without a digit may be just a word.
    numbered = {secret for secret in secrets if any(letter.isdigit() for letter in secret) or "/" in secret}
    shown = _folded(numbered | {json.dumps(secret)[1:-1] for secret in numbered})
    found = {name: names_in((folder / name).read_text(encoding="utf-8").casefold(), shown) for name in documents}
    found["what people or videos say"] = names_in(typed.casefold(), _folded(secrets))
    told = [f"- {place}: {listed(named)}" for place, named in found.items() if named]
    if told:
        raise Refused(
            "the release would name real clips, patients or folders of the house; word decisions and card otherwise, "
            "or rename the synthetic clips and audit again:\n" + "\n".join(told)
        )
