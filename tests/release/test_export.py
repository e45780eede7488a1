import hashlib
import json
import shutil
import warnings
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import mlcroissant
import numpy as np
import pandas as pd
import pydicom
import pytest
import yaml

from mnemoscope.core.errors import CorruptFile, InputError, Mismatch, MnemoscopeError, OutputConflict, Refused
from mnemoscope.core.files import read_json, write_json
from mnemoscope.data.dicom import read_patient_id
from mnemoscope.data.layouts import read_layout
from mnemoscope.data.transform import FrameTransform
from mnemoscope.data.video import read_clip
from mnemoscope.data.writing import write_video
from mnemoscope.release.audited import read_audited
from mnemoscope.release.decisions import read_decisions
from mnemoscope.release.export import ExportConfig, Exported, export, release_names
from mnemoscope.release.selection import Chosen
from mnemoscope.release.verify import files_of, verify
from tests.release.audits import PLAIN, Made, frames, make, write_decisions

WHEN = "2026-03-01T14:30:00Z"
HOSTILE = (
    "..",
    "a,b",
    "<img src=x onerror=alert(1)>",
    "CASE",
    "case",
    "dot.ted",
    "sub/s0",
    "x" * 180,
    "-rf",
    "\u202egnp",
)


def released(
    made: Made, *lines: str, selected: list[str] | None = None, how: str | None = None, **options: Any
) -> Exported:
    audited = read_audited(made.run)
    decisions = {}
    if lines:
        path = write_decisions(made.run.parent / "decisions.csv", *lines)
        decisions = read_decisions(path, audited.decided)
    out = made.run.parent / "release"
    return export(
        audited,
        made.clips,
        out,
        ExportConfig(**options),
        decisions=decisions,
        selected=Chosen(selected, how) if selected else None,
    )


def nothing_was_written(made: Made) -> bool:
    return sorted(path.name for path in made.run.parent.iterdir() if "release" in path.name) == []


def read_croissant(folder: Path) -> tuple[Any, list[dict[str, Any]]]:
    """What MLCommons' own reader objects to, and the records it reads."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=DeprecationWarning, module="mlcroissant|rdflib")
        data = mlcroissant.Dataset(jsonld=folder / "croissant.json")
        return data.metadata.ctx.issues, list(data.records("clips"))


# What a stranger gets


def test_the_folder_is_whole_and_each_video_is_the_audited_file(passed: Made) -> None:
    done = released(passed, title="Echoes", licence="CC-BY-4.0", creator="A House")
    names = sorted(path.relative_to(done.out).as_posix() for path in done.out.rglob("*") if path.is_file())
    documents = ["FileList.csv", "README.md", "audit-summary.json", "croissant.json", "provenance.json"]
    assert names == sorted([*documents, *(f"Videos/{name}.avi" for name in PLAIN)])
    for name in PLAIN:
        assert (done.out / "Videos" / f"{name}.avi").read_bytes() == (
            passed.clips / "Videos" / f"{name}.avi"
        ).read_bytes()
    assert (done.clips, done.withheld, done.unaudited) == (6, 0, 0)
    assert verify(done.out, seal=done.sha256).problems == []


def test_provenance_holds_a_hash_per_file_and_the_chain(passed: Made) -> None:
    done = released(passed)
    record = read_json(done.out / "provenance.json")
    files = {p.relative_to(done.out).as_posix() for p in done.out.rglob("*") if p.is_file()} - {"provenance.json"}
    assert set(record["files"]) == files
    for name, digest in record["files"].items():
        assert hashlib.sha256((done.out / name).read_bytes()).hexdigest() == digest
    for number, clip in enumerate(record["clips"]):
        latents = np.random.default_rng([9, number]).normal(size=(3, 2, 3, 3)).astype(np.float16)
        assert clip == {
            "clip_id": f"s{number}",
            "files": [f"Videos/s{number}.avi"],
            "latent_sha256": hashlib.sha256(latents.tobytes()).hexdigest(),
            "flagged": False,
            "decision": None,
        }
    assert (record["generator"], record["latents_of"], record["accepted"]) == (None, "audit", None)
    assert record["audit"]["verdict"] == "pass"
    for name, digest in record["audit"]["sha256"].items():
        assert hashlib.sha256((passed.run / name).read_bytes()).hexdigest() == digest


def test_echonets_list_is_read_back(passed: Made) -> None:
    done = released(passed)
    table = pd.read_csv(done.out / "FileList.csv")
    assert table["FileName"].tolist() == list(PLAIN)
    assert set(table["Split"]) == {"TRAIN"}
    assert table["EF"].tolist() == [20.0, 30.0, 40.0, 50.0, 60.0, 70.0]
    assert table[["FrameHeight", "FrameWidth", "NumberOfFrames", "FPS"]].drop_duplicates().values.tolist() == [
        [8, 10, 3, 12.5]
    ]
    clips = read_layout(done.out, split="synthetic").clips
    assert clips["clip_id"].tolist() == list(PLAIN)


def test_croissant_is_valid_and_its_records_are_the_list(passed: Made) -> None:
    done = released(passed, title="Echoes", licence="https://creativecommons.org/licenses/by/4.0/")
    issues, records = read_croissant(done.out)
    assert (set(issues.errors), set(issues.warnings)) == (set(), set())
    assert read_json(done.out / "croissant.json")["conformsTo"] == "http://mlcommons.org/croissant/1.1"
    assert [row["clips/FileName"].decode() for row in records] == list(PLAIN)
    assert [row["clips/EF"] for row in records] == [20.0, 30.0, 40.0, 50.0, 60.0, 70.0]


def test_the_card_has_front_matter_and_every_section(passed: Made) -> None:
    done = released(passed, title="<b>Echoes</b>", licence="CC-BY-4.0", creator="A & B", contact="x@example.org")
    text = (done.out / "README.md").read_text()
    _, front, body = text.split("---\n", 2)
    assert yaml.safe_load(front) == {
        "pretty_name": "<b>Echoes</b>",
        "license": "other",
        "license_name": "CC-BY-4.0",
        "size_categories": ["n<1K"],
        "tags": ["synthetic", "medical", "video", "mnemoscope"],
        "configs": [{"config_name": "default", "data_files": "FileList.csv"}],
    }
    for section in (
        *("Motivation", "Composition", "Collection process", "Preprocessing, cleaning, labelling", "Uses"),
        *("Distribution", "Maintenance"),
    ):
        assert f"\n## {section}\n" in body
    assert "<b>" not in body
    assert "&lt;b&gt;Echoes&lt;/b&gt;" in body
    assert "Verdict: **pass**" in body
    assert "for this reason" in body
    assert "nobody looked at that" in body


def test_no_real_id_and_no_place_of_the_house_is_in_any_text(flagged: Made) -> None:
    done = released(flagged, f"s1,release,Ann,{WHEN},seen", f"s4,withhold,,{WHEN},")
    assert read_json(flagged.run / "audit.json")["recall"]["top_hits"][0]["clip_id"] == "real000"
    for path in done.out.rglob("*"):
        if path.is_file() and path.suffix != ".avi":
            text = path.read_text()
            for secret in (
                "real0",
                "patient0",
                "patient5",
                "patient9",
                "valid000",
                "held0",
                "secret",
                str(flagged.clips),
            ):
                assert secret not in text, path


# DICOM


def test_dicom_says_synthetic_and_names_nobody(tmp_path: Path) -> None:
    made = make(tmp_path)
    write_video(made.clips / "Videos" / "s5.avi", frames(5, colour=True), fps=12.5, codec="ffv1")
    samples = pd.read_parquet(made.run / "samples.parquet")
    samples.loc[5, "sha256"] = hashlib.sha256((made.clips / "Videos" / "s5.avi").read_bytes()).hexdigest()
    samples.to_parquet(made.run / "samples.parquet")
    done = released(made, dicom=True)
    uids = set()
    for number in range(6):
        path = done.out / "DICOM" / f"s{number}.dcm"
        found = pydicom.dcmread(path)
        assert found[0x0008, 0x001C].value == "YES"
        # Types 1 and 2 of the modules Patient, General Study, Series, Equipment and Image (DICOM PS3.3, A.7 and C.7).
        for name in (
            "PatientName",
            "PatientID",
            "PatientBirthDate",
            "PatientSex",
            "StudyDate",
            "StudyTime",
            "StudyID",
            "ReferringPhysicianName",
            "AccessionNumber",
            "Manufacturer",
            "PatientOrientation",
        ):
            assert found[name].is_empty
        for name in ("Modality", "SeriesNumber", "InstanceNumber", "ImageType", "FrameTime", "FrameIncrementPointer"):
            assert not found[name].is_empty
        for uid in (found.StudyInstanceUID, found.SeriesInstanceUID, found.SOPInstanceUID):
            assert uid.is_valid
            assert uid.startswith("2.25.")
            uids.add(str(uid))
        assert found.PhotometricInterpretation == ("RGB" if number == 5 else "MONOCHROME2")
        np.testing.assert_array_equal(found.pixel_array, frames(number, colour=number == 5))
        assert read_patient_id(path) is None
        whole = FrameTransform(height=8, width=10, color="rgb")
        expected = frames(number, colour=number == 5)
        np.testing.assert_array_equal(read_clip(path, whole), expected if number == 5 else np.stack([expected] * 3, -1))
    assert len(uids) == 18
    assert read_layout(done.out / "DICOM", split="synthetic").clips["fps"].tolist() == [12.5] * 6
    assert verify(done.out).files == 6 + 6 + 4
    shutil.move(done.out, tmp_path / "first")
    again = released(made, dicom=True)
    for number in range(6):
        assert (again.out / f"DICOM/s{number}.dcm").read_bytes() == (
            tmp_path / f"first/DICOM/s{number}.dcm"
        ).read_bytes()


# What the gate says


def test_a_verdict_of_fail_is_final(tmp_path: Path) -> None:
    made = make(tmp_path, status="fail", flagged=("s1",))
    with pytest.raises(Refused) as caught:
        released(made)
    assert "the verdict is fail (for this reason)" in str(caught.value)
    assert "1 clips are flagged and nobody released them: 's1'" in str(caught.value)
    with pytest.raises(Refused, match="the verdict is fail"):
        released(made, accept_inconclusive="Ann: I want it")
    assert nothing_was_written(made)


def test_an_inconclusive_verdict_needs_somebody_who_accepts_it(tmp_path: Path) -> None:
    made = make(tmp_path, status="inconclusive")
    with pytest.raises(Refused, match="--accept-inconclusive"):
        released(made)
    for text in ("", "Ann", "Ann:", ": because"):
        with pytest.raises(InputError, match='expected "who: why"'):
            released(made, accept_inconclusive=text)
    done = released(made, accept_inconclusive="Ann: few patients: known")
    accepted = read_json(done.out / "provenance.json")["accepted"]
    assert (accepted["who"], accepted["why"]) == ("Ann", "few patients: known")
    assert "accepted by Ann" in (done.out / "README.md").read_text()


def test_acceptance_of_a_pass_is_refused(passed: Made) -> None:
    with pytest.raises(InputError, match="the verdict is pass"):
        released(passed, accept_inconclusive="Ann: why")


def test_a_flag_needs_a_decision(flagged: Made) -> None:
    with pytest.raises(Refused, match="2 clips are flagged and nobody released them: 's1', 's4'"):
        released(flagged)
    with pytest.raises(Refused, match="1 clips are flagged and nobody released them: 's4'"):
        released(flagged, f"s1,release,Ann,{WHEN},seen")
    assert nothing_was_written(flagged)
    done = released(flagged, f"s1,release,Ann,{WHEN},seen", f"s4,withhold,,{WHEN},", f"s0,withhold,Ben,{WHEN},odd")
    assert (done.clips, done.withheld) == (4, 2)
    clips = {clip["clip_id"]: clip for clip in read_json(done.out / "provenance.json")["clips"]}
    assert set(clips) == {"s1", "s2", "s3", "s5"}
    assert clips["s1"]["flagged"]
    assert clips["s1"]["decision"] == {"decision": "release", "who": "Ann", "when": WHEN, "why": "seen"}
    assert not {"s0.avi", "s4.avi"} & {path.name for path in (done.out / "Videos").iterdir()}


def test_a_selection_keeps_its_clips_and_is_held_to_the_same_gate(flagged: Made) -> None:
    with pytest.raises(Refused, match="'s1'"):
        released(flagged, selected=["s0", "s1"])
    done = released(flagged, f"s0,withhold,,{WHEN},", selected=["s3", "s0"])
    assert files_of(done.out, PLAIN) == ["Videos/s3.avi"]
    assert read_json(done.out / "provenance.json")["selection"] == {"clips": 2, "chosen_by": None}


def test_how_clips_were_chosen_is_told_to_strangers(passed: Made) -> None:
    done = released(passed, selected=["s3", "s0"], how="rule=coverage, count=2")
    selection = read_json(done.out / "provenance.json")["selection"]
    assert selection == {"clips": 2, "chosen_by": "rule=coverage, count=2"}
    assert "2 clips had been selected of 6 (rule=coverage, count=2)" in (done.out / "README.md").read_text()


def test_a_selection_that_names_a_patient_is_refused(passed: Made) -> None:
    with pytest.raises(Refused, match="what people or videos say: 'patient003'"):
        released(passed, selected=["s3"], how="without patient003")
    assert nothing_was_written(passed)


def test_what_a_stranger_will_miss_is_told(passed: Made) -> None:
    done = released(passed, licence="CC-BY-4.0", creator="A. Example")
    assert [name.partition(" ")[0] for name in done.not_stated] == ["which", "contact"]


def test_nothing_left_is_refused(passed: Made) -> None:
    with pytest.raises(InputError, match="all are withheld"):
        released(passed, *(f"{name},withhold,,{WHEN}," for name in PLAIN))


def test_a_synthetic_clip_with_a_real_id_is_refused(tmp_path: Path) -> None:
    made = make(tmp_path, ids=("s0", "patient003"))
    with pytest.raises(Refused, match="id of a real clip or patient: 'patient003'"):
        released(made)
    other = make(tmp_path / "b", ids=("s0", "drawn_real004_1"))
    with pytest.raises(Refused, match=r"provenance.json: 'real004'"):
        released(other)
    assert nothing_was_written(other)


def test_a_decision_that_names_a_patient_is_refused(flagged: Made) -> None:
    lines = f's1,release,Ann,{WHEN},"not like patient007, I think"', f"s4,withhold,,{WHEN},"
    with pytest.raises(Refused, match=r"provenance.json: 'patient007'"):
        released(flagged, *lines)
    assert nothing_was_written(flagged)


def test_an_id_that_is_a_word_counts_where_people_write_only(flagged: Made) -> None:
    """ "clips" and "smith" are patients: every card says clips, nobody but a person would say smith."""
    pd.DataFrame({"patient_id": ["clips", "smith"]}).to_parquet(flagged.run / "patients.parquet")
    line = f"s4,withhold,,{WHEN},"
    with pytest.raises(Refused, match="what people or videos say: 'smith'"):
        released(flagged, f"s1,release,Ann,{WHEN},not smith", line)
    assert released(flagged, f"s1,release,Ann,{WHEN},seen", line).clips == 5


def test_a_place_of_the_house_in_a_text_is_refused(passed: Made) -> None:
    audit = read_json(passed.run / "audit.json")
    audit["verdict"]["not_tested"] = [f"{passed.run.parent / 'home' / 'secret'}: could not be read"]
    write_json(passed.run / "audit.json", audit)
    with pytest.raises(Refused, match=r"folders of the house(?s:.*)README.md: .*secret"):
        released(passed)


def tagged(video: Path, made: Made, chapter: str = "", after: bytes = b"", **tags: str) -> None:
    """The same pictures in a file that says more of itself, audited as such."""
    other = video.with_name(f"tagged-{video.name}")
    with av.open(video) as source, av.open(other, "w") as target:
        stream = target.add_stream_from_template(source.streams.video[0])
        target.metadata.update(tags)
        if chapter:
            about = {"id": 0, "start": 0, "end": 1, "time_base": Fraction(1, 10), "metadata": {"title": chapter}}
            target.set_chapters([about])
        for packet in source.demux(video=0):
            if packet.dts is not None:
                packet.stream = stream
                target.mux(packet)
    other.write_bytes(other.read_bytes() + after)
    other.replace(video)
    samples = pd.read_parquet(made.run / "samples.parquet")
    samples.loc[samples["clip_id"] == video.stem, "sha256"] = hashlib.sha256(video.read_bytes()).hexdigest()
    samples.to_parquet(made.run / "samples.parquet")


def test_a_video_that_says_more_than_how_it_is_built_is_refused(passed: Made) -> None:
    tagged(passed.clips / "Videos" / "s3.avi", passed)
    assert released(passed).clips == 6
    shutil.rmtree(passed.run.parent / "release")
    tagged(passed.clips / "Videos" / "s3.avi", passed, title="Mrs Example", comment="/home/x.avi")
    with pytest.raises(Refused, match=r"1 videos carry tags (?s:.*)-map_metadata -1(?s:.*)'s3': .*Mrs Example"):
        released(passed)
    assert nothing_was_written(passed)


@pytest.mark.parametrize(
    ("hidden", "told"),
    [
        ({"handler_name": "Doe 1950"}, "(?i)handler_name=Doe 1950"),
        ({"chapter": "Mrs Example"}, "chapter title=Mrs Example"),
        ({"after": b"\0 PATIENT00003/1 \0"}, "the id patient00003 in the file"),
    ],
)
def test_what_a_video_hides_is_found(tmp_path: Path, hidden: dict[str, Any], told: str) -> None:
    made = make(tmp_path)
    pd.DataFrame({"patient_id": ["patient00003"]}).to_parquet(made.run / "patients.parquet")
    source, video = made.clips / "Videos" / "s3.avi", made.clips / "Videos" / "s3.mkv"
    source.rename(video)
    table = (made.clips / "FileList.csv").read_text().replace("s3.avi", "s3.mkv")
    (made.clips / "FileList.csv").write_text(table)
    tagged(video, made)
    assert released(made).clips == 6
    shutil.rmtree(made.run.parent / "release")
    tagged(video, made, **hidden)
    with pytest.raises(Refused, match=told):
        released(made)


def test_an_id_counts_in_capitals_or_not(passed: Made) -> None:
    with pytest.raises(Refused, match=r"README\.md: 'patient007'"):
        released(passed, title="Not of PATIENT007")


def test_a_title_of_several_lines_is_refused(passed: Made) -> None:
    with pytest.raises(InputError, match="--title: expected one line"):
        released(passed, title="Echoes\n## What the audit found")


def test_the_list_tells_of_the_files_and_not_of_an_older_list(passed: Made) -> None:
    table = pd.read_csv(passed.clips / "FileList.csv").assign(FrameHeight=999, FPS=5.0, NumberOfFrames=77)
    table.to_csv(passed.clips / "FileList.csv", index=False)
    told = pd.read_csv(released(passed).out / "FileList.csv")
    assert told[["FrameHeight", "NumberOfFrames", "FPS"]].drop_duplicates().values.tolist() == [[8, 3, 12.5]]


def test_volumes_that_changed_since_the_audit_are_named(passed: Made) -> None:
    store = passed.run / "latents-synthetic" / "clips.parquet"
    pd.read_parquet(store).assign(esv=40.0).to_parquet(store, index=False)
    table = pd.read_csv(passed.clips / "FileList.csv").assign(ESV=40.0)
    table.loc[2, "ESV"] = 1.0
    table.to_csv(passed.clips / "FileList.csv", index=False)
    with pytest.raises(Mismatch, match="the ESV that was audited, 1 clips have another or none: 's2'"):
        released(passed)


def test_a_release_inside_the_audited_folder_is_refused(passed: Made) -> None:
    with pytest.raises(OutputConflict, match="inside the clips"):
        export(read_audited(passed.run), passed.clips, passed.clips / "release", ExportConfig(), decisions={})


# An audit of other files


def test_files_that_changed_are_all_named(passed: Made) -> None:
    for name in ("s1", "s5"):
        with (passed.clips / "Videos" / f"{name}.avi").open("ab") as file:
            file.write(b"\0")
    with pytest.raises(Mismatch, match="2 are others by now: 's1', 's5'"):
        released(passed)
    assert nothing_was_written(passed)


def test_labels_that_changed_since_the_audit_are_named(passed: Made) -> None:
    table = pd.read_csv(passed.clips / "FileList.csv")
    table.loc[table["FileName"] == "s2.avi", "EF"] = 77
    table.to_csv(passed.clips / "FileList.csv", index=False)
    with pytest.raises(Mismatch, match="the EF that was audited, 1 clips have another or none: 's2'"):
        released(passed)
    (passed.clips / "FileList.csv").unlink()
    with pytest.raises(Mismatch, match="6 clips have another or none"):
        released(passed)
    assert nothing_was_written(passed)


def test_two_files_of_one_name_are_named(passed: Made) -> None:
    table = pd.read_csv(passed.clips / "FileList.csv")
    twin = table[table["FileName"] == "s3.avi"].assign(FileName="s3.mp4")
    pd.concat([table, twin]).to_csv(passed.clips / "FileList.csv", index=False)
    shutil.copy(passed.clips / "Videos" / "s3.avi", passed.clips / "Videos" / "s3.mp4")
    with pytest.raises(InputError, match=r"several of one name: 's3.avi', 's3.mp4'"):
        released(passed)
    assert nothing_was_written(passed)


def test_clips_that_are_gone_are_all_named(passed: Made) -> None:
    for name in ("s1", "s5"):
        (passed.clips / "Videos" / f"{name}.avi").unlink()
    with pytest.raises(Mismatch, match="2 are not there: 's1', 's5'"):
        released(passed)


def test_a_clip_that_nobody_audited_stays_and_is_counted(passed: Made) -> None:
    shutil.copy(passed.clips / "Videos" / "s0.avi", passed.clips / "Videos" / "new.avi")
    with (passed.clips / "FileList.csv").open("a") as file:
        file.write("new.avi,50\n")
    done = released(passed)
    assert (done.clips, done.unaudited) == (6, 1)
    assert not (done.out / "Videos" / "new.avi").exists()


def test_the_same_files_elsewhere_are_the_same(passed: Made, tmp_path: Path) -> None:
    shutil.move(passed.clips, tmp_path / "moved")
    assert released(Made(passed.run, tmp_path / "moved")).clips == 6


def test_two_clips_with_one_id_are_refused(passed: Made) -> None:
    with (passed.clips / "FileList.csv").open("a") as file:
        file.write("s0.avi,50\n")
    with pytest.raises(InputError, match="s0"):
        released(passed)


@pytest.mark.parametrize(
    ("column", "message"),
    [("empty", "only latents of its clips were audited; audit the clips"), ("absent", "older version .*run the same")],
)
def test_an_audit_without_hashes_is_refused(tmp_path: Path, column: str, message: str) -> None:
    made = make(tmp_path, flagged=("s1",), sha256=None)  # it is not asked first for a decision that cannot help
    if column == "absent":
        pd.read_parquet(made.run / "samples.parquet").drop(columns="sha256").to_parquet(made.run / "samples.parquet")
    with pytest.raises(InputError, match=message):
        released(made)


def test_a_lossy_video_says_so_in_dicom(passed: Made) -> None:
    video = passed.clips / "Videos" / "s2.avi"
    write_video(video, frames(2), fps=12.5, codec="mjpeg")
    samples = pd.read_parquet(passed.run / "samples.parquet")
    samples.loc[2, "sha256"] = hashlib.sha256(video.read_bytes()).hexdigest()
    samples.to_parquet(passed.run / "samples.parquet")
    done = released(passed, dicom=True)
    lossy, lossless = (pydicom.dcmread(done.out / "DICOM" / f"s{number}.dcm") for number in (2, 3))
    assert (lossy.LossyImageCompression, lossy.LossyImageCompressionMethod) == ("01", "ISO_10918_1")
    assert float(lossy.LossyImageCompressionRatio) == pytest.approx(frames(2).nbytes / video.stat().st_size, rel=1e-3)
    assert lossless.LossyImageCompression == "00"
    assert "LossyImageCompressionRatio" not in lossless


def test_dicom_files_as_clips_are_refused(passed: Made) -> None:
    done = released(passed, dicom=True)
    shutil.rmtree(passed.clips)
    shutil.move(done.out / "DICOM", passed.clips)
    shutil.rmtree(done.out)
    with pytest.raises(InputError, match=r"found .dcm, whose headers may name patients"):
        released(passed)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: pd.concat([s, s.iloc[:1]]), "two rows of one clip"),
        (lambda s: s.iloc[1:], "has 5 clips, audit.json 6"),
        (lambda s: s.assign(flagged=False), "flags that do not follow from tau"),
        (lambda s: s.assign(flagged=False, p_max=0.0), "flags 0, audit.json 2"),
    ],
)
def test_an_audit_whose_parts_do_not_fit_is_refused(flagged: Made, change: Any, message: str) -> None:
    change(pd.read_parquet(flagged.run / "samples.parquet")).to_parquet(flagged.run / "samples.parquet")
    with pytest.raises(CorruptFile, match=message):
        read_audited(flagged.run)


def test_an_audit_that_was_broken_off_is_refused(passed: Made) -> None:
    write_json(passed.run / "run.json", read_json(passed.run / "run.json") | {"status": "running"})
    with pytest.raises(InputError, match="one that is running"):
        read_audited(passed.run)


# Hostile names


def test_hostile_ids_become_plain_files_and_stay_in_the_provenance(tmp_path: Path) -> None:
    made = make(tmp_path, ids=HOSTILE[1:])
    done = released(made, title="![x](javascript:1) | <script>")
    videos = [path for path in done.out.rglob("*") if path.is_file() and path.parent.name == "Videos"]
    assert len(videos) == len(made.ids)
    for path in videos:
        assert path.parent == done.out / "Videos"
        assert path.stem.replace("-", "").replace("_", "").isalnum()
    record = read_json(done.out / "provenance.json")
    assert {clip["clip_id"] for clip in record["clips"]} == set(made.ids)
    for clip in record["clips"]:
        expected = (made.clips / "Videos" / f"{clip['clip_id']}.avi").read_bytes()
        assert (done.out / clip["files"][0]).read_bytes() == expected
    for name in ("README.md", "FileList.csv", "croissant.json"):
        assert "<img" not in (done.out / name).read_text()
    assert "<script>" not in (done.out / "README.md").read_text().split("---\n", 2)[2]
    assert verify(done.out).problems == []
    assert len(read_croissant(done.out)[1]) == len(made.ids)


def test_release_names_are_plain_and_distinct_whatever_the_ids() -> None:
    digest = release_names(["a/b"])["a/b"]
    ids = [*HOSTILE, "ok_1-A", digest, "", "\ud800", "clip-1"]
    names = release_names(ids)
    assert names["ok_1-A"] == "ok_1-A"
    assert names[digest] != digest
    assert len({name.casefold() for name in names.values()}) == len(ids)
    assert all(name.isascii() and name.replace("-", "").replace("_", "").isalnum() for name in names.values())
    assert release_names(sorted(ids, key=hash)) == names


def test_a_list_that_points_outside_brings_nothing_in(passed: Made) -> None:
    secret = passed.run.parent / "secret.avi"
    write_video(secret, frames(99), fps=12.5, codec="ffv1")
    with (passed.clips / "FileList.csv").open("a") as file:
        file.write("../../secret.avi,50\n")
    done = released(passed)
    assert done.clips == 6
    assert secret.read_bytes() not in [path.read_bytes() for path in done.out.rglob("*.avi")]


# Whole or not at all


def test_an_existing_place_is_never_touched(passed: Made) -> None:
    out = passed.run.parent / "release"
    out.mkdir()
    (out / "thesis.txt").write_text("mine")
    with pytest.raises(OutputConflict, match="choose another --out"):
        released(passed)
    assert (out / "thesis.txt").read_text() == "mine"


def test_a_call_that_breaks_leaves_nothing(passed: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("mnemoscope.release.export.write_documents", stop)
    with pytest.raises(KeyboardInterrupt):
        released(passed)
    assert nothing_was_written(passed)


def test_a_full_disk_leaves_nothing(passed: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(MnemoscopeError, match="the disk is full"):
        released(passed)
    assert nothing_was_written(passed)


# The chain to the generator


def sampled(made: Made) -> Path:
    """The clips as ``mnemoscope sample`` leaves them: a run with latents and clips."""
    from mnemoscope.latents.store import LatentStore

    run = made.run.parent / "sampled"
    shutil.copytree(made.run / "latents-synthetic", run / "latents")
    shutil.copytree(made.clips, run / "clips")
    ef = list(range(6))
    write_json(run / "latents" / "stage.json", {"inputs": {"settings": {}, "models": ["lvdm-key", "lidm-key", ef]}})
    print_of = LatentStore(run / "latents").fingerprint
    write_json(run / "clips" / "stage.json", {"inputs": {"latents": print_of, "vae": "vae-key", "codec": "mjpeg"}})
    config = {"lvdm": "/home/secret/lvdm", "vae": "bundled", "frames": 3, "sampler": "dpm++", "ef": "/home/secret.csv"}
    config |= {"filter": "/home/secret/audit", "class_name": None, "even_classes": False}
    record = {"command": "sample videos", "seed": 7, "config": config, "versions": {}, "git_commit": "abc"}
    write_json(run / "run.json", record)
    return run


def test_clips_of_the_sampler_lead_to_their_generator(passed: Made) -> None:
    run = sampled(passed)
    done = released(Made(passed.run, run / "clips"))
    record = read_json(done.out / "provenance.json")
    assert record["latents_of"] == "generator"
    generator = record["generator"]
    assert (generator["command"], generator["seed"], generator["models"]) == (
        "sample videos",
        7,
        ["lvdm-key", "lidm-key"],
    )
    how = {"frames": 3, "sampler": "dpm++", "even_classes": False}
    assert generator["settings"] == how | {"ef": "a list", "with_filter": True, "with_class_name": False}
    assert all(clip["latent_sha256"] for clip in record["clips"])
    assert "secret" not in json.dumps(record)
    assert "mnemoscope sample videos" in (done.out / "README.md").read_text()


def test_latents_that_are_not_the_clips_are_refused(passed: Made) -> None:
    run = sampled(passed)
    stage = read_json(run / "clips" / "stage.json")
    stage["inputs"]["latents"] = "another"
    write_json(run / "clips" / "stage.json", stage)
    with pytest.raises(Mismatch, match="the latents that the clips were decoded from"):
        released(Made(passed.run, run / "clips"))
