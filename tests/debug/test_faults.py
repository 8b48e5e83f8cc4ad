"""Faults in guards: by whatever way C is called, and what is not ours stays as it is."""

from __future__ import annotations

import ctypes
import errno
import os
import re
import subprocess
import sys
import textwrap
import threading
from pathlib import Path
from typing import Any

import pytest

from scopedbump import OverrunError, Region, bump_region, debug

here = Path(__file__).name

dies_by_signals = pytest.mark.skipif(sys.platform == "win32", reason="there ctypes makes an OSError of a fault")
tells_of_faults = pytest.mark.skipif(sys.implementation.name != "cpython", reason="CPython alone explains faults")


def last_after(region: Region, before: int, address: int) -> debug.Finding:
    """The one finding since then, of the block at that address."""
    new = debug.findings()[before:]
    assert len(new) == 1, new
    assert new[0].block is not None
    assert new[0].block.address == address
    return new[0]


def run(code: str, *arguments: str, flags: tuple[str, ...] = (), **variables: str) -> subprocess.CompletedProcess[str]:
    """Run a script that may crash in a process of its own."""
    environment = {**os.environ, **variables}
    environment.pop("PYTHONFAULTHANDLER", None)
    command = [sys.executable, *flags, "-c", textwrap.dedent(code), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False, env=environment)


@pytest.mark.usefixtures("going_on")
@pytest.mark.parametrize("way", ["ctypes", "with_the_gil", "callback", "thread", "sort", "cffi", "memset"])
def test_an_overrun_is_found_whoever_makes_it(way: str, library: Any, library_path: Path) -> None:
    """By ctypes with and without the GIL, a callback, a thread of the library's own, inside qsort, by cffi, by libc."""
    a = bump_region(debug=True, name=way)
    address = a.address(a.alloc(16))
    before = len(debug.findings())
    python = True
    if way == "ctypes":
        library.poke(address, 16)
    elif way == "with_the_gil":
        poke = ctypes.PyDLL(str(library_path)).poke
        poke.argtypes = [ctypes.c_void_p, ctypes.c_long]
        poke(address, 16)
    elif way == "callback":
        kind = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_long)
        library.call_back.argtypes = [kind, ctypes.c_void_p, ctypes.c_long]
        library.call_back(kind(lambda pointer, at: ctypes.memset(pointer + at, 1, 1) and None), address, 16)
    elif way == "thread":
        library.poke_in_thread(address, 16)
        python = False
    elif way == "sort":
        kind = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p)

        def compare(one: int, other: int) -> int:
            library.poke(address, 16)
            return 0

        items = (ctypes.c_int * 2)(2, 1)
        ctypes.CDLL(None).qsort(items, 2, 4, kind(compare))
    elif way == "cffi":
        cffi = pytest.importorskip("cffi")
        ffi = cffi.FFI()
        ffi.cdef("void poke(char *p, long at);")
        ffi.dlopen(str(library_path)).poke(ffi.cast("char *", address), 16)
    else:
        ctypes.memset(address + 16, 1, 1)
    finding = last_after(a, before, address)
    assert finding.kind == "write past"
    assert bool(finding.stack) is python
    assert not python or any(f"{here}:" in line for line in finding.stack)
    with pytest.raises(OverrunError):
        a.close()


@pytest.mark.usefixtures("going_on")
def test_an_overrun_of_numpy_is_found() -> None:
    """An ndarray that was given wrong strides faults where its block ends."""
    numpy = pytest.importorskip("numpy")
    a = bump_region(debug=True)
    array = a.numpy.zeros(8)
    before = len(debug.findings())
    wrong = numpy.lib.stride_tricks.as_strided(array, (9,), (8,))
    assert wrong.sum() == 0
    assert last_after(a, before, array.ctypes.data).kind == "read past"
    wrong[:] = 2
    assert array.sum() == 16
    del array, wrong
    with pytest.raises(OverrunError):
        a.close()


@pytest.mark.usefixtures("going_on")
def test_many_faults_in_many_threads_go_on_with_right_results(library: Any) -> None:
    """10,000 faults in a row, from 8 threads: each call gives its right result, and each fault has its finding."""
    library.sum_after.argtypes = [ctypes.c_void_p, ctypes.c_long, ctypes.c_long]
    library.sum_after.restype = ctypes.c_long
    a = bump_region(debug=True)
    each = 10_000 // 8
    wrong: list[object] = []
    addresses: list[int] = []

    def work() -> None:
        for _ in range(each):
            address = a.address(a.alloc(16))
            addresses.append(address)
            result = library.sum_after(address, 16, 1000)
            if result != 499_500:
                wrong.append(result)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    found = {finding.block.address for finding in debug.check(a) if finding.block is not None}
    assert found == set(addresses)
    with pytest.raises(OverrunError, match=r"findings in a debug region(.|\n)*more, in `findings`"):
        a.close()


@pytest.mark.usefixtures("going_on")
def test_a_system_call_into_a_guard_is_refused_as_it_would_be(library: Any) -> None:
    """read(2) past the end of a block is EFAULT, and no finding."""
    with bump_region(debug=True) as a:
        address = a.address(a.alloc(16))
        libc = ctypes.CDLL(None, use_errno=True)
        libc.read.argtypes = [ctypes.c_int, ctypes.c_void_p, ctypes.c_size_t]
        before = len(debug.findings())
        read, write = os.pipe()
        try:
            os.write(write, b"text")
            assert libc.read(read, address + 16, 4) == -1
            assert ctypes.get_errno() == errno.EFAULT
        finally:
            os.close(read)
            os.close(write)
        assert len(debug.findings()) == before


OVERRUN = """
    import ctypes, faulthandler, scopedbump
    {before}
    a = scopedbump.bump_region(debug=True, name="it")
    address = a.address(a.alloc(16))
    {after}
    ctypes.memset(address + 16, 1, 1)
    print("went on")
"""


@tells_of_faults
@dies_by_signals
@pytest.mark.parametrize(("before", "after"), [("faulthandler.enable()", ""), ("", "faulthandler.enable(); a.scope()")])
def test_by_default_the_process_says_what_it_was_and_dies_as_it_would_have(before: str, after: str) -> None:
    """Outside of tests a fault is printed, and goes to faulthandler, whether that was enabled before or after."""
    done = run(OVERRUN.format(before=before, after=after))
    assert done.returncode == -11
    assert done.stdout == ""
    said, _, dump = done.stderr.partition("Fatal Python error: Segmentation fault")
    assert "scopedbump: a write 1 byte past the end of the block of 16 bytes" in said
    assert "<string>:5 in <module>" in said
    assert 'File "<string>", line 7 in <module>' in dump


@tells_of_faults
@dies_by_signals
def test_without_faulthandler_the_process_dies_by_the_signal() -> None:
    """The default of the signal is what comes after the message."""
    done = run(OVERRUN.format(before="", after=""))
    assert done.returncode == -11
    assert "1 byte past the end" in done.stderr
    assert "Fatal Python error" not in done.stderr


CRASHES = {
    "null": "ctypes.memset(0, 1, 1)",
    "elsewhere": "ctypes.memset(64, 1, 1)",
    "not canonical": "ctypes.memset(1 << 62, 1, 1)",
    "sent": "import os, signal; os.kill(os.getpid(), signal.SIGSEGV); import time; time.sleep(9)",
    "bus": "import os, signal; os.kill(os.getpid(), signal.SIGBUS); import time; time.sleep(9)",
    "thread": "import threading; t = threading.Thread(target=ctypes.memset, args=(0, 1, 1)); t.start(); t.join()",
    "no stack": "import sys; f = lambda n: sorted([1, 2], key=lambda _: f(n + 1)); sys.setrecursionlimit(10**9); f(0)",
}


@dies_by_signals
@pytest.mark.parametrize("crash", CRASHES)
@pytest.mark.parametrize("dump", ["", "before", "after"])
def test_a_crash_elsewhere_is_what_it_would_be_without_us(crash: str, dump: str) -> None:
    """Exit status and faulthandler's dump are the same, byte for byte, with a debug region open and without."""
    enable = "import faulthandler; faulthandler.enable()"
    script = f"""
        import ctypes, scopedbump, sys
        {enable if dump == "before" else ""}
        a = scopedbump.bump_region(debug=sys.argv[1] == "on")
        a.alloc(16)
        {enable if dump == "after" else ""}
        a.scope()
        {CRASHES[crash]}
    """
    with_us, without = run(script, "on"), run(script, "off")
    assert with_us.returncode == without.returncode
    assert without.returncode < 0 or crash == "no stack"  # some Pythons see the end of their stack coming
    assert with_us.stdout == without.stdout
    modules = "\nExtension modules:"  # more are loaded
    assert dump or crash == "no stack" or not with_us.stderr
    dumps = [_without_addresses(done.stderr.partition(modules)[0]) for done in (with_us, without)]
    if crash == "no stack":  # how deep that is, and in which frame, is another each time
        dumps = [dump.partition("\n")[0] for dump in dumps]
    assert dumps[0] == dumps[1]


def _without_addresses(dump: str) -> str:
    mine = [part for part in dump.split("\n\n") if not part.startswith("Thread ")]  # others are anywhere
    return re.sub("0x[0-9a-f]+", "", "\n\n".join(mine))


@dies_by_signals
def test_handlers_of_the_program_come_first_again_after_ours() -> None:
    """A handler that C put over ours later gets what is not ours."""
    done = run(
        """
        import ctypes, os, scopedbump, signal, sys
        a = scopedbump.bump_region(debug=True)
        seen = []
        signal.signal(signal.SIGSEGV, lambda number, frame: seen.append(number))
        b = scopedbump.bump_region(debug=True)
        os.kill(os.getpid(), signal.SIGSEGV)
        print(seen == [signal.SIGSEGV])
        """
    )
    assert (done.returncode, done.stdout) == (0, "True\n")


@tells_of_faults
@pytest.mark.skipif(sys.platform != "linux", reason="there is no PR_SET_MDWE")
def test_without_executable_memory_guards_and_faulthandler_are_what_there_is() -> None:
    """Where no handler can be made a debug region says so, its canaries hold, and a guard is a segmentation fault."""
    script = """
        import ctypes, faulthandler, scopedbump, sys
        from scopedbump import debug
        faulthandler.enable()
        # PR_SET_MDWE, PR_MDWE_REFUSE_EXEC_GAIN
        if ctypes.CDLL(None).prctl(65, 1, 0, 0, 0):
            sys.exit(77)
        a = scopedbump.bump_region(debug=True)
        print("faults are not explained" in a.report())
        block = a.alloc(16)
        try:
            debug.on_fault("go_on")
        except NotImplementedError as refusal:
            print("execut" in str(refusal))
        ctypes.memset(a.address(block) - 1, 1, 1)
        print(debug.check(a)[0].kind, flush=True)
        ctypes.memset(a.address(block) + 16, 1, 1)
    """
    done = run(script)
    if done.returncode == 77:
        pytest.skip("this kernel has no PR_SET_MDWE")
    assert done.stdout == "True\nTrue\ncanary changed\n"
    assert done.returncode == -11
    assert "Fatal Python error: Segmentation fault" in done.stderr


@tells_of_faults
@dies_by_signals
def test_a_child_process_explains_its_own_faults() -> None:
    """After a fork both processes go on as they were."""
    done = run(
        """
        import ctypes, os, scopedbump
        from scopedbump import debug
        debug.on_fault("go_on")
        a = scopedbump.bump_region(debug=True)
        address = a.address(a.alloc(16))
        if not os.fork():
            ctypes.memset(address + 16, 1, 1)
            os._exit(len(debug.findings()))
        _, status = os.wait()
        ctypes.memset(address + 16, 1, 1)
        print(os.waitstatus_to_exitcode(status), len(debug.findings()))
        try:
            a.close()
        except scopedbump.OverrunError:
            print("told")
        """
    )
    assert (done.returncode, done.stdout) == (0, "1 1\ntold\n"), done.stderr


def test_a_policy_is_one_of_two() -> None:
    """on_fault takes "die" and "go_on", gives the former one, and refuses all else."""
    with pytest.raises(ValueError, match="'live'"):
        debug.on_fault("live")  # type: ignore[arg-type]
    before = debug.on_fault("die")
    assert debug.on_fault(before) == "die"


def test_where_no_handler_can_be_made_go_on_is_refused_before_the_first_region() -> None:
    """What is refused later is refused at once: a program that asks first must not go on and die."""
    done = run(
        """
        import sys
        from scopedbump import debug
        sys.implementation.name = "another"
        try:
            debug.on_fault("go_on")
        except NotImplementedError as refusal:
            print("only CPython" in str(refusal), debug.on_fault("die"))
        """
    )
    assert done.stdout == "True die\n", done.stderr
