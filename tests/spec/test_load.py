"""A project file is refused with all its mistakes at once, each with its line."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fm_platform.errors import SpecError
from fm_platform.spec.checks import Problem
from fm_platform.spec.load import load_spec, parse_spec
from fm_platform.spec.models import ProjectSpec

GOOD = """\
type: assets.project.ContinuousTraining
attributes:
  name: small
  taxonomy: {classes: [bad, good]}
  calendar: {start: 2026-01-01}
  sources:
    - {name: main, connector: files, options: {path: rows.csv}}
"""

FIVE_MISTAKES = """\
type: assets.project.ContinuousTraining
attributes:
  name: small
  taxonomy: {classes: [bad, good]}
  calendar: {start: 2026-01-10, end: 2026-01-01}
  sources:
    - {name: main, connector: files}
  experts:
    - {name: one, sources: [other]}
  training: {rnk: 8, learning_rate: 5}
  merge: {method: magic}
"""


def problems(text: str) -> list[str]:
    with pytest.raises(SpecError) as caught:
        parse_spec(text, "defs.yaml")
    return [str(problem) for problem in caught.value.problems]


def test_a_good_file_gets_sensible_defaults() -> None:
    spec = parse_spec(GOOD, "defs.yaml")

    assert [expert.name for expert in spec.experts] == ["all"]
    assert spec.cleaning[0].rule == "normalize_text"


def test_five_mistakes_are_reported_at_once_with_their_lines() -> None:
    found = problems(FIVE_MISTAKES)

    assert [line.split(": ")[0] for line in found] == [
        "defs.yaml:5", "defs.yaml:9", "defs.yaml:10", "defs.yaml:10", "defs.yaml:11",
    ]  # fmt: skip
    assert "unknown source 'other' (allowed: main)" in found[1]
    assert any("did you mean 'rank'?" in line for line in found)
    assert "'magic' is not allowed (allowed: linear, ties, " in found[4]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "the file is empty"),
        ("a: [1", "not YAML"),
        ("a: &x 1\nb: *x\n", "anchors (&name) are refused"),
        ("a: 1\nb: *x\n", "defs.yaml:2: aliases"),
        ("type: a\ntype: b\n", "stands here twice"),
        ("a: !!python/object/apply:os.system ['true']\n", "could not determine a constructor"),
        ("a: " + "[" * 100 + "]" * 100, "deeper than 64"),
        ("a: [&x 1, " + ", ".join(["*x"] * 9) + "]", "anchors"),
        ("a: 1\nb: 2026-13-45\n", "defs.yaml:2: b: '2026-13-45' is no value"),
        ("a: 1\n---\nb: 2\n", "not YAML"),
        ("a: {<<: {b: 1}}\n", "could not determine a constructor"),
        ("? [1]\n: 2\n", "a key must be a word"),
        ("{a: " * 10_000, "deeper than 64"),
        ("- 1\n" * 200_000, "more than 50000 keys and values"),
        ("- 1\n", "attributes: a mapping is required"),
    ],
)
def test_what_is_no_project_file_is_refused(text: str, says: str) -> None:
    assert says in problems(text)[0]


def test_an_unknown_field_of_the_file_gets_a_suggestion() -> None:
    found = problems(GOOD + "atributes: 1\n")

    assert "did you mean 'attributes'?" in found[0]


def test_a_file_that_is_not_utf8_names_the_line(tmp_path: Path) -> None:
    path = tmp_path / "defs.yaml"
    path.write_bytes(b"type: x\nname: \xff\n")

    with pytest.raises(SpecError, match=r"defs.yaml:2: not UTF-8"):
        load_spec(path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="cannot be read"):
        load_spec(tmp_path / "defs.yaml")


def test_a_source_may_not_take_a_word_that_means_something() -> None:
    assert "the word is taken" in problems(GOOD.replace("name: main", "name: gold"))[0]


def test_the_shipped_project_loads() -> None:
    root = Path(__file__).resolve().parents[2]

    spec = load_spec(root / "assets" / "defs" / "sentiment" / "defs.yaml").spec

    assert [expert.name for expert in spec.experts] == ["tweets", "movies", "amazon", "nyt"]
    assert spec.gold.dev_rows_per_source <= 50


WRONG_TOGETHER = """\
type: assets.project.ContinuousTraining
attributes:
  name: Small
  taxonomy: {classes: [bad, good]}
  calendar: {start: 2026-01-10, timezone: Mars/Olympus}
  owners: [bob]
  sources:
    - {name: main, connector: fils}
    - {name: main}
  contract:
    columns:
      text: {type: string}
      day: {type: date}
      stars: {type: integer, max_chars: 3, typ: 1}
  gold: {column: stars, dev_rows: 5}
  labeling:
    functions:
      - {kind: keyword, name: one, words: [a], label: god}
      - {kind: keywrd, name: two, words: [a], label: good}
      - {kind: rule, name: one, column: star, operator: "<", value: 2, label: bad}
      - {kind: regex, name: three, pattern: "(", lable: bad}
  merge: {weights: {everything: .nan}}
"""


@pytest.mark.parametrize(
    ("line", "says"),
    [
        (3, "name: a name is a small letter, then small letters, digits and _, 64 at most"),
        (5, "calendar.timezone: no time zone of this name"),
        (6, "'bob' is neither team:NAME nor a mail address"),
        (8, "unknown source connector 'fils'; did you mean 'files'? (allowed: delta, files, "),
        (9, "sources[1].name: source 'main' is named more than once"),
        (13, "contract.columns.day: a declared column cannot have this name"),
        (14, "contract.columns.stars.typ: unknown field; did you mean 'type'?"),
        (15, "gold.column: 'stars' is a contract column as well"),
        (15, "gold.dev_rows: unknown field; did you mean 'dev_rows_per_source'?"),
        (18, "unknown class 'god'; did you mean 'good'? (allowed: bad, good)"),
        (19, "unknown kind 'keywrd'; did you mean 'keyword'?"),
        (20, "labeling function 'one' is named more than once"),
        (20, "unknown column 'star'; did you mean 'stars'?"),
        (21, "not a regular expression"),
        (21, "labeling.functions[3].lable: unknown field; did you mean 'label'?"),
        (21, "labeling.functions[3].label: is required"),
        (22, "merge.weights.everything: Input should be a finite number"),
        (22, "unknown expert 'everything' (allowed: all)"),
    ],
)
def test_every_mistake_is_told_beside_all_others(line: int, says: str) -> None:
    found = [text for text in problems(WRONG_TOGETHER) if says in text]

    assert len(found) == 1, problems(WRONG_TOGETHER)
    assert found[0].startswith(f"defs.yaml:{line}: ")


@pytest.mark.parametrize(
    ("part", "place", "found"),
    [
        ("training: {epochs: yes}", "training.epochs", True),
        ("training: {learning_rate: off}", "training.learning_rate", False),
        ("training: {continue: {full_every: true}}", "training.continue.full_every", True),
        ("training: {auto: {ranks: [4, on]}}", "training.auto.ranks[1]", True),
        ("gate: {minimum: no}", "gate.minimum", False),
        ("merge: {weights: {all: yes}}", "merge.weights.all", True),
        ("cleaning: [{rule: length, min_chars: yes}]", "cleaning[0].min_chars", True),
    ],
)
def test_a_boolean_is_no_number(part: str, place: str, found: bool) -> None:
    assert problems(f"{GOOD}  {part}\n") == [
        f"defs.yaml:8: {place}: a number is expected: yes, no, on, off, true and false are none in"
        f" YAML (found '{found}')"
    ]


def test_a_boolean_may_stand_where_values_of_any_kind_do() -> None:
    rule = "kind: rule, name: urgent, column: urgent, operator: '==', value: yes, label: bad"
    text = f"{GOOD}  contract: {{columns: {{text: {{}}, urgent: {{type: boolean}}}}}}\n"

    spec = parse_spec(f"{text}  labeling: {{functions: [{{{rule}}}]}}\n", "defs.yaml")

    assert spec.labeling.functions[0].model_dump()["value"] is True


def test_a_large_file_is_refused_without_being_read(tmp_path: Path) -> None:
    path = tmp_path / "defs.yaml"
    with path.open("wb") as handle:
        handle.truncate(5 << 30)  # no bytes on the disk

    with pytest.raises(SpecError, match="larger than 1048576 bytes"):
        load_spec(path)


@pytest.mark.parametrize(
    ("column", "says"),
    [
        ("{type: date, maximum: 3}", "maximum cannot be asked of a date"),
        ("{type: integer, pattern: x}", "pattern cannot be asked of a integer"),
        ("{type: number, minimum: 3, maximum: 2}", "no value lies between 3 and 2"),
        ("{pattern: '(?=x)'}", "not a regular expression"),
        ("{type: strng}", "did you mean 'string'?"),
    ],
)
def test_a_contract_that_no_row_could_be_held_to_is_refused(column: str, says: str) -> None:
    text = GOOD + f"  contract: {{columns: {{text: {{}}, extra: {column}}}}}\n"

    assert says in problems(text)[0]


@pytest.mark.parametrize(
    ("part", "says"),
    [
        ("gate: {constraints: {largest_gap: [{between: [short, lung], at_most: 0.1}]}}",
         "unknown slice 'lung'; did you mean 'long'?"),
        ("gate: {constraints: {largest_gap: [{between: [short], at_most: 0.1}]}}",
         "two different slices are expected at least"),
        ("gate: {constraints: {latency: {at_most_ms: 9, texts: 50}}}",
         "59 texts are needed at least to show a percentile of 95 with confidence 0.95"),
        ("gate: {constraints: {confidence: 95}}", "less than 1"),
        ("training: {narrow_gap: {between: region}}", "'region' is not allowed"),
        ("training: {narrow_gap: {}, method: adalora}", "it cannot narrow_gap"),
    ],
)  # fmt: skip
def test_constraints_that_cannot_be_meant_are_refused(part: str, says: str) -> None:
    slices = """\
  slices:
    - {name: short, column: word_count, operator: "<", value: 9}
    - {name: long, column: word_count, operator: ">=", value: 9}
"""
    assert says in "\n".join(problems(f"{GOOD}{slices}  {part}\n"))


def test_constraints_as_a_project_declares_them() -> None:
    spec = parse_spec(
        GOOD + "  gate: {constraints: {largest_gap: [{between: class, at_most: 0.2}],"
        " latency: {at_most_ms: 20}, confidence: 0.9}}\n"
        "  training: {narrow_gap: {between: class}}\n",
        "defs.yaml",
    )

    assert spec.gate.constraints.latency is not None
    assert spec.gate.constraints.latency.texts == 200
    assert spec.training.narrow_gap is not None


def test_checks_of_other_layers_see_sources_beside_other_mistakes() -> None:
    def check(spec: ProjectSpec) -> list[Problem]:
        return [(("sources", i, "options", "pth"), "typo") for i, _ in enumerate(spec.sources)]

    with pytest.raises(SpecError) as caught:
        parse_spec(GOOD.replace("name: small", "name: 5"), "defs.yaml", [check])

    assert [(p.line, p.path) for p in caught.value.problems] == [
        (3, "name"), (7, "sources[0].options.pth"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("before", "after", "told"),
    [
        ("{name: main, connector: files, options: {path: rows.csv}}", "main", [
            "defs.yaml:7: sources[0]: settings are expected, e.g. {name: value} (found 'main')"]),
        ("name: main", "name: Main", [
            "sources[0].name: a name is a small letter, then small letters, digits and _, 64 at "
            "most (found 'Main')"]),
        ("[bad, good]", "[yes, no]", [
            "classes[0]: text is expected: yes, no, on, off, true and false are not text in YAML",
            "classes[1]: text is expected: yes, no, on, off, true and false are not text in YAML"]),
        ("[bad, good]", "bad", ["taxonomy.classes: a list is expected, e.g. [a, b] (found 'bad')"]),
        ("[bad, good]", "[bad]", ["taxonomy.classes: 2 at least are expected, not 1"]),
        ("start: 2026-01-01", "start: 01.02.2026", [
            "calendar.start: a day is expected, e.g. 2026-01-31 (found '01.02.2026')"]),
        ("name: small", "name:", ["defs.yaml:3: name: text is expected; nothing stands there"]),
        ("name: small", "name: small\n  base_model: bert", [
            "base_model: settings are expected, e.g. {name: value} (found 'bert')"]),
        ("name: small", "name: small\n  training: {method: Lora}", [
            "training.method: 'Lora' is not allowed; did you mean 'lora'? (allowed: lora, rslora"]),
        ("name: small", "name: small\n  training: {continu: {}}", [
            "training.continu: unknown field; did you mean 'continue'?"]),
        ("name: small", "name: small\n  labeling: {functions: [{kind: keyword, name: one, "
         "words: [a], label: Bad}]}", [
            "functions[0].label: unknown class 'Bad'; did you mean 'bad'? (allowed: bad, good)"]),
        ("name: small", "name: small\n  contract: {columns: {text: {}, Ticket Id: {}}}", [
            "contract.columns.Ticket Id: a name is a small letter, then small letters,"]),
        ("name: small", "name: small\n  description: \a", [
            "defs.yaml:4: not YAML: control characters are not allowed"]),
    ],
)  # fmt: skip
def test_a_mistake_is_told_once_in_words_of_the_file(
    before: str, after: str, told: list[str]
) -> None:
    assert before in GOOD

    found = problems(GOOD.replace(before, after))

    assert len(found) == len(told), found
    for line, expected in zip(found, told, strict=True):
        assert expected in line


@settings(max_examples=150, deadline=None)
@given(st.text(alphabet="ab:-[]{}&*!|>'\"#\n %,?01.", max_size=60))
def test_no_text_does_more_than_raise_a_spec_error(text: str) -> None:
    with pytest.raises(SpecError):
        parse_spec(text, "defs.yaml")


@pytest.mark.parametrize(
    ("declared", "says"),
    [
        ("merge: {towards: [main]}", "towards is read by search: similar alone"),
        ("merge: {search: similar, method: auto}", "similar reads none"),
        ("merge: {search: similar, towards: [mian]}", "unknown source 'mian'"),
        ("merge: {search: similar, similarity: 2}", "less than or equal to 1"),
        ("training: {method: fish, continue: {}}", "fish trains one mask"),
        ("training: {method: fish, mask_share: 0}", "greater than 0"),
        ("cleaning: [{rule: length, min_chars: 9, max_chars: 5}]", "no text is 9 characters long"),
        ("cleaning: [{rule: language, allowed: [english]}]", "'^[a-z]{2,3}$' (found 'english')"),
        ("cleaning: [{rule: language, allowed: []}]", "1 at least are expected, not 0"),
        ("base_model: {location: ''}", "at least 1 character"),
        ("experts: [{name: a, sources: [main, main]}]", "a source is named more than once"),
        ("schedule: {cron: '61 2 * * *'}", "61 is no minute of a cron expression: * or 0 to 59"),
        ("schedule: {cron: '0 2 * * someday'}", "someday is no weekday of a cron expression"),
        ("labeling: {functions: [{kind: regex, name: a, pattern: '', label: bad}]}",
         "at least 1 character"),
        ("labeling: {functions: [{kind: keyword, name: a, words: [''], label: bad}]}",
         "at least 1 character"),
    ],
)  # fmt: skip
def test_what_would_have_no_meaning_is_refused(declared: str, says: str) -> None:
    assert says in problems(f"{GOOD}  {declared}\n")[0]


@pytest.mark.parametrize("cron", ["*/5 1,13 * JAN-mar mon-fri", "0 2 ? * 7", "5-50/15 0 L * *"])
def test_a_schedule_may_be_any_cron_expression(cron: str) -> None:
    assert parse_spec(f"{GOOD}  schedule: {{cron: '{cron}'}}\n", "defs.yaml").schedule.cron == cron


def test_a_merge_may_forget_and_may_go_by_similarity(tmp_path: Path) -> None:
    for declared in ("{weights: {all: -0.5}}", "{search: similar, towards: [main]}"):
        assert parse_spec(f"{GOOD}  merge: {declared}\n", "defs.yaml").merge
