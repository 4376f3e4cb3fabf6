from hypothesis import given
from hypothesis import strategies as st

from edit_r1.trainer.mathematics.sizes import bucket_sizes, buckets, nearest_size, one_size

SIDES = st.integers(1, 4000)
MULTIPLES = st.sampled_from([8, 16, 32])


@given(st.integers(256, 2048), MULTIPLES, st.floats(1, 4))
def test_buckets_have_the_area_the_multiple_and_the_ratio_asked_for(side, multiple, max_ratio):
    sizes = bucket_sizes(side * side, multiple, max_ratio)
    assert sizes
    for width, height in sizes:
        assert width % multiple == height % multiple == 0
        assert max(width, height) <= max_ratio * min(width, height)
        # The area is off by at most half a multiple on each side.
        assert abs(width * height - side * side) <= multiple * (max(width, height) + multiple)
        assert (height, width) in sizes


@given(st.tuples(SIDES, SIDES), st.sampled_from([256, 512, 1024]))
def test_a_picture_gets_the_bucket_of_the_nearest_shape(size, side):
    sizes = bucket_sizes(side * side, 16, 2.0)
    found = nearest_size(size, sizes)
    ratio, wanted = found[0] / found[1], min(2.0, max(0.5, size[0] / size[1]))
    assert 0.9 < ratio / wanted < 1.1
    assert nearest_size(found, sizes) == found
    turned = nearest_size(size[::-1], sizes)
    assert turned == found[::-1]


def test_a_square_stays_a_square_of_the_same_area():
    assert buckets(512 * 512, 16, 2.0)((1000, 1000)) == (512, 512)
    assert one_size((512, 384))((1, 1000)) == (512, 384)
