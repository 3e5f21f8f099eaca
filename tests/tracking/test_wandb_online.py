"""Weights & Biases as a sink, online: what arrives at a stand-in for its server."""

from dataclasses import replace

from rlhf.tracking.about import About
from tests.tracking.logged import tracked
from tests.tracking.wandb_kept import Server


def test_what_was_logged_arrives(told: About, server: Server) -> None:
    tracked(replace(told, config={"ppo": {"kl_coef": 0.1}, "trial": 3, "swept": {"ppo_kl_coef": 0.1, "lora": "dim8"}}))
    (run,) = server.runs.values()
    assert (run.id, run.project, run.exit_code) == ("ppo-opt1_3b-01234567", "test", 0)
    assert (run.about["groupName"], run.about["jobType"], run.about["displayName"]) == ("a-study", "ppo", "ppo-tiny-s1-0123")
    assert set(run.about["tags"]) == {"tiny", "extra"}
    assert run.config == {"ppo": {"kl_coef": 0.1}, "trial": 3, "swept": {"ppo_kl_coef": 0.1, "lora": "dim8"}}
    assert [row["_step"] for row in run.lines] == [0, 1, 2]
    assert run.table("samples")["data"] == [[0, "a", "b", 0.5]]
    assert server.unknown == []


def test_the_summary_is_what_a_study_judges(told: About, server: Server) -> None:
    tracked(told)
    summary = server.runs["ppo-opt1_3b-01234567"].summary
    judged = {"reward/gain": 0.25, "time/seconds": 12.5, "mem/peak_gib": 1.5}  # numbers at the top, which panels can draw
    assert {name: summary[name] for name in judged} == judged
    assert summary["response/length_mean"] == 5.0  # held out, as in result.json, and not the last one of training


def test_a_run_that_goes_on_behind_its_checkpoint_has_each_step_once(told: About, server: Server) -> None:
    tracked(told)
    tracked(replace(told, first_round=1))  # it was killed after round 2
    run = server.runs["ppo-opt1_3b-01234567"]
    assert [row["_step"] for row in run.lines] == [0, 1, 2, 3]
    assert run.steps("loss") == [1, 2, 3]
    assert run.sessions == 2
