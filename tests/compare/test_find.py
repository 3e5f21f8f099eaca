"""What a word may mean, and what is said when it means nothing."""

import json
import struct
from dataclasses import replace
from pathlib import Path

import pytest

from rlhf.compare import find, wandb_run
from rlhf.compare.seeds import HOPELESS
from rlhf.fault import Fault
from rlhf.result import Result, Status
from tests.compare.made import curve, run

KL = "ppo.kl_coef"


def trial(study: Path, name: str, folder: Path, overrides: list[str], status: Status = Status.finished) -> Path:
    path = study / "trials" / name
    path.mkdir(parents=True)
    seed = next((int(text[5:]) for text in overrides if text.startswith("seed=")), 1)
    metrics = {"reward/gain": float(overrides[0].partition("=")[2]) * 10}
    result = Result(status, "ppo", "tiny", "", "", metrics=metrics, seed=seed, folder=str(folder))
    (path / "result.json").write_text(result.to_json())
    (path / "config.yaml").write_text((folder / "config.yaml").read_text())
    (path / "overrides.txt").write_text("\n".join([*overrides, f"tracker.group={name}"]) + "\n")
    return path


@pytest.fixture
def study(tmp_path: Path) -> Path:
    """Ten settings under two seeds, a failed one, and one that reused the run of another."""
    made = tmp_path / "studies" / "coefficients"
    for number in range(10):
        value = round(0.1 * (number + 1), 1)
        for seed in (1, 2):
            folder = run(tmp_path / "runs" / f"ppo-{number}-{seed}", {KL: value, "seed": seed})
            trial(made, f"{number:04d}/{seed}", folder, [f"{KL}={value}", f"seed={seed}"])
        (made / "trials" / f"{number:04d}" / "result.json").write_text("{}")
    trial(made, "0010", tmp_path / "runs" / "ppo-0-1", [f"{KL}=9.0"], Status.failed)
    trial(made, "0011", tmp_path / "runs" / "ppo-0-1", [f"{KL}=0.1", "seed=1"])
    return made


def test_a_study_is_its_best_settings_with_all_their_seeds(study: Path) -> None:
    subjects, notes = find.subjects([str(study)], None)
    assert len(subjects) == 16 and subjects[0].config[KL] == "1.0"  # the most gain first
    assert subjects[0].name == "coefficients/0009/1" and subjects[0].swept == {KL, "seed"}
    assert notes == ["coefficients: the best 8 of 10 settings; --best N takes another number"]
    assert [each.config[KL] for each in find.subjects([str(study)], 1)[0]] == ["1.0", "1.0"]


def test_the_best_of_a_study_are_those_by_its_own_objectives_and_constraints(study: Path) -> None:
    gain, book = {"metric": "reward/gain", "direction": "minimize"}, study / "study.json"
    book.write_text(json.dumps({"objectives": [gain], "constraints": []}))
    assert [each.config[KL] for each in find.subjects([str(study)], 1)[0]] == ["0.1", "0.1"]
    book.write_text(json.dumps({"objectives": [gain], "constraints": ["reward/gain >= 4.5"]}))
    assert [each.config[KL] for each in find.subjects([str(study)], 2)[0]] == ["0.5", "0.5", "0.6", "0.6"]
    steps = {"metric": "time/seconds", "direction": "maximize"}
    for number in range(10):  # the study's own mean over seeds, in which the fifth takes the most
        joint = Result(
            Status.finished, "ppo", "tiny", "", "", metrics={"reward/gain": number + 1.0}, seconds=-abs(number - 4.0)
        )
        (study / "trials" / f"{number:04d}" / "result.json").write_text(joint.to_json())
    book.write_text(json.dumps({"objectives": [steps, gain], "constraints": []}))
    found = find.subjects([str(study)], 6)[0]  # 0.1 to 0.5 beat all others, the longest first; 0.6 is the best of the rest
    assert [each.config[KL] for each in found][::2] == ["0.5", "0.4", "0.3", "0.2", "0.1", "0.6"]
    book.write_text("[]")
    assert [each.config[KL] for each in find.subjects([str(study)], 1)[0]] == ["1.0", "1.0"]


def test_trials_of_a_record_that_was_moved_away_are_compared_only_by_name(study: Path) -> None:
    book = study / "study.json"
    book.write_text(json.dumps({"trials": [{"number": 3}, {"number": 4}]}))
    subjects, notes = find.subjects([str(study), str(study / "trials" / "0007" / "1")], None)
    kept = [f"coefficients/{name}" for name in ("0003/1", "0003/2", "0004/1", "0004/2", "0007/1")]
    assert [each.name for each in subjects] == kept and notes == []


def test_settings_under_several_numbers_of_seeds_are_ranked_as_their_study_ranks_them(study: Path) -> None:
    gains = {0: {1: 9.0}, 1: {1: 9.1, 2: 0.0}, 2: {1: 9.5, 2: 0.0}}  # all others are below
    for number in range(10):
        for seed in (1, 2):
            path = study / "trials" / f"{number:04d}" / str(seed) / "result.json"
            gain = gains.get(number, {1: 1.0, 2: 1.0}).get(seed)
            if gain is None:
                path.unlink()
            else:
                path.write_text(replace(Result.load(path), metrics={"reward/gain": gain}).to_json())
    (study / "trials/0011/result.json").unlink()
    whole = Result(Status.finished, "ppo", "tiny", "", "", message=f"mean of 2 seeds of 3: {HOPELESS}")
    joint = replace(whole, metrics={"reward/gain": 4.75})
    (study / "trials/0002/result.json").write_text(joint.to_json())
    found = [each.config[KL] for each in find.subjects([str(study)], 10)[0]]
    assert list(dict.fromkeys(found))[:2] == ["0.2", "0.1"] and found[-1] == "0.3"


def test_a_trial_is_its_run(study: Path) -> None:
    subjects, _ = find.subjects([str(study / "trials" / "0003"), str(study / "trials" / "0004" / "2")], None)
    assert [each.name for each in subjects] == ["coefficients/0003/1", "coefficients/0003/2", "coefficients/0004/2"]
    assert subjects[0].source.endswith("ppo-3-1")
    with pytest.raises(Fault, match="this trial has no config.yaml and result.json yet"):
        (study / "trials" / "0099").mkdir()
        find.subjects([str(study / "trials" / "0099")], None)


def test_a_run_is_found_by_the_beginning_of_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run(tmp_path / "outputs" / "runs" / "ppo-tiny-01")
    run(tmp_path / "outputs" / "runs" / "sft-tiny-02", stage="sft")
    monkeypatch.chdir(tmp_path)
    assert [each.name for each in find.subjects(["ppo", "sft-tiny-02"], None)[0]] == ["ppo-tiny-01", "sft-tiny-02"]


def test_words_that_mean_nothing_are_refused(tmp_path: Path) -> None:
    one = str(run(tmp_path / "a"))
    with pytest.raises(Fault, match="is not the folder of a run"):
        find.subjects([one, "nothing"], None)
    with pytest.raises(Fault, match="takes two runs or more .a alone was found"):
        find.subjects([one], None)
    with pytest.raises(Fault, match="is named twice"):
        find.subjects([one, one], None)
    with pytest.raises(Fault, match="is named twice"):
        find.subjects([one, f"{one}/../a"], None)
    (tmp_path / "empty" / "trials").mkdir(parents=True)
    with pytest.raises(Fault, match="no trial of this study has finished"):
        find.subjects([str(tmp_path / "empty")], None)


def test_published_curves_stand_beside_a_run_of_their_stage(tmp_path: Path) -> None:
    one = str(run(tmp_path / "a", {"ppo.batch_size": 64}))
    subjects, _ = find.subjects([one, "published:ds_chat"], None)
    assert subjects[1].name == "published ds_chat_opt1.3b_16xv100" and subjects[1].stage == "ppo"
    assert subjects[1].metrics["objective/scores"] == 4.46
    assert "objective/scores" in subjects[1].rows[0] and subjects[1].rows[0]["round"] == 1600
    with pytest.raises(Fault, match="there are no such curves; there are published:ds_chat_opt1.3b_16xv100"):
        find.subjects([one, "published:other"], None)
    with pytest.raises(Fault, match="name a run of one of these stages beside it"):
        find.subjects([str(run(tmp_path / "p", stage="pretrain")), "published:ds_chat"], None)


def wandb_file(folder: Path, rows: list[dict[str, object]], padding: int = 0) -> Path:
    """An offline run as W&B writes it: records in pieces in blocks of 32 KiB."""
    from wandb.proto.wandb_internal_pb2 import Record

    first = Record()
    first.run.run_id = "ppo-tiny-0123"
    config = {"stage": "ppo", "seed": 3, "ppo": {"kl_coef": 0.2, "batch_size": 8}, "note": "x" * padding}
    for key, value in config.items():
        first.run.config.update.add(key=key, value_json=json.dumps(value))
    records = [first]
    for row in rows:
        records.append(Record())
        for key, value in row.items():
            records[-1].history.item.add(nested_key=[key], value_json=json.dumps(value))
    last = Record()
    for key, value in {
        "status": "finished",
        "reward/gain": 2.0,
        "run/seconds": 9.0,
        "_step": 7,
        "eval/response/x": 1.0,
    }.items():
        last.summary.update.add(key=key, value_json=json.dumps(value))
    content = b":W&B\xe1\xbe\x00"
    for record in [*records, last]:
        left, begun = record.SerializeToString(), False
        while left or not begun:
            room = 32768 - len(content) % 32768
            if room < 7:
                content += b"\0" * room
                continue
            piece, left = left[: room - 7], left[room - 7 :]
            kind = (1 if not left else 2) if not begun else (4 if not left else 3)
            content, begun = content + struct.pack("<IHB", 0, len(piece), kind) + piece, True
    folder.mkdir()
    path = folder / "run-ppo-tiny-0123.wandb"
    path.write_bytes(content)
    return path


def test_an_offline_run_of_wandb_is_read_from_its_file(tmp_path: Path) -> None:
    rows = [
        {"progress/round": 0, "reward/gain": 0.0, "eval/response/length_mean": 5.0, "_runtime": 1.5, "_step": 0},
        {"progress/round": 1, "loss": 0.5, "progress/tokens": 100, "_runtime": 2.5, "_step": 1},
        {"progress/round": 1, "samples": "a table", "_runtime": 2.6},
    ]
    path = wandb_file(tmp_path / "offline-run-1", rows, padding=100_000)
    found, beside = find.subjects([str(path.parent), str(run(tmp_path / "ppo"))], None)[0]
    assert (found.name, found.stage, found.seed, found.status) == ("ppo-tiny-0123", "ppo", 3, "finished")
    assert found.config[KL] == "0.2" and found.samples_a_round == 8.0
    assert found.metrics == {"reward/gain": 2.0, "run/seconds": 9.0}
    assert found.rows[0] == {"kind": "eval", "seconds": 1.5, "round": 0, "reward/gain": 0.0, "response/length_mean": 5.0}
    assert found.rows[1]["kind"] == "train" and len(found.rows) == 2
    assert beside.name == "ppo"
    path.write_bytes(path.read_bytes()[:-5])  # killed while it wrote: what came before is there
    assert wandb_run.offline(path).status == "not ended" and len(wandb_run.offline(path).rows) == 2


def test_a_file_without_a_run_is_refused(tmp_path: Path) -> None:
    (tmp_path / "run-x.wandb").write_bytes(b":W&B\xe1\xbe\x00")
    with pytest.raises(Fault, match="holds no run of W&B"):
        find.subjects([str(tmp_path), str(run(tmp_path / "b"))], None)


def test_the_server_is_asked_only_with_a_login(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("wandb.login", lambda **_: False)
    with pytest.raises(Fault, match="nobody is logged in"):
        find.subjects(["wandb:me/project/id"], None)
    with pytest.raises(Fault, match="write wandb:ENTITY/PROJECT/RUN_ID"):
        find.subjects(["wandb:id"], None)


def test_a_server_that_does_not_answer_is_a_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(**_: object) -> None:
        raise ConnectionError("no route to host\nand more")

    monkeypatch.setattr("wandb.login", lambda **_: True)
    monkeypatch.setattr("wandb.Api", refused)
    with pytest.raises(Fault, match=r"wandb:me/project/id: W&B did not hand it out \(no route to host\)"):
        find.subjects(["wandb:me/project/id"], None)


def test_what_the_server_holds_is_read_like_a_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    class Held:
        id = "ppo-tiny-9"
        config = {"stage": "ppo", "seed": 1, "ppo": {"kl_coef": 0.3, "batch_size": 4}}
        summary = {"reward/gain": 1.0, "status": "finished", "run/commit": "abc"}

        def scan_history(self) -> list[dict[str, object]]:
            return [{"progress/round": at, "reward/gain": float(at), "_runtime": at} for at in (0, 1)]

    monkeypatch.setattr("wandb.login", lambda **_: True)
    monkeypatch.setattr("wandb.Api", lambda timeout: type("Api", (), {"run": lambda self, place: Held()})())
    found = find.subjects(
        ["wandb:me/project/ppo-tiny-9", str(run(tmp_path / "a", rows=curve("reward/gain", [(0, 0.0)])))], None
    )
    assert found[0][0].source == "wandb:me/project/ppo-tiny-9" and found[0][0].facts == {"commit": "abc"}
    assert [row["reward/gain"] for row in found[0][0].rows] == [0.0, 1.0]
