"""What these tests share: a C library that writes where it is told to, and a process that goes on after a fault."""

from __future__ import annotations

import ctypes
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from shutil import which

import pytest

from scopedbump import debug
from scopedbump._debug import _findings

SOURCE = r"""
#include <pthread.h>
#include <stdlib.h>
#include <unistd.h>

void poke(char *p, long at) { *(volatile char *)(p + at) = 1; }
int peek(char *p, long at) { return *(volatile char *)(p + at); }
void fill(char *p, long from, long to) { for (long at = from; at < to; at++) ((volatile char *)p)[at] = 1; }

void call_back(void (*function)(char *, long), char *p, long at) { function(p, at); }

struct work { char *p; long at; };
static void *work(void *w) { struct work *it = w; poke(it->p, it->at); return 0; }
void poke_in_thread(char *p, long at) {
    struct work it = {p, at}; pthread_t thread;
    pthread_create(&thread, 0, work, &it);
    pthread_join(thread, 0);
}
struct item { struct item *next; char text[24]; };
struct item *make_list(void *(*allocate)(size_t), long count) {
    struct item *first = 0;
    while (count--) {
        struct item *item = allocate(sizeof *item);
        if (!item) return 0;
        item->next = first; first = item;
    }
    return first;
}
void spoil_list(struct item *item, long at) {
    while (at--) item = item->next;
    *(volatile char *)(item->text + 24) = 1;
}
long sum_after(char *p, long at, long n) {
    long sum = 0;
    poke(p, at);
    for (long i = 0; i < n; i++) sum += i;
    return sum;
}
"""


@pytest.fixture(scope="session")
def library_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The library, compiled now."""
    compiler = which("gcc") or which("cc") or which("clang")
    if compiler is None or sys.platform == "win32":
        pytest.skip("there is no C compiler")
    folder = tmp_path_factory.mktemp("library")
    (folder / "poke.c").write_text(SOURCE)
    made = folder / "poke.so"
    subprocess.run([compiler, "-shared", "-fPIC", "-O1", "-pthread", "-o", made, folder / "poke.c"], check=True)
    return made


@pytest.fixture
def library(library_path: Path) -> ctypes.CDLL:
    """The library, its functions called without the GIL."""
    loaded = ctypes.CDLL(str(library_path))
    for name in ("poke", "peek", "poke_in_thread"):
        getattr(loaded, name).argtypes = [ctypes.c_void_p, ctypes.c_long]
    return loaded


@pytest.fixture
def going_on() -> Iterator[None]:
    """Faults in guards are noted, and the test goes on."""
    _findings.found.clear()  # the last 10,000 are kept: a test that made as many leaves no room to count in
    try:
        before = debug.on_fault("go_on")
        yield
    except NotImplementedError as refusal:
        pytest.skip(str(refusal))
    debug.on_fault(before)


@pytest.fixture(autouse=True)
def nothing_found_yet() -> None:
    """Only the last 10,000 findings are kept: a test that counts those that came begins without any."""
    _findings.found.clear()
