"""Names of somebody's rig against Apple's: conventions are understood, nothing is used twice."""

from __future__ import annotations

import re
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from head360.arkit import NAMES
from head360.arkit.mapping import How, match, recognise, words
from head360.arkit.spellings import FAMILIES, HALVES


def _cut(name: str) -> list[str]:
    return re.findall(r"[A-Z]?[a-z]+", name)


def _letter(name: str, joint: str) -> str:
    return re.sub("(Left|Right)$", lambda side: joint + side[1][0], name)


CONVENTIONS = {
    "Apple": lambda n: n,
    "Live Link": lambda n: n[0].upper() + n[1:],
    "underscore letter": lambda n: _letter(n, "_"),
    "dot letter": lambda n: _letter(n, "."),
    "letter": lambda n: _letter(n, ""),
    "snake": lambda n: "_".join(_cut(n)).lower(),
    "Title snake": lambda n: "_".join(_cut(n)).title(),
    "Title snake letter": lambda n: _letter("_".join(_cut(n)).title(), ""),
    "words": lambda n: " ".join(_cut(n)),
    "kebab": lambda n: "-".join(_cut(n)).lower(),
    "lower": str.lower,
    "upper": str.upper,
    "numbered": lambda n: f"A{NAMES.index(n):02d}_{'_'.join(_cut(n)).title()}",
    "node of Maya": lambda n: f"blendShape1.{_letter(n, '_')}",
    "namespace": lambda n: f"Hero:Head_{n}",
    "controls": lambda n: f"CTRL_expressions_{_letter(n, '')}",
    "second copy": lambda n: f"{n}.001",
    "side first": lambda n: re.sub("(.*)(Left|Right)$", r"\2_\1", n),
}


@pytest.mark.parametrize("convention", CONVENTIONS)
def test_every_convention_comes_back_to_apples_names(convention):
    spelt = {CONVENTIONS[convention](name): name for name in NAMES}
    assert len(spelt) == len(NAMES)
    found = match(list(spelt))
    assert {m.source: m.name for m in found.matches} == spelt
    assert not found.extra
    assert all((m.how is How.EXACT) == (m.source == m.name) for m in found.matches)
    assert found.renames() == {key: name for key, name in spelt.items() if key != name}


@pytest.mark.parametrize(
    ("key", "name"),
    [
        ("Eye_L_Look_L", "eyeLookOutLeft"),
        ("Eye_L_Look_R", "eyeLookInLeft"),
        ("Eye_R_Look_L", "eyeLookInRight"),
        ("Eye_R_Look_Up", "eyeLookUpRight"),
        ("Mouth_Up_Upper_R", "mouthUpperUpRight"),
        ("Mouth_L", "mouthLeft"),
        ("Cheek_Raise_L", "cheekSquintLeft"),
        ("CTRL_expressions_eyeLookRightL", "eyeLookInLeft"),
        ("CTRL_expressions_mouthCornerPullR", "mouthSmileRight"),
        ("jawFwd", "jawForward"),
        ("A25_Jaw_Open", "jawOpen"),
    ],
)
def test_names_of_other_families(key, name):
    found = match([key])
    assert [m.name for m in found.matches if m.source == key] == [name]


def test_tables_of_families_speak_of_real_shapes():
    assert set(FAMILIES.values()) <= set(NAMES)
    assert {name for name, _side in HALVES.values()} <= set(NAMES)
    for key, name in FAMILIES.items():
        assert recognise(key)[0] == name


@pytest.mark.parametrize(
    ("slip", "name"),
    [
        ("eyeBlnkLeft", "eyeBlinkLeft"),
        ("mouthPuker", "mouthPucker"),
        ("cheeckPuff", "cheekPuff"),
        ("mouthRollLowr", "mouthRollLower"),
        ("browInerUp", "browInnerUp"),
        ("mouthStrech_R", "mouthStretchRight"),
    ],
)
def test_slips_of_the_pen(slip, name):
    others = [other for other in NAMES if other != name]
    found = match([*others, slip])
    assert found.renames() == {slip: name}
    assert found.of(How.SLIP)[0].source == slip


@pytest.mark.parametrize(
    "key",
    ["eyeLookLeft", "mouthRoll", "eyeBlink", "Basis", "smile", "mouthCornerLeft", "V_Explosive",
     "cheekRaiser_L", "eyes", "", "___", "001"],
)  # fmt: skip
def test_what_is_no_blendshape_is_left_alone(key):
    found = match([key])
    assert not found.renames()
    assert found.extra == (key,)
    assert len(found.of(How.MISSING)) == len(NAMES)


def test_halves_are_joined_only_as_a_pair():
    found = match(["browInnerUp_L", "browInnerUp_R", "cheekPuff_L"])
    split = found.of(How.SPLIT)
    assert [(m.name, m.sources) for m in split] == [
        ("browInnerUp", ("browInnerUp_L", "browInnerUp_R"))
    ]
    assert not found.renames()
    assert found.extra == ("cheekPuff_L",)


def test_halves_step_back_where_the_whole_is_there():
    found = match(["browInnerUp_L", "browInnerUp", "browInnerUp_R"])
    assert not found.of(How.SPLIT)
    assert found.of(How.EXACT)[0].name == "browInnerUp"
    assert found.extra == ("browInnerUp_L", "browInnerUp_R")


def test_the_exact_name_wins_whatever_the_order():
    for keys in (["jawOpen", "JawOpen", "Jaw_Open"], ["Jaw_Open", "JawOpen", "jawOpen"]):
        found = match(keys)
        assert [m.source for m in found.matches if m.name == "jawOpen"] == ["jawOpen"]
        assert found.duplicates == {"JawOpen": "jawOpen", "Jaw_Open": "jawOpen"}


@given(name=st.sampled_from(NAMES))
def test_words_are_the_same_however_they_are_joined(name):
    assert words(name) == words("_".join(_cut(name))) == words(" ".join(_cut(name)).upper())


@settings(max_examples=150, deadline=None)
@given(
    keys=st.lists(
        st.one_of(
            st.tuples(st.sampled_from(NAMES), st.sampled_from(sorted(CONVENTIONS))).map(
                lambda pick: CONVENTIONS[pick[1]](pick[0])
            ),
            st.sampled_from(sorted([*FAMILIES, *HALVES])),
            st.text(max_size=12),
        ),
        max_size=40,
    )
)
def test_nothing_is_ever_used_or_proposed_twice(keys):
    found = match(keys)
    assert [m.name for m in found.matches] == list(NAMES)
    used = Counter(source for m in found.matches for source in m.sources)
    assert not [key for key, times in used.items() if times > 1]
    assert set(used) | set(found.extra) == set(keys)
    assert not set(used) & set(found.extra)
    targets = list(found.renames().values())
    assert len(targets) == len(set(targets))
    # A rename never lands on a name that another key already bears.
    assert not set(targets) & set(keys)
    assert match(keys) == found
