"""The tests that assert what debug regions change: they are left out where SCOPEDBUMP_DEBUG=1 makes all regions such.

Each with its reason. `tests/conftest.py` applies the list, and refuses entries that match no test. An entry is a test's
id, or the beginning of several.
"""

from __future__ import annotations

APART = "blocks lie apart, each in pages of its own: their addresses do not follow from the cursor"
FILLED = "memory that need not be zero holds 0xA5"
GUARDED = "it reads, by a raw address, what has ended: that is guarded"
OVERRUN = "it reads past the end of a block, and is told so"
CFFI = "cffi itself reads and writes past the end of a packed struct whose last field is a bit field"
FREES = "the free of hooks, and a realloc, are callbacks that free, and a block that is freed is used or freed again"
UNLIKE = "it works on the inside of an ordinary region"
COLD = "every lease of a pool is a fresh reservation: nothing is warm, and nothing is idle"
CALLS = "it refuses certain calls of the system, and a debug region makes others"
MANY = "it makes a million blocks, each of which takes a page"
QUARANTINED = "a region that is over keeps its addresses, until 64 others came after it"
LIMITS = "it knows how much fits a limit of the system, and a debug region takes more"
FAST = "it goes by what the fast path does, and a debug region has none"
SLOW = "it is about the speed of ordinary regions, or takes minutes in debug regions"
COLLECTS = "an alarm is to hit NumPy or the handler, and hits collections, which debug regions cause more of"

DIFFERS = {
    "tests/adapters/cffi/test_agree.py::test_new_agrees_with_cffi": CFFI,
    "tests/adapters/cffi/test_pins.py::test_the_limits_of_an_allocator_of_cffi_are_as_documented": OVERRUN,
    "tests/adapters/ctypes/test_ctypes.py::test_pointers_to_ten_thousand_sizes_make_no_types": MANY,
    "tests/adapters/hooks/test_hooks.py::test_a_child_has_its_own_copy": APART,
    "tests/adapters/hooks/test_hooks.py::test_blocks_of_calloc_are_zero_and_those_of_realloc_keep_their_content": FREES,
    "tests/adapters/hooks/test_hooks.py::test_free_does_nothing_in_any_thread_and_after_the_end": FREES,
    "tests/adapters/hooks/test_hooks.py::test_functions_have_the_types_of_their_user": APART,
    "tests/adapters/hooks/test_hooks.py::test_the_last_block_grows_in_place": APART,
    "tests/adapters/hooks/test_hooks.py::test_where_callbacks_are_refused_nothing_is_called": FREES,
    "tests/adapters/numpy/test_free_blocks.py::": UNLIKE,
    "tests/adapters/numpy/test_handler.py::test_what_a_signal_handler_raises_arrives_whole": COLLECTS,
    "tests/bench/": SLOW,
    "tests/core/test_alloc.py::test_address_and_contains": APART,
    "tests/core/test_alloc.py::test_alloc_moves_the_cursor": APART,
    "tests/core/test_alloc.py::test_zero_false_skips_clearing": FILLED,
    "tests/core/test_allocator.py::test_a_block_is_what_was_asked_for[region]": FILLED,
    "tests/core/test_atomic.py::test_a_tracer_sees_one_line_of_what_is_marked": FAST,
    "tests/core/test_close.py::test_closing_a_region_of_a_million_views_takes_milliseconds": MANY,
    "tests/core/test_large.py::test_a_block_that_needs_huge_pages_has_nothing_else": APART,
    "tests/core/test_large.py::test_a_pool_gives_a_lone_large_job_back": COLD,
    "tests/core/test_large.py::test_a_pool_keeps_as_many_as_were_needed": COLD,
    "tests/core/test_large.py::test_a_reset_keeps_what_it_is_told_to": COLD,
    "tests/core/test_large.py::test_a_steady_load_finds_its_pages": COLD,
    "tests/core/test_large.py::test_huge_pages_begin_behind_the_first_four_mib": APART,
    "tests/core/test_pool.py::test_a_closed_region_does_not_keep_its_reservation": COLD,
    "tests/core/test_pool.py::test_a_leaked_region_comes_back": COLD,
    "tests/core/test_pool.py::test_a_refused_release_is_tried_again": QUARANTINED,
    "tests/core/test_pool.py::test_a_refused_trim_releases": COLD,
    "tests/core/test_pool.py::test_a_reservation_serves_one_region_after_another": COLD,
    "tests/core/test_pool.py::test_max_idle_bounds_what_waits": COLD,
    "tests/core/test_pool.py::test_nothing_to_be_had": CALLS,
    "tests/core/test_pool.py::test_reset_with_a_held_view_keeps_the_whole_lease": COLD,
    "tests/core/test_pool.py::test_reset_with_an_escape_takes_another_lease": COLD,
    "tests/core/test_pool.py::test_retain_bounds_what_an_idle_reservation_keeps": COLD,
    "tests/core/test_pool.py::test_what_escaped_is_counted_while_it_lives": COLD,
    "tests/core/test_pool.py::test_what_is_held_keeps_the_reservation_out": COLD,
    "tests/core/test_pool.py::test_what_is_held_of_a_scope_keeps_the_reservation_out": COLD,
    "tests/core/test_pool_interrupted.py::test_what_is_held_stays_out": COLD,
    "tests/core/test_pool_moments.py::test_a_child_has_a_pool_of_its_own": COLD,
    "tests/core/test_pool_moments.py::test_forks_while_threads_use_the_pool": COLD,
    "tests/core/test_pool_moments.py::test_threads_share_a_pool": COLD,
    "tests/core/test_pool_places.py::test_a_fork_that_python_was_not_told_of": COLD,
    "tests/core/test_pool_places.py::test_a_pool_that_is_never_warm_says_so": COLD,
    "tests/core/test_pool_places.py::test_a_region_on_demand": COLD,
    "tests/core/test_pool_unended.py::test_a_region_kept_from_its_end": COLD,
    "tests/core/test_pool_unended.py::test_a_scope_that_is_interrupted_while_it_is_lost": COLD,
    "tests/core/test_pool_unended.py::test_a_scope_that_is_lost_in_the_middle_of_a_close": COLD,
    "tests/core/test_reservation.py::test_a_refused_commit_leaves_the_region_usable": CALLS,
    "tests/core/test_reservation.py::test_a_region_that_died_without_its_end": QUARANTINED,
    "tests/core/test_reservation.py::test_a_reset_without_a_fresh_reservation": CALLS,
    "tests/core/test_reservation.py::test_every_refusal_of_the_system_in_turn": QUARANTINED,
    "tests/core/test_reservation.py::test_what_the_system_refuses_to_take_back_is_offered_again": QUARANTINED,
    "tests/core/test_reset.py::test_reset_keeps_the_reservation_and_its_pages": APART,
    "tests/core/test_scoped.py::test_a_call_has_a_region_of_its_own": COLD,
    "tests/core/test_scoped.py::test_what_is_thrown_in_makes_no_cycle": COLD,
    "tests/core/test_views.py::test_a_million_blocks_are_not_kept": MANY,
    "tests/core/test_wipe.py::test_a_pool_that_wipes_keeps_no_secret_in_idle_memory": GUARDED,
    "tests/core/test_wipe.py::test_a_scope_and_a_reset_wipe_what_was_used": GUARDED,
    "tests/core/test_wipe.py::test_wiping_happens_before_the_memory_is_unmapped": QUARANTINED,
    "tests/core/test_writer.py::test_a_secret_in_a_writer_is_wiped": GUARDED,
    "tests/core/test_writer.py::test_the_pool_hits_after_writers": COLD,
    "tests/everywhere/test_any_moment.py::test_every_operation_at_every_moment_of_every_other": SLOW,
    "tests/everywhere/test_executors.py::test_a_forked_child_has_the_pool_that_it_is_sent": COLD,
    "tests/everywhere/test_executors.py::test_from_a_notebook": COLD,
    "tests/everywhere/test_faults.py::test_no_more_address_space": LIMITS,
    "tests/everywhere/test_faults.py::test_no_more_data": LIMITS,
    "tests/everywhere/test_interrupts.py::test_an_exception_at_every_eleventh_byte_code[carve]": SLOW,
    "tests/everywhere/test_interrupts.py::test_the_end_of_an_escape_runs_nothing": QUARANTINED,
    "tests/everywhere/test_model.py::test_programs_against_the_model": APART,
    "tests/middleware/test_asgi.py::test_a_handler_that_raises": COLD,
    "tests/middleware/test_asgi.py::test_a_request_has_a_region": COLD,
    "tests/middleware/test_frameworks.py::test_django": COLD,
    "tests/middleware/test_load.py::test_under_load": COLD,
    "tests/middleware/test_wsgi.py::test_a_body_made_while_it_is_sent": COLD,
    "tests/middleware/test_wsgi.py::test_a_file_wrapper_that_is_a_function": COLD,
    "tests/middleware/test_wsgi.py::test_a_file_wrapper_that_won_t_take_another_close": COLD,
    "tests/middleware/test_wsgi.py::test_a_request_has_a_region": COLD,
    "tests/middleware/test_wsgi.py::test_a_server_that_forgets_to_close": COLD,
    "tests/middleware/test_wsgi.py::test_a_server_that_keeps_the_iterator_alone": COLD,
    "tests/middleware/test_wsgi.py::test_an_iteration_that_stops_early": COLD,
    "tests/project/test_examples_services.py::": COLD,
}
