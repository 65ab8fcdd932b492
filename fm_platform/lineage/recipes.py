"""One recipe a stage: pure functions of the spec and the upstream versions.

A recipe's config is only the part of the spec that matters to that artifact, so a change of the
schedule rebuilds nothing. Inputs are named as finely as they are read: the rows of one source of
one day, the test rows, the dev rows. Days that hold nothing to read are no input. Code is named
as text: nothing heavy is imported here.

Three inputs are summaries of rows rather than artifacts (`gold`, `exemplars`, `seen`). Their
hashes follow from recorded content, so the ledger keeps them by the keys that `gold_key`,
`exemplars_key` and `seen_key` give: `ledger.derive(gold_key(...), compute)`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence

from fm_platform.hashing import fingerprint, sha256_hex
from fm_platform.lineage import configs
from fm_platform.lineage.machinery import CODE as CODE
from fm_platform.lineage.machinery import PACKAGES, PROPOSING_RULES
from fm_platform.lineage.machinery import code_version as code_version
from fm_platform.lineage.machinery import environment_of as environment_of
from fm_platform.lineage.machinery import works_as as works_as
from fm_platform.lineage.records import Input, Readable, Recipe
from fm_platform.lineage.reviews import Standing
from fm_platform.spec.cleaning import NearDuplicatesRule
from fm_platform.spec.models import AnnotatorFunction, ProjectSpec

CARRY_DAYS = 28
"""How far back the label model of the day before is looked for."""


def spec_recipe(spec: ProjectSpec, declared: Sequence[Input] = ()) -> Recipe:
    """Return the recipe of what a project declares, so that history holds every definition.

    `declared` is what the spec alone does not say: files, labeling functions, base model, and
    what `machinery` gives.
    """
    config = spec.model_dump(mode="json")
    return recipe_of(spec, "spec", "spec", None, tuple(declared), config, "-")


def machinery(spec: ProjectSpec | None = None) -> list[Input]:
    """Return the code and the packages that would compute each kind of artifact now."""
    rules = {}
    if spec is not None:
        trained = configs.trained(spec)
        rules = {"cleaned": configs.cleaned(spec), "start": trained, "adapter": trained}
    code = [
        Input("code", kind, None, code_version(kind, rules.get(kind)))
        for kind in CODE
        if CODE[kind]
    ]
    packages = [Input("environment", kind, None, environment_of(kind)) for kind in PACKAGES]
    return [*code, *packages]


def raw_recipe(spec: ProjectSpec, day: str, source_ids: Mapping[str, str]) -> Recipe:
    """Return the recipe of one day of raw rows; `source_ids` tells what each source holds."""
    config = configs.raw(spec, source_ids)
    inputs = tuple(Input("source", name, day, source_ids[name]) for name in sorted(source_ids))
    return recipe_of(spec, "raw", "raw", day, inputs, config, environment_of("raw"))


def embeddings_recipe(spec: ProjectSpec, day: str, raw: Readable, base: str) -> Recipe:
    """Return the recipe of the frozen embeddings of one day, for base model `base`."""
    config = configs.embeddings(spec)
    inputs = (raw.as_input("raw"), Input("base_model", "base_model", None, base))
    environment = environment_of("embeddings")
    return recipe_of(spec, "embeddings", "embeddings", day, inputs, config, environment)


def votes_recipe(
    spec: ProjectSpec,
    day: str,
    function_name: str,
    function_fingerprint: str,
    raw: Readable,
    extra_inputs: Sequence[Input] = (),
) -> Recipe:
    """Return the recipe of what one labeling function says of one day.

    With `extra_inputs` (embeddings, exemplars, other votes) it is a function that learns: then
    the machine type, more packages and the seed count, too; answers of people alone teach nothing.
    """
    kind = works_as("votes", (item.role for item in extra_inputs))
    return Recipe(
        project=spec.name,
        kind="votes",
        name=function_name,
        partition=day,
        inputs=(raw.as_input("raw"), *extra_inputs),
        code=code_version(kind),
        config=configs.votes(spec, function_fingerprint),
        environment=environment_of(kind),
        seed=spec.training.seed if kind == "exemplar_votes" else None,
    )


def learned_inputs(
    day: str,
    needs: Sequence[str],
    embeddings: Readable,
    seen: str,
    votes: Sequence[Readable],
) -> tuple[Input, ...]:
    """Return what a function that learns reads beside the rows of `day`.

    Args:
        day: The day.
        needs: What the function learns from.
        embeddings: Of its rows.
        seen: Hash of the gold rows that it may read, and of votes on them where it needs votes.
        votes: The votes of the day, where it needs them.
    """
    role = "exemplars" if "votes" in needs else "gold"
    return (
        embeddings.as_input("embeddings"),
        *((Input(role, role, day, seen),) if "gold" in needs else ()),
        *(version.as_input("votes") for version in votes),
    )


def people_asked(spec: ProjectSpec) -> dict[str, str]:
    """Return labeling function -> the person whose answers are its votes."""
    declared = spec.labeling.functions
    return {f.name: f.annotator for f in declared if isinstance(f, AnnotatorFunction)}


def people_input(annotator: str, day: str, answers_hash: str) -> Input:
    """Return what a person answered on the rows of `day`, as an input of votes."""
    return Input("annotations", annotator, day, answers_hash)


def people_key(
    spec: ProjectSpec, annotator: str, annotations: Sequence[Readable], raw: Readable
) -> str:
    """Return the key of what one person answered on the rows of one day.

    `annotations` are all that are in use; those of other people do not count.
    """
    return _key(
        "people",
        code_version("people"),
        annotator,
        spec.annotation.model_dump(mode="json"),
        spec.taxonomy.model_dump(mode="json"),
        sorted(part.content_hash for part in annotations if part.name == annotator),
        raw.content_hash,
    )


def gold_key(spec: ProjectSpec, raw: Sequence[Readable], answers: Iterable[Readable] = ()) -> str:
    """Return the key of the dev gold rows that labeling may read, given `raw` of its window.

    With `annotation.use: gold` all `answers` of people count, and how they are read.
    """
    people = configs.answers(spec, raw, answers)
    return _key(
        "gold",
        code_version("gold"),
        spec.gold.dev_rows_per_source,
        sorted(source.name for source in spec.sources),
        sorted(spec.taxonomy.classes),
        [[day.partition, day.parts["gold"]] for day in raw if "gold" in day.parts],
        *configs.former(spec).values(),
        *([code_version("gold_of_people"), *people] if people else ()),
    )


def taxonomy_part(classes: Sequence[str]) -> dict[str, str]:
    """Return the part of votes that says of which list of classes they are the indices."""
    return {"classes": fingerprint(list(classes))}


def of_taxonomy(spec: ProjectSpec, votes: Readable) -> bool:
    """Whether votes are indices of the classes that the project has now."""
    return taxonomy_part(spec.taxonomy.classes).items() <= votes.parts.items()


def votes_key(votes: Sequence[Readable]) -> str:
    """Return what stands for the votes of some functions on one day."""
    return _key(sorted([version.name, version.content_hash] for version in votes))


def exemplars_key(gold: str, votes_of_days: Mapping[str, str]) -> str:
    """Return the key of the exemplars and their votes.

    Args:
        gold: Value of `gold_key` for the same window.
        votes_of_days: Day -> `votes_key` of the functions that need no exemplars.
    """
    return _key("exemplars", code_version("exemplar_votes"), gold, sorted(votes_of_days.items()))


def seen_key(
    spec: ProjectSpec,
    weak_labels: Readable,
    raw: Sequence[Readable],
    more: Sequence[Readable] = (),
) -> str:
    """Return the key of what cleaning looks up in the days before, given `raw` of them.

    `more` is what the other rules that look up read: shingles, and embeddings and weak labels, of
    their windows, today included.
    """
    near = [[day.name, day.partition, day.content_hash] for day in more if day.rows]
    looks_up = ("exact_duplicates", "label_noise", "metadata_repair", "near_duplicates")
    rules = [rule.model_dump(mode="json") for rule in spec.cleaning if rule.rule in looks_up]
    return _key(
        "seen",
        code_version("seen", {"rules": rules}),
        rules,
        weak_labels.content_hash,
        [[day.partition, day.content_hash] for day in raw if day.rows],
        *([near] if near else []),
    )


def shingles_name(rule: NearDuplicatesRule) -> str:
    """Return the name of the shingles that a rule needs, e.g. `words_3`."""
    return f"{rule.unit}_{rule.size}"


def shingles_recipe(spec: ProjectSpec, day: str, raw: Readable, rule: NearDuplicatesRule) -> Recipe:
    """Return the recipe of the shingles of one day."""
    config = {"unit": rule.unit, "size": rule.size}
    inputs = (raw.as_input("raw"),)
    environment = environment_of("shingles")
    return recipe_of(spec, "shingles", shingles_name(rule), day, inputs, config, environment)


def _key(*parts: object) -> str:
    """Return a hash of plain JSON values."""
    return sha256_hex(json.dumps(parts).encode())


def label_model_recipe(
    spec: ProjectSpec,
    day: str,
    votes: Sequence[Readable],
    gold_hash: str,
    before: Readable | None = None,
) -> Recipe:
    """Return the recipe of the label model of `day`, fitted on the votes of its window.

    `before` is the model of an earlier day, where its evidence is carried on.
    """
    config = configs.label_model(spec, [v.name for v in votes if v.partition == day])
    inputs = (
        *(version.as_input("votes") for version in votes),
        Input("gold", "gold", day, gold_hash),
        *(() if before is None else (before.as_input("label_model"),)),
    )
    environment = environment_of("label_model")
    return recipe_of(spec, "label_model", "label_model", day, inputs, config, environment)


def weak_labels_recipe(
    spec: ProjectSpec,
    day: str,
    raw: Readable,
    votes: Sequence[Readable],
    label_model: Readable,
) -> Recipe:
    """Return the recipe of one day of weakly labeled rows."""
    config = configs.weak_labels(spec, [version.name for version in votes])
    inputs = (
        raw.as_input("raw"),
        *(version.as_input("votes") for version in votes),
        label_model.as_input("label_model"),
    )
    environment = environment_of("weak_labels")
    return recipe_of(spec, "weak_labels", "weak_labels", day, inputs, config, environment)


def cleaned_recipe(
    spec: ProjectSpec,
    day: str,
    weak_labels: Readable,
    seen_hash: str,
    reviews: Standing | None = None,
) -> Recipe:
    """Return the recipe of one day of cleaned rows.

    `seen_hash` stands for those of today's texts that earlier days of the window hold: only what
    matters of the past is an input, so a change of an old day stops here unless it matters.
    `reviews` are an input where they alter what the declared rules do.
    """
    config = configs.cleaned(spec)
    inputs = [weak_labels.as_input("weak_labels"), Input("seen", "seen", day, seen_hash)]
    rules = sorted({rule.rule for rule in spec.cleaning})
    verdicts = reviews.hash_of(rules, PROPOSING_RULES) if reviews is not None else None
    if verdicts is not None:
        inputs.append(Input("reviews", "reviews", day, verdicts))
    environment = environment_of("cleaned", config)
    return recipe_of(spec, "cleaned", "cleaned", day, tuple(inputs), config, environment)


def evaluation_recipe(
    spec: ProjectSpec,
    merged: Readable,
    start: Readable,
    adapters: Sequence[Readable],
    champion: Readable | None,
    weak_labels: Sequence[Readable],
    raw: Sequence[Readable],
    trained: Sequence[Readable] = (),
) -> Recipe:
    """Return the recipe of an evaluation on the gold test rows of the window.

    A router is fitted on the train rows of `trained`; declared `leaks` are looked for there. Slices
    that a constraint compares may look at any column of `raw`.
    """
    config = configs.evaluation(spec)
    sliced = "slices" in config["gate"]
    inputs = (
        merged.as_input("merged_model"),
        start.as_input("start"),
        *(adapter.as_input("adapter") for adapter in adapters),
        *(() if champion is None else (champion.as_input("champion"),)),
        *(day.as_input("weak_labels", part="test") for day in weak_labels if "test" in day.parts),
        *(day.as_input("gold", part="gold") for day in raw if "gold" in day.parts),
        *(
            day.as_input("router", part=source)
            for day in (trained if spec.evaluation.router else ())
            for source in sorted({name for expert in spec.experts for name in expert.sources})
            if source in day.parts
        ),
        *(day.as_input("slices") for day in raw if sliced and "gold" in day.parts),
        *(day.as_input("leaks") for day in trained if day.rows and "leaks" in config["evaluation"]),
    )
    environment = environment_of(works_as("evaluation", (item.role for item in inputs)))
    seed = spec.evaluation.seed
    return recipe_of(spec, "evaluation", "evaluation", None, inputs, config, environment, seed)


def recipe_of(
    spec: ProjectSpec,
    kind: str,
    name: str,
    partition: str | None,
    inputs: tuple[Input, ...],
    config: Mapping[str, object],
    environment: str,
    seed: int | None = None,
) -> Recipe:
    """Return a recipe with the code of its kind."""
    return Recipe(
        project=spec.name,
        kind=kind,
        name=name,
        partition=partition,
        inputs=inputs,
        code=code_version(kind, config),
        config=config,
        environment=environment,
        seed=seed,
    )
