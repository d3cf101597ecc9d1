import json
import math
import tomllib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gradatim.compare.specs import (
    Call,
    CurriculumSpec,
    parse_call,
    parse_curricula,
    read_curricula,
)

# ---------------------------------------------------------------- reading


def test_names_parameters_and_values_are_read_as_they_stand():
    text = "uniform, dihcl(hardness=flip,warmup_epochs=3) ,my.module:Class(alpha=.1, b=-2)"
    uniform, dihcl, own = parse_curricula(text)
    assert (uniform.name, uniform.parameters, uniform.label) == ("uniform", (), "uniform")
    assert dihcl.parameters == (("hardness", "flip"), ("warmup_epochs", 3))
    assert dihcl.label == dihcl.slug == str(dihcl) == "dihcl(hardness=flip,warmup_epochs=3)"
    assert own.name == "my.module:Class"
    assert own.parameters == (("alpha", 0.1), ("b", -2))


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ("3", 3),
        ("-3", -3),
        ("1_000", 1000),
        ("1__0", "1__0"),
        ("3.", 3.0),
        (".5", 0.5),
        ("1e-3", 0.001),
        ("+2E2", 200.0),
        ("1e", "1e"),
        ("True", True),
        ("false", False),
        ("None", None),
        ("none", "none"),
        ("inf", "inf"),
        ("flip", "flip"),
        ("data/x-1.csv", "data/x-1.csv"),
        ("C:\\data", "C:\\data"),
        ("'a, b) \\' c'", "a, b) ' c"),
        ('"3"', "3"),
        ("''", ""),
        ("[1, 2.5,x]", (1, 2.5, "x")),
        ("(1,)", (1,)),
        ("[]", ()),
        ("[[1],(2,'3')]", ((1,), (2, "3"))),
        (
            "linear(epochs=10, start_fraction=.3)",
            Call("linear", (("epochs", 10), ("start_fraction", 0.3))),
        ),
        ("linear()", Call("linear")),
        ("a(b=c(d=[1,e()]))", Call("a", (("b", Call("c", (("d", (1, Call("e"))),))),))),
    ],
)
def test_values(written, value):
    (spec,) = parse_curricula(f"m(p={written})")
    found = spec.parameters[0][1]
    assert found == value
    assert type(found) is type(value)


def test_commas_inside_parentheses_brackets_and_quotes_separate_nothing():
    found = parse_curricula("a(p=[1,2],q='x,y',r=f(s=1,t=2)),b")
    assert [spec.name for spec in found] == ["a", "b"]


def test_a_label_may_be_given_and_is_no_parameter():
    (spec,) = parse_curricula("spl(form=linear,label='soft, at first')")
    assert spec.parameters == (("form", "linear"),)
    assert spec.label == "soft, at first"
    assert str(spec) == "spl(form=linear,label='soft, at first')"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"curricula must be one or more different names. Got none."),
        ("  ", r"Got none."),
        ("spl,,uniform", r"At character 5 an entry is empty."),
        ("spl,", r"At character 5 an entry is empty."),
        (",spl", r"At character 1 an entry is empty."),
        ("spl(form=linear", r"At character 4 the parenthesis is never closed."),
        ("spl(form=linear,", r"At character 4 the parenthesis is never closed."),
        ("spl(", r"At character 4 the parenthesis is never closed."),
        ("spl(a=[1,2)", r"At character 11 a comma or '\]' is missing."),
        ("spl(a=[1,2", r"At character 7 the bracket is never closed."),
        ("spl)", r"At character 4 '\)' closes nothing."),
        ("spl(a=1))", r"At character 9 '\)' closes nothing."),
        ("spl uniform", r"At character 5 a comma is missing."),
        ("spl(linear)", r"At character 5 a parameter must be written as parameter=value."),
        ("spl(a=1,3)", r"At character 9 a parameter must be written as parameter=value."),
        ("spl(a=1 b=2)", r"At character 9 a comma or a closing parenthesis is missing."),
        ("spl(a=1,b=2,a=3)", r"At character 13 a is given twice."),
        ("spl(a=)", r"At character 7 a value is missing."),
        ("spl(a='x)", r"At character 7 a quote is never closed."),
        ("spl(a={})", r"At character 7 a value is missing."),
        ("spl(a=1e999)", r"At character 7 a number is too large."),
        ("spl(name=x)", r"At character 5 no parameter can be called name."),
        ("spl(label=3)", r"At character 1 the label is no string; put it in quotes."),
        ("3spl", r"At character 1 a name is missing."),
        ("a.:b", r"At character 2 a comma is missing."),
        ("a(b=" * 30, r"At character 82 parentheses are nested more than 20 deep."),
        ("a(b=" + "[" * 30, r"parentheses are nested more than 20 deep."),
        ("spl,uniform,spl", r"one or more different names. Got spl,uniform,spl. 'spl' is there"),
        ("spl,SPL", r"one or more different names"),
        ("spl(a=1),spl(label='spl(a=1)')", r"one or more different names"),
    ],
)
def test_what_cannot_be_read_is_refused_in_one_line_with_its_place(text, message):
    with pytest.raises(ValueError, match=message) as refused:
        parse_curricula(text)
    assert str(refused.value).startswith("curricula must be ")
    assert "\n" not in str(refused.value)


def test_a_line_break_in_the_text_does_not_break_the_message():
    with pytest.raises(ValueError, match="At character 6") as refused:
        parse_curricula("spl(\n1)\n")
    assert "\n" not in str(refused.value)


def test_only_a_string_can_be_parsed():
    with pytest.raises(TypeError, match=r"curricula must be a string\. Got list\."):
        parse_curricula(["spl"])  # pyright: ignore[reportArgumentType]


def test_a_single_call():
    assert parse_call("root(power=3)") == Call("root", (("power", 3),))
    with pytest.raises(ValueError, match="a single name where one is meant"):
        parse_call("a,b")


# ---------------------------------------------------------------- round trips

IDENTIFIERS = st.from_regex(r"[A-Za-z_][A-Za-z0-9_]{0,7}", fullmatch=True)
PARAMETERS = IDENTIFIERS.filter(lambda name: name not in ("name", "label"))
NAMES = st.one_of(
    IDENTIFIERS,
    st.builds("{}.{}:{}".format, IDENTIFIERS, IDENTIFIERS, IDENTIFIERS),
)
TEXTS = st.one_of(
    st.text(max_size=8).filter(str.isprintable),
    st.sampled_from(["3", "1e5", "True", "None", "inf", "a b", "'", "\\", "", "x(y)", "a=1", ".5"]),
)
PLAIN = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(allow_nan=False, allow_infinity=False),
    TEXTS,
)


def pairs(values):
    return st.lists(st.tuples(PARAMETERS, values), max_size=2, unique_by=lambda pair: pair[0]).map(
        tuple
    )


VALUES = st.recursive(
    PLAIN,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3).map(tuple), st.builds(Call, NAMES, pairs(inner))
    ),
    max_leaves=3,
)
LABELS = st.one_of(st.just(""), TEXTS)
SPECS = st.builds(CurriculumSpec, NAMES, pairs(VALUES), label=LABELS)


@given(SPECS)
@settings(deadline=None, max_examples=60)
def test_what_is_written_is_read_back(spec):
    (again,) = parse_curricula(str(spec))
    assert again == spec
    assert hash(again) == hash(spec)
    assert repr(again) == repr(spec)  # 1, 1.0 and True are equal, and not the same


@given(SPECS)
@settings(deadline=None, max_examples=30)
def test_json_gives_the_specification_back(spec):
    again = CurriculumSpec.from_dict(json.loads(json.dumps(spec.as_dict())))
    assert repr(again) == repr(spec)


@given(SPECS)
@settings(deadline=None, max_examples=30)
def test_slugs_are_safe_folder_names_and_differ_where_labels_do(spec):
    slug = spec.slug
    assert 0 < len(slug) <= 80
    assert not set(slug) - set(
        "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.,=()+-"
    )
    assert slug[0] not in ".-"
    assert slug[-1] != "."
    other = CurriculumSpec(spec.name, spec.parameters, label=spec.label + "*")
    assert other.slug != slug


@given(st.text(alphabet="ab(),=[]'\" .:1\\", max_size=20))
@settings(deadline=None, max_examples=150)
def test_any_text_is_read_or_refused(text):
    try:
        found = parse_curricula(text)
    except ValueError as error:
        refused, found = str(error), ()
    else:
        refused = "curricula must be read back"
        assert parse_curricula(",".join(map(str, found))) == found
    assert refused.startswith("curricula must be ")


# ---------------------------------------------------------------- labels and tables


def test_unsafe_labels_become_safe_slugs():
    (spec,) = parse_curricula("my.module:Class(path='a/../b')")
    assert spec.slug.startswith("my.module-Class(path=a-..-b)-")
    assert "/" not in spec.slug
    long = CurriculumSpec("spl", label="x" * 300)
    assert len(long.slug) == 80
    assert CurriculumSpec("spl", label="..").slug not in ("", ".", "..")


def test_a_new_spelling_moves_a_label_that_was_made_from_the_name_only():
    spec = CurriculumSpec("SuperLoss", (("lam", 2),))
    assert spec.renamed("super_loss").label == "super_loss(lam=2)"
    assert CurriculumSpec("SuperLoss", label="mine").renamed("super_loss").label == "mine"


def test_toml_holds_strings_and_tables():
    toml = """
    curricula = [
      "uniform,spl(form=linear)",
      {name = "dihcl", hardness = "flip", label = "dihcl flip", ks = [1, 2]},
      {name = "spl", pace = {name = "linear", epochs = 5}},
    ]
    """
    found = read_curricula(tomllib.loads(toml)["curricula"])
    assert [spec.label for spec in found] == [
        "uniform",
        "spl(form=linear)",
        "dihcl flip",
        "spl(pace=linear(epochs=5))",
    ]
    assert found[2].parameters == (("hardness", "flip"), ("ks", (1, 2)))
    assert read_curricula("uniform,spl(form=linear)") == found[:2]
    assert read_curricula(found) == found


@pytest.mark.parametrize(
    ("entries", "error", "message"),
    [
        ([], ValueError, "one or more different names. Got none."),
        ([3], TypeError, "curricula must be strings or tables. Got int."),
        (["spl", {"name": "spl"}], ValueError, "one or more different names"),
        ([{"form": "linear"}], ValueError, 'tables with a name. Got {"form": "linear"}'),
        ([{"name": 3}], ValueError, "curricula must be names"),
        ([{"name": "spl("}], ValueError, "curricula must be names"),
        ([{"name": "spl", "a b": 3}], ValueError, "Got the parameter 'a b' of spl."),
        ([{"name": "spl", "gamma": math.inf}], ValueError, r"spl\(gamma\) must be a finite"),
        ([{"name": "spl", "gamma": {1}}], TypeError, r"spl\(gamma\) must be a number, string"),
        ([{"name": "spl", "label": 3}], TypeError, "label of spl must be a string. Got 3."),
        ([{"name": "spl", "label": "a\nb"}], ValueError, "label of spl must be one line"),
    ],
)
def test_tables_that_cannot_be_read_are_refused(entries, error, message):
    with pytest.raises(error, match=message):
        read_curricula(entries)


@pytest.mark.parametrize("also", ["cbs", ["cbs"], {"name": "cbs"}, 5])
def test_further_methods_are_a_list_of_tables(also):
    with pytest.raises(
        TypeError, match=r"also of lerac must be a list of tables\. Got .*cbs\W|5\."
    ):
        read_curricula([{"name": "lerac", "also": also}])
