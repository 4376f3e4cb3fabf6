"""Benchmark tables: the papers' overall scores follow from their columns, and missing scores are in no mean."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edit_r1.workbench.evaluation.aggregation import (
    GEditScores,
    Sample,
    gedit_scores,
    macro_mean,
    summarise,
    summarise_gedit,
)
from edit_r1.workbench.evaluation.published import GEDIT_EN, IMGEDIT, IMGEDIT_COLUMNS, INHERITED

NUM_OF_TYPE = (95, 94, 117, 92, 86, 94, 100, 23, 36)  # in the order of IMGEDIT_COLUMNS; 737 in all
values = st.floats(0, 10)
samples = st.lists(st.tuples(st.sampled_from("abc"), st.none() | values), min_size=1, max_size=30)


def benchmark(means):
    """All 737 items, each scored with its type's mean."""
    counted = zip(IMGEDIT_COLUMNS, NUM_OF_TYPE, means, strict=True)
    return [Sample(name, mean) for name, count, mean in counted for _ in range(count)]


@pytest.mark.parametrize("name", [name for name in IMGEDIT if name not in INHERITED])
def test_the_papers_overall_is_the_mean_of_its_nine_types(name):
    row = IMGEDIT[name]
    found = summarise(benchmark(row.types), IMGEDIT_COLUMNS)
    assert found.macro is not None
    assert round(found.macro, 2) == row.overall
    assert found.num_items == 737


def test_the_one_inherited_overall_is_not():
    assert [name for name, row in IMGEDIT.items() if round(macro_mean(row.types) or 0, 2) != row.overall] == [
        *INHERITED
    ]
    assert round(macro_mean(IMGEDIT["GPT-Image-1"].types) or 0, 2) == 4.24


def test_the_mean_over_items_is_another_number():
    """The two must not be confused: by items, UniWorld-V2 would get 4.53 and FLUX.1-Kontext-dev 3.66."""
    for name, micro in (("UniWorld-V2", 4.53), ("FLUX.1-Kontext-dev", 3.66)):
        assert round(summarise(benchmark(IMGEDIT[name].types)).item_mean or 0, 2) == micro


def test_the_overall_of_gedit_is_not_that_of_its_means():
    judged = [("a", GEditScores(10, 0)), ("a", GEditScores(0, 10)), ("b", GEditScores(4, 9))]
    row = summarise_gedit(judged)
    assert (row.semantic.macro, row.quality.macro, row.overall.macro) == (4.5, 7.0, 3.0)
    published = GEDIT_EN["UniWorld-V2"]
    assert round(math.sqrt(published.semantic * published.quality), 2) == 8.20 != published.overall


def test_gedits_scores_are_the_lower_of_each_list():
    found = gedit_scores((8, 4), (9, 9.5))
    assert (found.semantic, found.quality, found.overall) == (4, 9, 6)


@given(samples)
def test_missing_samples_are_counted_and_in_no_mean(judged):
    row = summarise([Sample(name, value) for name, value in judged])
    scored = [(name, value) for name, value in judged if value is not None]
    without = summarise([Sample(name, value) for name, value in scored])
    assert row.num_items == len(judged)
    assert row.coverage == pytest.approx(len(scored) / len(judged))
    assert row.item_mean == without.item_mean
    assert all(row.types[name].mean == column.mean for name, column in without.types.items())


@given(samples)
def test_a_type_without_any_score_leaves_no_overall(judged):
    row = summarise([*(Sample(name, value) for name, value in judged), Sample("lost", None)])
    assert row.macro is None
    assert row.types["lost"].num_scored == 0


@given(samples, st.integers(2, 4))
def test_the_overall_does_not_depend_on_how_many_items_a_type_has(judged, times):
    once = [Sample(name, value) for name, value in judged]
    more = once + [one for one in once if one.type == once[0].type] * (times - 1)
    first, second = summarise(once).macro, summarise(more).macro
    assert first == second if first is None else second == pytest.approx(first)


@given(st.lists(st.tuples(values, values), min_size=1, max_size=20))
def test_the_overall_of_gedit_is_at_most_that_of_its_means(pairs):
    row = summarise_gedit([("a", GEditScores(*pair)) for pair in pairs])
    semantic, quality, overall = row.semantic.macro, row.quality.macro, row.overall.macro
    assert semantic is not None and quality is not None and overall is not None  # noqa: PT018 - for the types
    assert overall <= math.sqrt(semantic * quality) + 1e-9


def test_no_samples_have_no_mean():
    assert summarise([]).macro is None
    assert summarise([]).coverage == 0
