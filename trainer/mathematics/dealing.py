"""How the candidates of an epoch are divided into units of work for the processes.

A unit is what one process generates in one batch and later trains on: the same part of each of `batch_groups`
consecutive groups. Floating-point sums depend on the batch they are computed in, so an epoch divided into the same
units gives the same numbers, bit for bit, on any number of processes.
Legend: G candidates per group.
"""

from __future__ import annotations

import math
from itertools import pairwise


def num_parts(num_batches: int, group_size: int, num_processes: int) -> int:
    """Parts that a group's G candidates are divided into.

    1 as long as every process gets at least one of the epoch's batches of whole groups. For more processes, of the
    numbers that give every process a part, the one for which the busiest process generates the fewest candidates; of
    equally good ones the smallest.
    """
    if num_processes <= num_batches:
        return 1
    fewest = min(math.ceil(num_processes / num_batches), group_size)

    def rows_of_busiest(parts: int) -> int:
        return math.ceil(num_batches * parts / num_processes) * math.ceil(group_size / parts)

    return min(range(fewest, group_size + 1), key=rows_of_busiest)


def part_ranges(group_size: int, parts: int) -> tuple[range, ...]:
    """Consecutive ranges of candidates, as many as `parts` <= G, whose lengths differ by at most one."""
    bounds = [index * group_size // parts for index in range(parts + 1)]
    return tuple(range(start, end) for start, end in pairwise(bounds))
