"""From the words of a command to the words of its jobs."""

import pytest

from harness.errors import UserError
from harness.sweeps.plan import combinations, first_combination, read_plan, written


def jobs(*words: str) -> list[tuple[str, ...]]:
    return [job for job, _ in combinations(read_plan(words))]


def mistake(*words: str) -> str:
    with pytest.raises(UserError) as caught:
        jobs(*words)
    return str(caught.value)


def test_every_combination_is_a_job_and_the_last_key_runs_fastest() -> None:
    assert jobs("model=gcn,gat", "data=cora", "seed=range(0,2)") == [
        ("model=gcn", "data=cora", "seed=0"),
        ("model=gcn", "data=cora", "seed=1"),
        ("model=gat", "data=cora", "seed=0"),
        ("model=gat", "data=cora", "seed=1"),
    ]


def test_a_job_knows_its_values_of_the_varied_keys_without_plus_signs() -> None:
    varied = [
        varied for _, varied in combinations(read_plan(["seed=1,2", "+trainer.max_steps=5,6", "mode=fit"]))
    ]
    assert varied[0] == {"seed": "1", "trainer.max_steps": "5"}
    assert varied[3] == {"seed": "2", "trainer.max_steps": "6"}
    assert written(varied[3]) == "seed=2 trainer.max_steps=6"


@pytest.mark.parametrize(
    ("word", "values"),
    [
        ("seed=1,2", ["seed=1", "seed=2"]),
        ("seed=choice(3,1)", ["seed=3", "seed=1"]),
        ("seed=sort(3,1,2)", ["seed=1", "seed=2", "seed=3"]),
        ("seed=range(0,6,2)", ["seed=0", "seed=2", "seed=4"]),
        ("seed=range(3,0,-1)", ["seed=3", "seed=2", "seed=1"]),
        ("model.dropout=range(0,0.4,0.1)", [f"model.dropout={x}" for x in ("0.0", "0.1", "0.2", "0.3")]),
        ("model.dropout=range(0.5,0.2,-0.1)", [f"model.dropout={x}" for x in ("0.5", "0.4", "0.3")]),
        ("hardware.compile=true,false", ["hardware.compile=true", "hardware.compile=false"]),
        ("model.scheduler=null,{name: StepLR}", ["model.scheduler=null", "model.scheduler={name:StepLR}"]),
        ("x=[1,2],[3]", ["x=[1,2]", "x=[3]"]),
        ("x='a b','c,d'", ["x='a b'", "x='c,d'"]),
        ("+x=1,2", ["+x=1", "+x=2"]),
        ("data=glob(co*,exclude=cora)", ["data=coauthor_cs", "data=collab", "data=computers"]),
        ("x=[1,2]", ["x=[1,2]"]),
    ],
)
def test_values_are_listed_as_hydra_lists_them(word: str, values: list[str]) -> None:
    assert [job[0] for job in jobs(word)] == values


def test_shuffled_values_are_the_same_values() -> None:
    assert sorted(jobs("seed=shuffle(range(0,9))")) == [(f"seed={i}",) for i in range(9)]


def test_no_varied_word_makes_one_job() -> None:
    assert list(combinations(read_plan(["model=gat"]))) == [(("model=gat",), {})]


def test_words_of_the_sweep_reach_no_job() -> None:
    plan = read_plan(["sweep=grid", "seed=0,1", "sweep.workers=2", "resume=auto", "paths.runs=/x"])
    assert plan.own == ("sweep=grid", "sweep.workers=2")
    assert plan.resume == "auto"
    assert plan.words == ("seed=0,1", "paths.runs=/x")
    assert plan.fixed == ("paths.runs=/x",)


def test_commands_for_the_same_jobs_share_their_identity() -> None:
    one = read_plan(["model=gat", "seed=0,1", "paths.runs=/x", "sweep.workers=2", "resume=auto"])
    assert one.identity == read_plan(["seed=0,1", "model=gat"]).identity
    assert one.identity != read_plan(["seed=0,1,2", "model=gat"]).identity


def test_identity_and_words_for_a_file_hold_no_secret() -> None:
    plan = read_plan(["seed=0,1", "logger.wandb.api_key=abc"])
    assert "logger.wandb.api_key=***" in plan.identity
    assert plan.masked_words == ["seed=0,1", "logger.wandb.api_key=***"]


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (["seed=0,0"], ["seed=0,0", "0 twice"]),
        (["seed=0,1", "seed=2"], ["seed is given twice"]),
        (["seed=0,1", "seed=2,3"], ["seed is given twice"]),
        (["model.dropout=interval(0,1)"], ["interval(0,1)", "sweep=optuna"]),
        (["seed=range(5,5)"], ["range(5,5)", "is empty"]),
        (["seed=range(0,5,0)"], ["no steps"]),
        (["seed=range(0,1,0.0)"], ["no steps"]),
        (["seed=range(0,20000)"], ["20,000 values", "10,000"]),
        (["x=range(0,1,0.00001)"], ["100,000 values"]),
        (["seed=range(0,200)", "x=range(0,200)"], ["40,000 combinations", "10,000"]),
        (["data=glob(nothing*)"], ["fits none of", "cora"]),
        (["seed=glob(*)"], ["a group", "model, data"]),
        (["sweep.workers=1,2"], ["sweep.workers", "one value"]),
        (["sweep=grid,optuna"], ["share one sweep"]),
        (["resume=a,b"], ["share one resume"]),
        (["paths.runs=a,b"], ["share one paths.runs"]),
        (["~model.dropout=1,2"], ["~model.dropout"]),
        (["seed=range(0"], ["seed=range(0", "left open"]),
        (["seed=range(a,b)"], ["seed=range(a,b)"]),
    ],
)
def test_mistake_is_one_line_with_the_fix(words: list[str], parts: list[str]) -> None:
    message = mistake(*words)
    for part in parts:
        assert part in message


def test_the_first_combination_is_what_a_single_run_would_be_given() -> None:
    assert first_combination(["model=gcn,gat", "seed=3,4"]) == ("model=gcn", "seed=3")
