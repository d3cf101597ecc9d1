"""Citations: every entry is valid BibTeX, and composing parts collects exactly their papers."""

from __future__ import annotations

import re
from types import SimpleNamespace

import pytest

from gradatim import citations
from gradatim.citations import REFERENCES, Reference, cite

REQUIRED = {
    "inproceedings": {"author", "title", "booktitle", "year"},
    "article": {"author", "title", "journal", "year"},
    "misc": {"author", "title", "howpublished", "year"},
}


def parse(text: str) -> list[tuple[str, str, dict[str, str]]]:
    """Read BibTeX strictly: ``@kind{key, name = {balanced}, ...}`` nothing else."""
    entries, at = [], 0
    head = re.compile(r"\s*@([a-z]+)\{([A-Za-z0-9-]+),")
    field = re.compile(r"\s*([a-z]+) = \{")
    while text[at:].strip():
        match = head.match(text, at)
        assert match, text[at : at + 40]
        kind, key = match.groups()
        at, fields = match.end(), {}
        while match := field.match(text, at):
            start = at = match.end()
            depth = 1
            while depth:
                depth += {"{": 1, "}": -1}.get(text[at], 0)
                at += 1
            assert match[1] not in fields, match[1]
            fields[match[1]] = text[start : at - 1]
            assert text[at] == ",", text[at : at + 20]
            at += 1
        end = re.compile(r"\s*\}").match(text, at)
        assert end, text[at : at + 40]
        at = end.end()
        entries.append((kind, key, fields))
    return entries


def keys(text: str) -> list[str]:
    return [key for _, key, _ in parse(text)]


# --- The store --------------------------------------------------------------------------------


@pytest.mark.parametrize("key", REFERENCES)
def test_every_reference_is_valid_bibtex(key: str) -> None:
    text = REFERENCES[key].bibtex()
    [(kind, parsed, fields)] = parse(text)
    assert parsed == key == REFERENCES[key].key
    assert fields.keys() - {"pages"} == REQUIRED[kind]
    assert text.isascii()
    assert re.fullmatch(r"(19|20)\d\d", fields["year"])
    assert fields["year"] in key
    assert re.fullmatch(r"\d+--\d+", fields.get("pages", "1--2"))
    first, last = map(int, fields.get("pages", "1--2").split("--"))
    assert first < last
    assert fields["title"].startswith("{")
    assert fields["title"].endswith("}")
    # A percent sign starts a comment, and these others stop TeX, unless escaped.
    assert not re.search(r"(?<!\\)[&%$#_]", text)


@pytest.mark.parametrize("key", REFERENCES)
def test_every_author_is_family_comma_given(key: str) -> None:
    authors = REFERENCES[key].authors
    assert authors
    assert len(set(authors)) == len(authors)
    for author in authors:
        family, given = author.split(", ")
        assert family == family.strip()
        assert given == given.strip()
        assert family
        assert given
        assert " and " not in author
    family = authors[0].split(", ")[0].lower()
    assert key.startswith(family)


def test_keys_are_unique() -> None:
    heads = re.findall(r"^(\w+\d{4}\w*): ", citations._BIBLIOGRAPHY, flags=re.MULTILINE)
    assert len(heads) == len(set(heads)) == len(REFERENCES)
    assert len({r.title for r in REFERENCES.values()}) == len(REFERENCES)
    doubled = "\n\n".join(["a2020: A, B\nT\nICML 2020"] * 2)
    with pytest.raises(AssertionError):
        citations._read(doubled)


def test_the_papers_of_the_first_methods_are_there() -> None:
    expected = {
        "bengio2009", "kumar2010", "jiang2014spld", "jiang2015spcl", "platanios2019",
        "hacohen2019", "penha2020", "wu2021", "lin2017focal", "castells2020superloss",
        "zhou2018mcl", "zhou2020dihcl", "zhou2021docl", "croitoru2025lerac", "sinha2020cbs",
        "soviany2022survey",
    }  # fmt: skip
    assert expected <= REFERENCES.keys()


def test_the_two_papers_by_jiang_have_their_own_authors() -> None:
    # They are easily confused: Yu and Lan wrote on diversity, Zhao on the curriculum.
    diversity = [name.split(",")[0] for name in REFERENCES["jiang2014spld"].authors]
    curriculum = [name.split(",")[0] for name in REFERENCES["jiang2015spcl"].authors]
    assert diversity == ["Jiang", "Meng", "Yu", "Lan", "Shan", "Hauptmann"]
    assert curriculum == ["Jiang", "Meng", "Zhao", "Shan", "Hauptmann"]


def test_accents_and_signs_are_written_in_tex() -> None:
    reference = Reference(
        key="x2020",
        authors=("Dollár, Rémi", "Cătălin, Zoë", "Šra, François"),
        title="50 % & #1_2 $",
        venue="V",
        year=2020,
        kind="misc",
    )
    [(_, _, fields)] = parse(reference.bibtex())
    assert fields["author"] == (
        r"Doll{\'a}r, R{\'e}mi and C{\u a}t{\u a}lin, Zo{\"e} and {\v S}ra, Fran{\c c}ois"
    )
    assert fields["title"] == r"{50 \% \& \#1\_2 \$}"
    assert "pages" not in fields


# --- cite -------------------------------------------------------------------------------------


class Pace:
    references = ("platanios2019",)


class Weighting:
    references = ("kumar2010", "bengio2009")


class Plain:
    """Rests on no paper."""


class Predefined:
    references = ("bengio2009",)

    def __init__(self, pace: object, note: object = None) -> None:
        self.pace = pace
        self.note = note


class Slotted:
    __slots__ = ("absent", "part")
    references = ("wu2021",)

    def __init__(self, part: object) -> None:
        self.part = part


def test_keys_objects_and_classes_are_cited_once_in_order() -> None:
    assert keys(cite("wu2021", "kumar2010", "wu2021")) == ["wu2021", "kumar2010"]
    assert keys(cite(Weighting(), Pace)) == ["kumar2010", "bengio2009", "platanios2019"]
    assert keys(cite(Pace(), Pace(), "platanios2019")) == ["platanios2019"]


def test_a_curriculum_cites_its_methods_and_their_parts() -> None:
    methods = (Predefined(Pace()), Plain(), Weighting())
    curriculum = SimpleNamespace(methods=methods, model=SimpleNamespace(references=("wu2021",)))
    assert keys(cite(curriculum)) == ["bengio2009", "platanios2019", "kumar2010"]
    assert keys(cite(SimpleNamespace(methods=list(methods)))) == keys(cite(curriculum))


def test_parts_are_found_in_attributes_slots_and_sequences() -> None:
    assert keys(cite(Predefined(Slotted(Weighting())))) == ["bengio2009", "wu2021", "kumar2010"]
    assert keys(cite(Predefined([Pace(), Plain()]))) == ["bengio2009", "platanios2019"]
    assert keys(cite(Predefined((Slotted(1),)))) == ["bengio2009", "wu2021"]

    def weigh() -> None: ...

    weigh.references = ("lin2017focal",)
    assert keys(cite(weigh, Predefined(weigh))) == ["lin2017focal", "bengio2009"]


def test_what_is_no_citation_is_left_alone() -> None:
    table = SimpleNamespace(references=[1, 2])  # a column of that name, say
    assert keys(cite(Predefined(table, note="wu2021"))) == ["bengio2009"]
    assert keys(cite(Predefined(None, note=REFERENCES["wu2021"]))) == ["bengio2009"]


def test_objects_that_cite_nothing_give_nothing() -> None:
    assert cite() == ""
    assert cite(Plain(), Plain, 3, None, SimpleNamespace(methods=())) == ""


def test_cycles_end() -> None:
    one, other = Predefined(None), Slotted(None)
    one.pace, other.part = other, one
    assert keys(cite(one)) == ["bengio2009", "wu2021"]


def test_entries_are_divided_by_a_blank_line() -> None:
    first, second = REFERENCES["wu2021"].bibtex(), REFERENCES["bengio2009"].bibtex()
    assert cite("wu2021", "bengio2009") == f"{first}\n\n{second}"


def test_a_method_from_outside_brings_its_own_paper() -> None:
    mine = Reference(key="me2030", authors=("Me, My",), title="T", venue="V", year=2030)
    method = SimpleNamespace(references=(mine, "wu2021"))
    assert keys(cite(method, mine)) == ["me2030", "wu2021"]
    other = Reference(key="wu2021", authors=("Me, My",), title="T", venue="V", year=2021)
    with pytest.raises(ValueError, match="references must be unique by key"):
        cite(method, other)


def test_unknown_keys_are_refused_with_a_suggestion() -> None:
    with pytest.raises(ValueError, match=r"Got 'kumar2011'\. Did you mean 'kumar2010'\?"):
        cite("kumar2011")
    with pytest.raises(ValueError, match=r"REFERENCES\. Got 'x'\.$"):
        cite(SimpleNamespace(references=("x",)))


def test_a_forgotten_comma_is_refused() -> None:
    class Forgot:
        references = "kumar2010"

    message = r"Forgot\.references must be a tuple of keys\. Got 'kumar2010'\. A comma missing"
    with pytest.raises(ValueError, match=message):
        cite(Forgot())
    with pytest.raises(ValueError, match=message):
        cite(Forgot)
    with pytest.raises(ValueError, match=message):
        cite(Predefined(Forgot()))
