"""Promise 4, for ctypes and cffi: every kind of escape is used after its block, in a process of its own."""

from __future__ import annotations

import pytest

from helpers.support import run_script

COMMON = """
import ctypes, gc, sys, threading
from scopedbump import RegionPool, bump_region

class Point(ctypes.Structure):
    _fields_ = [("x", ctypes.c_int), ("y", ctypes.c_int)]

class Pair(ctypes.Structure):
    _fields_ = [("first", Point), ("second", Point), ("text", ctypes.c_char_p)]

Numbers = ctypes.POINTER(ctypes.c_int)
Callback = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_int)

class Holder:
    pass

def trial(name, make, read, expected, pool=None):
    print(name, flush=True)
    region = pool.region() if pool else bump_region(1 << 20)
    with region as a:
        held = make(a)
        a.alloc(1000)
    # Whoever gets this memory next, or the addresses, overwrites it.
    with (pool.region() if pool else bump_region(1 << 20)) as other:
        other.alloc(100_000)[:] = b"\\xee" * 100_000
        gc.collect()
        assert not a.released, name
        assert read(held) == expected, (name, read(held))
    del held
    for _ in range(1 if sys.implementation.name == "cpython" else 9):  # each finalizer waits for a collection there
        gc.collect()
    assert a.released, name

def all_trials(trials):
    with RegionPool(1 << 20) as pool:
        for name, (make, read, expected) in trials.items():
            trial(name, make, read, expected)
            trial(name + " of a pool", make, read, expected, pool)
"""

CTYPES = """
def new(a):
    return a.ctypes.new(Pair, first=(1, 2), second=(3, 4), text=a.ctypes.string("text"))

def cycle(a):
    holder = Holder()
    holder.pair, holder.itself = new(a), holder
    return holder

def error(a):
    pair = new(a)
    try:
        raise KeyError
    except KeyError as error:
        return error

def in_thread(a):
    pair, go, seen = new(a), threading.Event(), []
    def work(pair):
        go.wait()
        seen.append(pair.second.y)
    thread = threading.Thread(target=work, args=(pair,))
    thread.start()
    del pair
    return thread, go, seen

def join(held):
    thread, go, seen = held
    go.set()
    thread.join()
    return seen

def finalizer(a):
    holder = type("Finalized", (), {"__del__": lambda self: seen_late.append(self.pair.second.y)})()
    holder.pair, holder.itself = new(a), holder
    return holder

seen_late = []

def simple(a):
    text = a.ctypes.new(ctypes.c_char_p)
    text.value = b"later"
    return text

all_trials({
    "object": (new, lambda pair: (pair.first.x, pair.text), (1, b"text")),
    "sub-object": (lambda a: new(a).second, lambda point: point.y, 4),
    "array": (lambda a: a.ctypes.array(ctypes.c_int, range(5)), list, [0, 1, 2, 3, 4]),
    "element": (lambda a: a.ctypes.array(Point, [(1, 2), (3, 4)])[1], lambda point: point.y, 4),
    "pointer to it": (lambda a: ctypes.pointer(new(a)), lambda p: p.contents.second.x, 3),
    "what a pointer leads to": (lambda a: ctypes.pointer(new(a)).contents, lambda pair: pair.second.x, 3),
    "pointer to a view": (lambda a: a.ctypes.pointer(a.copy(b"view")), lambda p: p[:4], b"view"),
    "pointer in the region": (
        lambda a: a.ctypes.new(ctypes.POINTER(Point), a.ctypes.new(Point, 5, 6)), lambda p: p.contents.y, 6
    ),
    "simple value": (simple, lambda text: text.value, b"later"),
    "string": (lambda a: a.ctypes.string("text"), lambda text: text.value, b"text"),
    "strings": (lambda a: a.ctypes.strings(["a", "b"]), list, [b"a", b"b", None]),
    "function pointer": (lambda a: a.ctypes.new(Callback, lambda n: n + 1), lambda function: function(2), 3),
    "cast": (lambda a: ctypes.cast(ctypes.pointer(new(a)), Numbers), lambda numbers: numbers[:4], [1, 2, 3, 4]),
    "member of a cycle": (cycle, lambda holder: holder.pair.second.y, 4),
    "in a traceback": (error, lambda error: error.__traceback__.tb_frame.f_locals["pair"].second.y, 4),
    "in a thread": (in_thread, join, [4]),
    "object of a slab": (lambda a: next(a.ctypes.slab(Point)), lambda point: point.y, 0),
    "simple value of a slab": (lambda a: next(a.ctypes.slab(ctypes.c_double)), lambda number: number.value, 0.0),
    "used by a finalizer in a cycle": (finalizer, lambda holder: holder.pair.second.x, 3),
})
assert seen_late == [4, 4], seen_late
if sys.implementation.name == "cpython":  # on PyPy these keep nothing, of any ctypes object
    all_trials({
        "byref": (lambda a: ctypes.byref(new(a), Pair.second.offset), lambda ref: ref._obj.second.y, 4),
        "memoryview": (lambda a: memoryview(new(a)).cast("B"), lambda view: bytes(view[12:16]), bytes((4, 0, 0, 0))),
        "another ctypes object over it": (
            lambda a: (ctypes.c_int * 4).from_buffer(new(a)), lambda numbers: list(numbers), [1, 2, 3, 4]
        ),
    })
"""

CFFI = """
import cffi

ffi = cffi.FFI()
ffi.cdef("typedef struct { int x, y; } point; typedef struct { point *at; char *name; } named;")

def new(a):
    return a.cffi(ffi).new("point *", (1, 2))

def cycle(a):
    holder = Holder()
    holder.point, holder.itself = new(a), holder
    return holder

def finalizer(a):
    holder = type("Finalized", (), {"__del__": lambda self: seen_late.append(self.point.y)})()
    holder.point, holder.itself = new(a), holder
    return holder

seen_late = []

def in_thread(a):
    point, go, seen = new(a), threading.Event(), []
    def work(point):
        go.wait()
        seen.append(point.y)
    thread = threading.Thread(target=work, args=(point,))
    thread.start()
    del point
    return thread, go, seen

def join(held):
    thread, go, seen = held
    go.set()
    thread.join()
    return seen

def error(a):
    point = new(a)
    try:
        raise KeyError
    except KeyError as error:
        return error

def named(a):
    c = a.cffi(ffi)
    return c.new("named *", {"at": c.new("point *", (5, 6)), "name": c.string("text")})

all_trials({
    "object": (new, lambda point: point.y, 2),
    "struct of it": (lambda a: new(a)[0], lambda point: point.y, 2),
    "array": (lambda a: a.cffi(ffi).new("int[]", [1, 2]), list, [1, 2]),
    "what it leads to": (named, lambda it: (it.at.y, ffi.string(it.name)), (6, b"text")),
    "string": (lambda a: a.cffi(ffi).string("text"), ffi.string, b"text"),
    "strings": (lambda a: a.cffi(ffi).strings(["a"]), lambda table: ffi.string(table[0]), b"a"),
    "pointer to a view": (lambda a: a.cffi(ffi).pointer(a.copy(b"view")), lambda p: ffi.string(p, 4), b"view"),
    "ffi.buffer": (lambda a: ffi.buffer(new(a)), lambda buffer: buffer[4:5], b"\\2"),
    "memoryview": (lambda a: memoryview(ffi.buffer(new(a))), lambda view: bytes(view[4:5]), b"\\2"),
    "ffi.from_buffer of a view": (lambda a: ffi.from_buffer("char[]", a.copy(b"view")), ffi.string, b"view"),
    "ctypes over it": (
        lambda a: (ctypes.c_int * 2).from_buffer(ffi.buffer(new(a))), lambda numbers: list(numbers), [1, 2]
    ),
    "ffi.gc": (lambda a: ffi.gc(new(a), lambda point: None), lambda point: point.y, 2),
    "handle to it": (lambda a: ffi.new_handle(new(a)), lambda handle: ffi.from_handle(handle).y, 2),
    "member of a cycle": (cycle, lambda holder: holder.point.y, 2),
    "in a traceback": (error, lambda error: error.__traceback__.tb_frame.f_locals["point"].y, 2),
    "in a thread": (in_thread, join, [2]),
    "used by a finalizer in a cycle": (finalizer, lambda holder: holder.point.x, 1),
})
assert seen_late == [2, 2], seen_late
"""

NUMPY = """
import numpy
import cffi

ffi = cffi.FFI()
all_trials({
    "over a ctypes array": (
        lambda a: numpy.ctypeslib.as_array(a.ctypes.array(ctypes.c_int, [1, 2, 3])), lambda n: n.tolist(), [1, 2, 3]
    ),
    "frombuffer of a ctypes array": (
        lambda a: numpy.frombuffer(a.ctypes.array(ctypes.c_double, [1.5]), "d"), lambda n: n.tolist(), [1.5]
    ),
    "over ffi.buffer": (
        lambda a: numpy.frombuffer(ffi.buffer(a.cffi(ffi).new("int[]", [4, 5])), "i")[1:], lambda n: n.tolist(), [5]
    ),
})
"""


def test_ctypes_escapes_keep_their_memory() -> None:
    """Right content, no crash, and the memory goes when the escape goes."""
    run_script(COMMON + CTYPES)


def test_cffi_escapes_keep_their_memory() -> None:
    """The same for cffi: whatever owns, and whatever holds something that owns."""
    pytest.importorskip("cffi")
    run_script(COMMON + CFFI)


def test_arrays_over_escapes_keep_their_memory() -> None:
    """The same for NumPy over ctypes and cffi objects."""
    pytest.importorskip("numpy")
    run_script(COMMON + NUMPY)


def test_escapes_that_are_alive_at_the_end_of_the_process_do_no_harm() -> None:
    """Objects in globals, in cycles, and of an open region: the interpreter ends with status 0 and says nothing."""
    pytest.importorskip("cffi")
    script = """
        import ctypes, cffi
        from scopedbump import bump_region

        ffi = cffi.FFI()
        region = bump_region(1 << 20)
        with bump_region(1 << 20) as a:
            for region_ in (a, region):
                held = [region_.ctypes.new(ctypes.c_char_p, b"x"), region_.cffi(ffi).new("int[]", [1])]
                held += [next(region_.ctypes.slab(ctypes.c_int)), region_.cffi(ffi).new("int *", 1)]
                held.append(held)
                globals()[f"held_{id(region_)}"] = held
        region.close()
        print("end")
        """
    assert run_script(script).split() == ["end"]
