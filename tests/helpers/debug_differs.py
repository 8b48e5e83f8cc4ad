"""The tests that assert what debug regions change: they are left out where SCOPEDBUMP_DEBUG=1 makes all regions such.

Each with its reason. `tests/conftest.py` applies the list, and refuses entries that match no test. An entry is a test's
id, or the beginning of several.
"""

from __future__ import annotations

APART = "blocks lie apart, each in pages of its own: their addresses do not follow from the cursor"
FILLED = "memory that need not be zero holds 0xA5"
GUARDED = "it reads, by a raw address, what has ended: that is guarded"
UNLIKE = "it looks at the inside of an ordinary region"
COLD = "every lease of a pool is a fresh reservation: nothing is warm, and nothing is idle"
CALLS = "it refuses certain calls of the system, and a debug region makes others"
MANY = "it makes a million blocks, each of which takes a page"
QUARANTINED = "a region that is over keeps its addresses, until 64 others came after it"
SLOW = "it counts what the fast path does, and a debug region has none"

DIFFERS = {
    "tests/core/test_alloc.py::test_alloc_moves_the_cursor": APART,
    "tests/core/test_alloc.py::test_zero_false_skips_clearing": FILLED,
    "tests/core/test_alloc.py::test_address_and_contains": APART,
    "tests/core/test_allocator.py::test_a_block_is_what_was_asked_for[region]": FILLED,
    "tests/core/test_reservation.py::test_a_refused_commit_leaves_the_region_usable": CALLS,
    "tests/core/test_reservation.py::test_a_region_that_died_without_its_end": QUARANTINED,
    "tests/core/test_reservation.py::test_a_reset_without_a_fresh_reservation": CALLS,
    "tests/core/test_reservation.py::test_every_refusal_of_the_system_in_turn": QUARANTINED,
    "tests/core/test_reservation.py::test_what_the_system_refuses_to_take_back_is_offered_again": QUARANTINED,
    "tests/core/test_reset.py::test_reset_keeps_the_reservation_and_its_pages": APART,
    "tests/core/test_views.py::test_a_million_blocks_are_not_kept": MANY,
    "tests/core/test_wipe.py::test_a_pool_that_wipes_keeps_no_secret_in_idle_memory": GUARDED,
    "tests/core/test_wipe.py::test_a_scope_and_a_reset_wipe_what_was_used": GUARDED,
    "tests/core/test_writer.py::test_a_secret_in_a_writer_is_wiped": GUARDED,
    "tests/core/test_writer.py::test_the_pool_hits_after_writers": COLD,
}
