from dataclasses import replace
from pathlib import Path

from mnemoscope.core.files import write_json
from mnemoscope.core.types import rungs
from mnemoscope.report.differences import ASPECTS, PARTS, differences, facts
from mnemoscope.report.words import NOT_RECORDED
from tests.report import full

KNOWN = {name: "x" for name in ASPECTS}


def test_what_is_the_same_is_not_listed() -> None:
    assert differences([KNOWN, KNOWN]) == []


def test_another_set_forbids_nothing_and_another_percentile_what_follows_from_it() -> None:
    found = differences([KNOWN, KNOWN | {"synthetic clips": "y"}, KNOWN | {"percentile": "99"}])
    assert [part.name for part in found] == ["percentile", "synthetic clips"]
    percentile, synthetic = found
    assert percentile.values == ["x", "x", "99"]
    assert percentile.told == "closeness to patients, what would be noticed"
    assert percentile.forbidden("privacy.flag_rate", 2)
    assert not percentile.forbidden("privacy.flag_rate", 1)
    assert not percentile.forbidden("recall.irs", 2)
    assert (synthetic.forbids, synthetic.told) == ((), "nothing")
    assert not any(synthetic.forbidden(f"{name}.x", 1) for name in PARTS)


def test_other_patients_or_another_model_forbid_what_rests_on_them() -> None:
    train, holdout, model = (
        differences([KNOWN, KNOWN | {name: "y"}])[0]
        for name in ("training clips", "holdout clips", "re-identification model")
    )
    assert [train.forbidden(f"{name}.x", 1) for name in ("privacy", "recall", "power", "reid", "labels")] == [
        *(True, True, True),
        *(False, False),
    ]
    assert holdout.forbidden("reid.auc", 1)
    # Another model's recognition is what one may want to compare.
    assert not model.forbidden("reid.auc", 1)
    assert model.forbidden("consistency.jumping", 1)


def test_other_numbers_of_clips_forbid_what_grows_or_rests_on_them(tmp_path: Path) -> None:
    first = full.result()
    assert first.recall is not None
    assert first.recall.matched is not None
    assert first.power is not None
    few = {name: replace(rung, copies=40) for name, rung in rungs(first.power).items()}
    matched = replace(first.recall.matched, n=31)
    second = replace(
        first,
        recall=replace(first.recall, matched=matched),
        power=few,
        sets=first.sets | {"synthetic": replace(first.sets["synthetic"], clips=31)},
    )
    known = []
    for name, result, probed in (("a", first, 60), ("b", second, 20)):
        write_json(tmp_path / name / "run.json", {"config": {"probe_clips": probed}})
        known.append(facts(tmp_path / name, result))
    found = {part.name: part for part in differences(known) if part.values[0] != part.values[1]}
    assert found["probe clips"].values == ["60", "20"]
    assert found["copies planted"].values == ["200", "40"]
    assert found["clips compared at"].values == ["1277", "31"]
    forbidden = ("probes.unchanged.shift", "power.gain.tpr", "recall.matched.holdout", "recall.coverage_goodturing")
    assert [any(part.forbidden(number, 1) for part in found.values()) for number in (*forbidden, "recall.irs")] == [
        *(True, True, True, True),
        False,
    ]


def test_every_part_that_is_forbidden_has_a_name_in_words() -> None:
    assert {part for forbids, _ in ASPECTS.values() for part in forbids} == set(PARTS)


def test_what_a_folder_does_not_say_is_not_recorded(tmp_path: Path) -> None:
    result = full.result()
    known = facts(tmp_path, result)
    assert list(known) == list(ASPECTS)
    assert known["training clips"] == "7,465 clips (not recorded)"
    assert known["tau"] == "6.004"
    assert (known["seed"], known["preset"]) == (NOT_RECORDED, NOT_RECORDED)
    found = differences([known, known])
    assert {part.name for part in found} == {
        *("training clips", "holdout clips", "re-identification model"),
        *("frames compared", "gate percentile", "probe clips"),
    } - ({"frames compared"} if result.gallery else set())
    assert not any(part.forbids for part in found)
    write_json(tmp_path / "run.json", {"seed": 3, "config": {"preset": "paper", "gate_percentile": None}})
    known = facts(tmp_path, replace(result, privacy=None))
    assert (known["seed"], known["preset"], known["gate percentile"]) == ("3", "paper", "None")
    assert known["tau"] == NOT_RECORDED
