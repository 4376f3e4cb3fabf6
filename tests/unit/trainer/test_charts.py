import itertools
import re
import xml.etree.ElementTree as ET

from hypothesis import given
from hypothesis import strategies as st

from edit_r1.trainer.report.charts import Series, line_chart

LEGEND = r'<circle[^>]*/><text x="([\d.]+)" y="(\d+)">([^<]*)'
NUMBERS = st.floats(-1e6, 1e6).filter(lambda value: value == 0 or abs(value) > 1e-6)


@given(st.lists(st.tuples(st.integers(0, 500), NUMBERS), min_size=1, max_size=30))
def test_any_series_becomes_a_picture_with_all_points_inside(points):
    svg = line_chart([Series("a <b> & c", tuple(sorted(points)))], "epoch")
    root = ET.fromstring(svg)  # noqa: S314 - our own
    polyline = next(element for element in root if element.tag == "polyline")
    places = [tuple(map(float, pair.split(","))) for pair in polyline.attrib["points"].split()]
    assert len(places) == len(points)
    assert all(0 <= x <= 460 and 0 <= y <= 240 for x, y in places)


def test_higher_values_stand_higher():
    svg = line_chart([Series("a", ((0, 0.2), (1, 0.8)))], "epoch")
    (pairs,) = re.findall(r'points="([^"]+)"', svg)
    (_, low), (_, high) = (map(float, pair.split(",")) for pair in pairs.split())
    assert high < low


@given(st.lists(st.text("abcdefgh, ", min_size=1, max_size=50), min_size=1, max_size=9))
def test_the_names_in_the_legend_leave_each_other_room(names):
    svg = line_chart([Series(name, ((0, 0.2), (1, 0.8)), dashed=i % 2 > 0) for i, name in enumerate(names)], "N")
    legend = [(float(x), float(y), name) for x, y, name in re.findall(LEGEND, svg)]
    assert [name for _, _, name in legend] == names
    for (x, y, name), (next_x, next_y, _) in itertools.pairwise(legend):
        assert next_y > y or x + 6 * len(name) < next_x


def test_series_that_belong_together_have_one_colour():
    before, after = (Series(name, ((0, 0), (1, 1)), color=2, dashed=name == "before") for name in ("before", "after"))
    lines = re.findall(r"<polyline[^>]*>", line_chart([before, after], "N"))
    colors = [re.findall(r'stroke="([^"]+)"', line) for line in lines]
    assert colors[0] == colors[1]
    assert ["dasharray" in line for line in lines] == [True, False]


def test_nothing_to_draw_is_no_chart():
    assert line_chart([Series("a", ())], "epoch") == ""
