from __future__ import annotations

from dataclasses import replace
from datetime import date
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fm_platform.lineage import configs, recipes, training_recipes
from fm_platform.lineage.database import now
from fm_platform.lineage.records import Head, Recipe
from fm_platform.spec.models import ProjectSpec

SOURCES = ("tweets", "nyt")


def make_spec(**changes: Any) -> ProjectSpec:
    fields: dict[str, Any] = {
        "name": "shop",
        "taxonomy": {"classes": ["good", "bad"]},
        "calendar": {"start": "2026-01-01"},
        "sources": [{"name": name, "options": {"path": f"{name}.csv"}} for name in SOURCES],
        "experts": [{"name": name, "sources": [name]} for name in SOURCES],
    }
    return ProjectSpec(**{**fields, **changes})


def head(kind: str, content: str, day: str | None = None, **changes: Any) -> Head:
    fields: dict[str, Any] = {
        "id": 1, "kind": kind, "name": kind, "partition": day, "recipe_hash": "r",
        "content_hash": content, "inputs_hash": "i", "code": "c", "environment": "e",
        "seed": None, "parts": {}, "rows": 5, "created_at": now(),
    }  # fmt: skip
    return Head(**{**fields, **changes})


def cleaned(day: str, **parts: str) -> Head:
    return head("cleaned", f"all of {sorted(parts.items())}", day, parts=parts)


RAW = head("raw", "raw 1", "2026-01-01", parts={"gold": "g1"})
START = head("start", "start", name="shared_start")
VOTES = [head("votes", f"v{n}", "2026-01-01", name=f"f{n}") for n in range(3)]
MODEL = head("label_model", "m", "2026-01-01")
LABELS = head("weak_labels", "w", "2026-01-01", parts={"train": "1", "dev": "2", "test": "3"})
DAYS = [cleaned("2026-01-01", tweets="t1", nyt="n1", dev="d1"), cleaned("2026-01-02", tweets="t2")]


def all_recipes(spec: ProjectSpec) -> dict[str, Recipe]:
    adapters = [head("adapter", name, name=name) for name in SOURCES]
    merged = head("merged_model", "dense")
    needs = ("gold", "votes")
    extra = recipes.learned_inputs("2026-01-01", needs, head("embeddings", "e"), "x", VOTES)
    return {
        "raw": recipes.raw_recipe(spec, "2026-01-01", {"tweets": "1", "nyt": "2"}),
        "embeddings": recipes.embeddings_recipe(spec, "2026-01-01", RAW, "base"),
        "votes": recipes.votes_recipe(spec, "2026-01-01", "f", "print", RAW),
        "learned": recipes.votes_recipe(spec, "2026-01-01", "g", "print", RAW, extra),
        "label_model": recipes.label_model_recipe(spec, "2026-01-01", VOTES, "gold"),
        "weak_labels": recipes.weak_labels_recipe(spec, "2026-01-01", RAW, VOTES, MODEL),
        "cleaned": recipes.cleaned_recipe(spec, "2026-01-01", LABELS, "seen"),
        "start": training_recipes.start_recipe(spec, DAYS, "base"),
        "adapter": training_recipes.adapter_recipe(spec, spec.experts[0], DAYS, START),
        "merged_model": training_recipes.merged_recipe(spec, adapters, START, DAYS, "base"),
        "evaluation": recipes.evaluation_recipe(
            spec, merged, START, adapters, None, [LABELS], [RAW]
        ),
    }


def rebuilt_by(**changes: Any) -> set[str]:
    before, after = all_recipes(make_spec()), all_recipes(make_spec(**changes))
    return {name for name in before if before[name].hash != after[name].hash}


MODELS = {"start", "adapter", "merged_model"}
EVERYTHING = {
    "raw", "votes", "learned", "label_model", "weak_labels", "cleaned", "start", "adapter",
    "merged_model", "evaluation",
}  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "rebuilt"),
    [
        ({"schedule": {"cron": "1 1 * * *"}}, set()),
        ({"owners": ("team:other",)}, set()),
        ({"calendar": {"start": "2026-01-01", "end": "2026-02-01"}}, set()),
        ({"description": "another"}, {"merged_model"}),
        ({"gold": {"dev_rows_per_source": 10}}, set()),  # the rows themselves are an input
        ({"contract": {"columns": {"text": {"max_chars": 9}}}}, {"raw"}),
        ({"split": {"salt": "other"}}, {"raw"}),
        ({"labeling": {"label_model": {"smoothing": 2.0}}}, {"label_model"}),
        ({"labeling": {"label_model": {"window_days": 3}}}, set()),  # its days are inputs
        ({"labeling": {"minimum_coverage": 0.1}}, {"weak_labels"}),
        ({"cleaning": [{"rule": "length", "min_chars": 9}]}, {"cleaned"}),
        ({"training": {"epochs": 2}}, MODELS),
        ({"training": {"seed": 1}}, {"learned", *MODELS}),
        ({"training": {"max_tokens": 64}}, {"embeddings", *MODELS, "evaluation"}),
        ({"training": {"window_days": 5}}, set()),
        ({"training": {"checkpoint_every_steps": 5}}, set()),
        ({"training": {"loss": "generalised"}}, MODELS),
        ({"training": {"weights": "source"}}, MODELS),
        ({"training": {"subset": 0.5}}, MODELS),
        ({"training": {"loss_q": 0.2, "subset_by": "certainty"}}, set()),  # of nothing declared
        ({"training": {"auto": {"losses": ["soft", "generalised"]}}}, set()),
        ({"training": {"narrow_gap": {}}}, MODELS),
        ({"merge": {"method": "ties"}}, {"merged_model"}),
        ({"merge": {"density": 0.1}}, set()),  # linear merging has no density
        ({"merge": {"evidence": "weak"}}, {"merged_model"}),
        ({"gate": {"tolerance": 0.1}}, {"evaluation"}),
        ({"gate": {"constraints": {"latency": {"at_most_ms": 9}}}}, {"evaluation"}),
        ({"gate": {"constraints": {"confidence": 0.9}}}, {"evaluation"}),
        ({"evaluation": {"seed": 4}}, {"evaluation"}),
        ({"taxonomy": {"classes": ["bad", "good"]}}, EVERYTHING),
    ],
    ids=lambda value: str(sorted(value) if isinstance(value, set) else value)[:40],
)
def test_setting_rebuilds_what_it_matters_to(changes: dict[str, Any], rebuilt: set[str]) -> None:
    assert rebuilt_by(**changes) == rebuilt


def test_equal_specs_give_equal_recipes() -> None:
    assert rebuilt_by() == set()


def test_options_of_a_source_count_where_it_is_read() -> None:
    spec = make_spec(sources=[{"name": "tweets", "options": {"path": "b.csv"}}, {"name": "nyt"}])

    def raw(of: ProjectSpec, *names: str) -> str:
        return recipes.raw_recipe(of, "2026-01-01", dict.fromkeys(names, "1")).hash

    assert raw(spec, "tweets") != raw(make_spec(), "tweets")
    assert raw(make_spec(sources=[{"name": "tweets"}, {"name": "new"}]), "tweets") == raw(
        make_spec(sources=[{"name": "tweets"}]), "tweets"
    )


def test_options_with_dates_can_be_recorded() -> None:
    spec = make_spec(sources=[{"name": "tweets", "options": {"from": date(2026, 1, 1)}}])
    recipe = recipes.raw_recipe(spec, "2026-01-01", {"tweets": "1"})

    assert recipe.config["sources"]["tweets"]["options"] == {"from": "2026-01-01"}


# --- adapters read exactly the rows of their sources ----------------------------------------


def adapter(days: list[Head], start: Head = START) -> Recipe:
    spec = make_spec()
    return training_recipes.adapter_recipe(spec, spec.experts[1], days, start)  # nyt


def test_adapter_ignores_other_sources() -> None:
    assert adapter(DAYS).hash == adapter([cleaned("2026-01-01", tweets="x", nyt="n1")]).hash


def test_day_without_its_rows_does_not_touch_an_adapter() -> None:
    assert adapter(DAYS).hash == adapter(DAYS[:1]).hash
    assert [i.part for i in adapter(DAYS).inputs] == ["nyt", None]


def test_adapter_follows_its_own_rows_and_the_start() -> None:
    other_rows = [cleaned("2026-01-01", nyt="n2")]
    other_start = replace(START, content_hash="other")

    assert len({adapter(DAYS).hash, adapter(other_rows).hash, adapter(DAYS, other_start).hash}) == 3


@given(st.lists(st.sampled_from(["tweets", "nyt"]), max_size=6), st.randoms())
def test_only_days_with_rows_count(held: list[str], rng: Any) -> None:
    days = [cleaned(f"2026-01-{n + 1:02}", **{name: f"{name} {n}"}) for n, name in enumerate(held)]
    relevant = [day for day in days if "nyt" in day.parts]
    shuffled = rng.sample(days, len(days))

    assert adapter(days).hash == adapter(relevant).hash == adapter(shuffled).hash


def test_empty_days_are_no_input_of_the_start() -> None:
    spec = make_spec()
    empty = head("cleaned", "nothing", "2026-01-03", rows=0)

    assert (
        training_recipes.start_recipe(spec, [*DAYS, empty], "base").hash
        == training_recipes.start_recipe(spec, DAYS, "base").hash
    )


# --- label models, merges, evaluations ------------------------------------------------------


def test_label_model_follows_its_votes_and_its_gold() -> None:
    spec = make_spec()
    other = [*VOTES[:2], replace(VOTES[2], content_hash="edited")]
    made = {
        recipes.label_model_recipe(spec, "2026-01-01", votes, gold).hash
        for votes, gold in ((VOTES, "a"), (VOTES, "b"), (other, "a"), (VOTES[:2], "a"))
    }

    assert len(made) == 4


def test_order_of_functions_counts_where_votes_stand_in_order() -> None:
    spec = make_spec()
    turned = VOTES[::-1]

    for recipe in (
        lambda votes: recipes.label_model_recipe(spec, "2026-01-01", votes, "g"),
        lambda votes: recipes.weak_labels_recipe(spec, "2026-01-01", RAW, votes, MODEL),
    ):
        assert recipe(VOTES).hash != recipe(turned).hash


def test_dev_rows_count_where_weights_are_searched() -> None:
    adapters = [head("adapter", name, name=name) for name in SOURCES]
    fixed = make_spec(merge={"weights": {"tweets": 0.5, "nyt": 0.5}})

    def roles(spec: ProjectSpec) -> set[str]:
        recipe = training_recipes.merged_recipe(spec, adapters, START, DAYS, "base")
        return {item.role for item in recipe.inputs}

    assert roles(make_spec()) - roles(fixed) == {"dev"}


def test_gold_rows_count_where_they_decide_among_merges() -> None:
    spec = make_spec()
    adapters = [head("adapter", expert.name, name=expert.name) for expert in spec.experts]
    one, two = (
        training_recipes.merged_recipe(spec, adapters, START, DAYS, "base", gold).hash
        for gold in "ab"
    )

    assert training_recipes.decides_by_gold(spec) == (len(spec.experts) > 1)
    assert not training_recipes.decides_by_gold(make_spec(merge={"evidence": "weak"}))
    assert not training_recipes.decides_by_gold(make_spec(merge={"search": "similar"}))
    assert one != two


def test_what_similar_reads_counts_where_it_is_declared() -> None:
    def settings(**merge: object) -> set[str]:
        return set(configs.merged_model(make_spec(merge=merge))["merge"])

    assert not {"towards", "similarity", "search"} & settings()
    assert settings(search="similar") - settings() == {"towards", "similarity", "search"}
    assert settings() - settings(search="similar") == {"evidence", "scales"}


def test_a_mask_counts_where_one_is_trained() -> None:
    def settings(**training: object) -> set[str]:
        return set(configs.training(make_spec(training=training)))

    assert settings(method="fish") - settings() == {"method", "mask_share", "mask_rows"}
    assert settings(method="full") - settings() == {"method", "full_learning_rate"}


def test_evaluation_reads_test_rows_and_gold_only() -> None:
    recipe = all_recipes(make_spec())["evaluation"]

    assert {(i.role, i.part, i.content_hash) for i in recipe.inputs if i.part} == {
        ("weak_labels", "test", "3"), ("gold", "gold", "g1"),
    }  # fmt: skip


def test_constraints_that_are_not_declared_are_in_no_recipe() -> None:
    """What a project without them computed stays as it is."""
    sized = all_recipes(make_spec(gate={"constraints": {"size_mb": 9}}))

    assert "constraints" not in all_recipes(make_spec())["evaluation"].config["gate"]
    assert sized["evaluation"].config["gate"]["constraints"] == {
        "largest_gap": [], "false_positives": [], "size_mb": 9.0,
    }  # fmt: skip
    assert "narrow_gap" not in sized["start"].config["training"]


def test_compared_slices_and_what_they_look_at_count() -> None:
    slices = [
        {"name": name, "column": "word_count", "operator": sign, "value": 9}
        for name, sign in (("short", "<"), ("long", ">="), ("never", ">="))
    ]
    gap = {"between": ["long", "short"], "at_most": 0.1}
    alone = all_recipes(make_spec(slices=slices))["evaluation"]
    found = all_recipes(
        make_spec(slices=slices, gate={"constraints": {"largest_gap": [gap]}})
    )["evaluation"]  # fmt: skip

    assert alone.hash == all_recipes(make_spec())["evaluation"].hash
    assert [one["name"] for one in found.config["gate"]["slices"]] == ["short", "long"]
    assert ("slices", "raw 1") in {(i.role, i.content_hash) for i in found.inputs}


def test_champion_is_an_input_of_the_evaluation() -> None:
    spec = make_spec()
    merged, champion = head("merged_model", "new"), head("merged_model", "old")
    with_champion = recipes.evaluation_recipe(spec, merged, START, [], champion, [], [])

    without = recipes.evaluation_recipe(spec, merged, START, [], None, [], [])
    assert with_champion.hash != without.hash


# --- summaries ------------------------------------------------------------------------------


def test_gold_key_follows_gold_rows_and_budget_alone() -> None:
    spec = make_spec()
    other_text = replace(RAW, content_hash="other text, same gold")
    key = recipes.gold_key(spec, [RAW])

    assert recipes.gold_key(spec, [other_text]) == key
    assert recipes.gold_key(spec, [replace(RAW, parts={"gold": "g2"})]) != key
    assert recipes.gold_key(make_spec(gold={"dev_rows_per_source": 3}), [RAW]) != key
    assert recipes.gold_key(spec, [RAW, replace(RAW, partition="2026-01-02", parts={})]) == key
    other_classes = make_spec(taxonomy={"classes": ["good", "bad", "spam"]})
    assert recipes.gold_key(other_classes, [RAW]) != key


def test_seen_key_follows_today_and_the_days_before() -> None:
    spec = make_spec()
    keys = {
        recipes.seen_key(spec, labels, before)
        for labels, before in (
            (LABELS, [RAW]),
            (LABELS, []),
            (replace(LABELS, content_hash="other"), [RAW]),
            (LABELS, [replace(RAW, content_hash="other")]),
        )
    }

    assert len(keys) == 4
    assert recipes.seen_key(spec, LABELS, [RAW, replace(RAW, rows=0)]) in keys


@pytest.mark.parametrize(
    ("needs", "roles"),
    [
        (("gold",), ["embeddings", "gold"]),
        (("votes",), ["embeddings", "votes", "votes", "votes"]),
        (("gold", "votes"), ["embeddings", "exemplars", "votes", "votes", "votes"]),
    ],
)
def test_a_function_reads_what_it_learns_from(needs: tuple[str, ...], roles: list[str]) -> None:
    votes = VOTES if "votes" in needs else []

    inputs = recipes.learned_inputs("2026-01-01", needs, head("embeddings", "e"), "x", votes)

    assert [item.role for item in inputs] == roles


def test_exemplars_key_follows_gold_and_votes() -> None:
    votes = {"2026-01-01": recipes.votes_key(VOTES)}

    assert recipes.votes_key(VOTES) == recipes.votes_key(VOTES[::-1])
    assert len(
        {
            recipes.exemplars_key("g", votes),
            recipes.exemplars_key("h", votes),
            recipes.exemplars_key("g", {}),
            recipes.exemplars_key("g", {"2026-01-01": recipes.votes_key(VOTES[:1])}),
        }
    ) == 4  # fmt: skip


def test_spec_itself_is_an_artifact() -> None:
    assert recipes.spec_recipe(make_spec()).hash == recipes.spec_recipe(make_spec()).hash
    assert (
        recipes.spec_recipe(make_spec(schedule={"cron": "1 1 * * *"})).hash
        != recipes.spec_recipe(make_spec()).hash
    )


def test_code_and_packages_can_be_told_from_a_record() -> None:
    """What a version was made with is compared by its kind and its inputs."""
    spec = make_spec(evaluation={"router": True})
    routed = recipes.evaluation_recipe(
        spec, head("merged_model", "dense"), START, [], None, [LABELS], [RAW], DAYS
    )
    learning = all_recipes(make_spec(cleaning=[{"rule": "label_noise"}]))["cleaned"]
    for recipe in (*all_recipes(make_spec()).values(), routed, learning):
        kind = recipes.works_as(recipe.kind, (item.role for item in recipe.inputs))
        assert recipe.code == recipes.code_version(kind, recipe.config), recipe.kind
        assert recipe.environment == recipes.environment_of(kind, recipe.config), recipe.kind
    assert learning.environment != all_recipes(make_spec())["cleaned"].environment
    assert routed.environment != all_recipes(spec)["evaluation"].environment
