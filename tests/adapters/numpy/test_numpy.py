"""`Region.numpy`: arrays as NumPy makes them, in the region's memory, and errors that leave it as it was."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from helpers.support import collect, run_script
from scopedbump import RegionBusyError, RegionClosedError, RegionFullError, bump_region

np = pytest.importorskip("numpy", reason="NumPy is not installed")

SHAPES: list[Any] = [0, 1, 5, (), (3,), (2, 3), [2, 3], (0, 4), (2, 0, 3), (2, 3, 4), np.int64(3), np.array([2, 2])]
DTYPES: list[Any] = [
    None,
    "u1",
    "f4",
    ">i8",
    np.complex128,
    np.longdouble,
    bool,
    "S5",
    "S",
    "U3",
    "V7",
    "M8[ns]",
    [("a", "i1"), ("b", "f8")],
    np.dtype([("a", "i1"), ("b", "f8")], align=True),
    (np.int32, (2, 2)),
    [("m", "f4", (2, 3))],
    [],
]


@pytest.mark.parametrize("dtype", DTYPES, ids=repr)
@pytest.mark.parametrize("shape", SHAPES, ids=repr)
@pytest.mark.parametrize("order", ["C", "F"])
def test_arrays_are_as_numpys_own_but_for_where_they_lie(shape: Any, dtype: Any, order: Any) -> None:
    """Shape, dtype, strides and flags are NumPy's, zeros are zero, and the bytes lie in the region, aligned to 64."""
    with bump_region(1 << 20) as a:
        a.alloc(7)
        for make, numpys in ((a.numpy.empty, np.empty), (a.numpy.zeros, np.zeros)):
            array, other = make(shape, dtype, order), numpys(shape, dtype, order)
            assert (array.shape, array.dtype, array.nbytes) == (other.shape, other.dtype, other.nbytes)
            assert array.strides == other.strides or array.size == 0
            assert array.flags.c_contiguous == other.flags.c_contiguous and array.flags.writeable
            assert (
                array.flags.aligned and array.ctypes.data % 64 == 0 and array.ctypes.data % array.dtype.alignment == 0
            )
            assert array.nbytes == 0 or array.ctypes.data in a
            if make == a.numpy.zeros:
                assert array.base is not None
                assert bytes(array.base) == bytes(array.nbytes)
            array[...] = other
        del array, other
    collect()
    assert a.released


@pytest.mark.parametrize(
    "arguments",
    [
        (-1,),
        ((2, -1),),
        (1.5,),
        ("ab",),
        ((2.5,),),
        (2**70,),
        ((2**40, 2**40),),
        ((1,) * 70,),
        (True,),
        (3, "nope"),
        (3, "f4", "K"),
        (3, "f4", "x"),
    ],
    ids=repr,
)
def test_wrong_arguments_get_numpys_own_errors(arguments: tuple[Any, ...]) -> None:
    """The error is the one that NumPy raises, word for word, and the cursor has not moved."""
    with bump_region(1 << 20) as a:
        for make, numpys in ((a.numpy.empty, np.empty), (a.numpy.zeros, np.zeros)):
            with pytest.raises(Exception) as numpys_own:  # noqa: PT011  # whatever it is
                numpys(*arguments)
            with pytest.raises(type(numpys_own.value)) as ours:
                make(*arguments)
            assert str(ours.value) == str(numpys_own.value)
            assert a.used == 0


@pytest.mark.parametrize("dtype", ["O", [("a", "O")], [("a", [("b", "i4"), ("c", "O")])], (object, (2,))], ids=repr)
def test_object_dtypes_are_refused_with_the_reason(dtype: Any) -> None:
    """References to Python objects have no place in memory that goes without being looked at."""
    with bump_region(1 << 20) as a:
        for make in (a.numpy.empty, a.numpy.zeros):
            with pytest.raises(TypeError, match="references to Python objects"):
                make(3, dtype)
        with pytest.raises(TypeError, match="references to Python objects"):
            a.numpy.copy(np.empty(3, dtype))
        with pytest.raises(TypeError, match="references to Python objects"):
            a.numpy.full(3, None)
        assert a.used == 0


@pytest.mark.parametrize(
    ("shape", "value", "dtype"),
    [
        (3, 7, None),
        ((2, 3), [1, 2, 3], "f4"),
        ((), 2.5, None),
        ((2, 2), "abc", None),
        (3, b"abcdef", "S3"),
        ((0, 3), [1, 2, 3], None),
        (2, (1, 2.5), [("a", "i1"), ("b", "f8")]),
        (3, 300, "f8"),
    ],
    ids=repr,
)
def test_full_is_numpys_full(shape: Any, value: Any, dtype: Any) -> None:
    """The same values in the same dtype as `numpy.full` gives."""
    with bump_region(1 << 20) as a:
        array, other = a.numpy.full(shape, value, dtype), np.full(shape, value, dtype)
        assert array.dtype == other.dtype and array.shape == other.shape and array.tolist() == other.tolist()


@pytest.mark.parametrize(("shape", "value", "dtype"), [(3, [1, 2], "f4"), (3, "no number", "f4"), (-1, 0, None)])
def test_full_complains_before_it_takes_anything(shape: Any, value: Any, dtype: Any) -> None:
    """A value that does not fit raises what NumPy raises, and the cursor has not moved."""
    with bump_region(1 << 20) as a:
        with pytest.raises(ValueError, match="could not|broadcast|negative"):
            a.numpy.full(shape, value, dtype)
        assert a.used == 0


@given(st.data())
def test_copy_keeps_the_layout_as_numpy_does(data: st.DataObject) -> None:
    """Whatever the source's strides, `copy` has the strides and values that `numpy.copy` gives for each order."""
    shape = data.draw(st.lists(st.integers(0, 4), max_size=4))
    source = np.arange(int(np.prod(shape)), dtype="i4").reshape(shape)
    source = source.transpose(data.draw(st.permutations(range(source.ndim))))
    source = source[tuple(slice(None, None, data.draw(st.sampled_from([1, 2, -1, -2]))) for _ in shape)]
    if data.draw(st.booleans()):
        source = np.broadcast_to(source, (2, *source.shape))
    order: Any = data.draw(st.sampled_from("KACF"))
    with bump_region(1 << 20) as a:
        mine, numpys = a.numpy.copy(source, order), np.copy(source, order)
        assert mine.strides == numpys.strides or mine.size == 0
        assert mine.shape == numpys.shape and mine.dtype == numpys.dtype and np.array_equal(mine, numpys)
        assert mine.flags.writeable


def test_copy_takes_what_numpy_makes_arrays_of() -> None:
    """Lists, scalars and buffers are copied too; an order that is none raises NumPy's error."""
    with bump_region(1 << 20) as a:
        assert a.numpy.copy([[1, 2], [3, 4]]).tolist() == [[1, 2], [3, 4]]
        assert a.numpy.copy(2.5).shape == () and a.numpy.copy(bytearray(b"abc")).tolist() == [97, 98, 99]
        with pytest.raises(ValueError, match="order must be one of"):
            a.numpy.copy([1], "x")  # type: ignore[call-overload]  # what is tested


@pytest.mark.parametrize(
    "order", [None, "K", "k", "A", "a", "C", "c", "F", "f", b"C", b"k", "X", "", "CC", 3, b"X", ["C"]]
)
def test_copy_takes_every_order_that_numpy_takes(order: Any) -> None:
    """The layout is NumPy's for each way to say an order, and so is the error for what is none."""

    def told(copy: Any, source: Any) -> Any:
        try:
            made = copy(source, order=order)
        except (TypeError, ValueError) as error:
            return type(error), str(error)
        return made.strides, made.tolist()

    plain = np.arange(24.0).reshape(2, 3, 4)
    with bump_region(1 << 20) as a:
        for source in (plain, np.asfortranarray(plain), plain.transpose(1, 0, 2), plain[:, ::-1]):
            assert told(a.numpy.copy, source) == told(np.copy, source)


def test_the_fast_way_to_small_arrays_is_no_other_way() -> None:
    """Whatever names the dtype, a small array of one dimension is as NumPy makes it, and pins."""
    with bump_region(1 << 20) as a:
        for dtype in (None, float, int, bool, complex, np.int16, np.uint8, "f4", np.dtype(">i2"), np.float16, "S3"):
            for shape in (0, 1, 8, 512, 513, True, np.int64(3)):
                try:
                    numpys = np.empty(shape, dtype)
                except TypeError:
                    with pytest.raises(TypeError):
                        a.numpy.empty(shape, dtype)
                    continue
                mine = a.numpy.empty(shape, dtype)
                assert mine.dtype == numpys.dtype and mine.shape == numpys.shape and mine.flags.writeable
                assert mine.ctypes.data % 64 == 0 and mine.base is not None and mine.base.nbytes == mine.nbytes
        kept = a.numpy.empty(8)
        kept[:] = 5
        del mine
    assert not a.released and (kept == 5).all()
    del kept
    collect()
    assert a.released


def test_what_lies_below_an_array_can_not_be_released() -> None:
    """Promise 4: nothing that `base` leads to has a `release` that would take the memory away."""
    with bump_region(1 << 20) as a:
        for array in (a.numpy.empty(8), a.numpy.zeros((3, 4)), a.numpy.copy(np.ones((2, 3)).T)):
            below: Any = array
            while (below := getattr(below, "base", None)) is not None:
                assert not hasattr(below, "release")


def test_base_shows_the_arrays_own_bytes_and_no_more() -> None:
    """What `base` gives can be read to its end: it is not the whole region, most of which is not there."""
    with bump_region() as a:
        for array in (a.numpy.zeros((3, 5), np.float32), a.numpy.copy(np.ones((2, 3, 4)).transpose(1, 0, 2))):
            assert array.base is not None
            assert array.base.nbytes == array.nbytes and bytes(array.base) is not None


def test_an_array_pins_and_keeps_its_content() -> None:
    """Promise 4: an array, or a view of one, keeps the region's memory until it dies."""
    with bump_region(1 << 20) as a:
        array = a.numpy.full((100, 100), 7.5)
    assert a.closed and not a.released
    view = array[3:5, ::2]
    del array
    collect()
    assert not a.released and (view == 7.5).all()
    del view
    collect()
    assert a.released


def test_a_region_that_can_not_allocate_says_why() -> None:
    """Full, busy and closed are the region's own errors, and what fits is served still."""
    with bump_region(1 << 16) as a:
        numpy = a.numpy
        with pytest.raises(RegionFullError):
            numpy.zeros(1 << 20)
        with a.scope(), pytest.raises(RegionBusyError):
            numpy.zeros(3)
        assert numpy.zeros(3).tolist() == [0, 0, 0]
    with pytest.raises(RegionClosedError):
        numpy.zeros(3)
    with pytest.raises(RegionClosedError):
        a.numpy.empty(3)


def test_memory_used_before_is_cleared_for_zeros() -> None:
    """Promise 6: zeros are zero in memory that had something else in it."""
    with bump_region(1 << 20) as a:
        a.numpy.full(1 << 16, 1.0)
        a.reset()
        assert not a.numpy.zeros(1 << 16).any()


def test_without_numpy_the_attribute_names_the_command() -> None:
    """ImportError, with what to install; and importing scopedbump imports no NumPy."""
    run_script(
        """
        import sys
        from scopedbump import bump_region
        assert "numpy" not in sys.modules
        sys.modules["numpy"] = None
        with bump_region() as a:
            try:
                a.numpy
            except ImportError as error:
                assert "pip install 'scopedbump[numpy]'" in str(error) and error.name == "numpy"
            else:
                raise AssertionError
        """
    )


def test_an_import_error_of_numpy_names_its_cause(tmp_path: Any) -> None:
    """An installed NumPy that can't be imported is not called missing."""
    (tmp_path / "numpy").mkdir()
    (tmp_path / "numpy" / "__init__.py").write_text("import a_library_that_is_missing")
    run_script(
        """
        import sys
        sys.path.insert(0, sys.argv[1])
        from scopedbump import bump_region
        with bump_region() as a:
            try:
                a.numpy
            except ImportError as error:
                assert "a_library_that_is_missing" in str(error) and "pip install" not in str(error), error
                assert error.name == "numpy" and error.__cause__ is not None
            else:
                raise AssertionError
        """,
        str(tmp_path),
    )


@pytest.mark.long
def test_type_checkers_see_the_item_type(tmp_path: Any) -> None:
    """Promise 12: mypy infers NDArray[np.float32] from dtype=np.float32, and rejects what is none of the orders."""
    pytest.importorskip("mypy", reason="mypy is not installed")
    program = tmp_path / "program.py"
    program.write_text(
        """
from typing import Any, assert_type
import numpy as np
from numpy.typing import NDArray
from scopedbump import bump_region

with bump_region() as a:
    assert_type(a.numpy.zeros(3, dtype=np.float32), NDArray[np.float32])
    assert_type(a.numpy.empty((2, 3)), NDArray[np.float64])
    assert_type(a.numpy.empty((2, 3), np.dtype(np.int16), "F"), NDArray[np.int16])
    assert_type(a.numpy.zeros([2, 3], "i4"), NDArray[Any])
    assert_type(a.numpy.full(3, np.int8(3)), NDArray[np.int8])
    assert_type(a.numpy.full(3, 3, np.uint8), NDArray[np.uint8])
    assert_type(a.numpy.copy(np.zeros(3, np.int32)), NDArray[np.int32])
    a.numpy.zeros(3, np.float32, "K")  # type: ignore[call-overload]
    with a.numpy.handler(min_bytes=0) as h:
        assert_type(h.served_blocks, int)
    a.numpy.handler(min_bytes="0")  # type: ignore[arg-type]
"""
    )
    command = [sys.executable, "-m", "mypy", "--strict", "--no-incremental", str(program)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=100)
    assert done.returncode == 0, done.stdout + done.stderr
