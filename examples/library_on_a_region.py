"""expat in a region: what it allocates has a limit, and goes with the block.

Run it: `python examples/library_on_a_region.py`. It parses documents from strangers, each with 2 MiB of memory for its
parser. One opens a million elements, one has entities that explode: both end as expat's own error, inside the quota. A
good one is parsed a thousand times by parsers that nobody frees, and the process does not grow.
"""

from __future__ import annotations

import sys
from ctypes.util import find_library
from typing import Any

import cffi

from scopedbump import CffiHooks, Region, RegionPool

ffi: Any = cffi.FFI()
ffi.cdef(
    """
    typedef struct XML_ParserStruct *XML_Parser;
    typedef struct {
        void *(*malloc_fcn)(size_t size);
        void *(*realloc_fcn)(void *ptr, size_t size);
        void (*free_fcn)(void *ptr);
    } XML_Memory_Handling_Suite;
    typedef void (*XML_StartElementHandler)(void *data, const char *name, const char **attributes);

    XML_Parser XML_ParserCreate_MM(const char *encoding, const XML_Memory_Handling_Suite *suite, const char *separator);
    void XML_SetStartElementHandler(XML_Parser parser, XML_StartElementHandler handler);
    int XML_Parse(XML_Parser parser, const char *text, int size, int is_final);
    int XML_GetErrorCode(XML_Parser parser);
    const char *XML_ErrorString(int code);
    """
)

QUOTA = 2 << 20
GOOD = b"<list>" + b"".join(b"<item number='%d'>text</item>" % number for number in range(50)) + b"</list>"
DEEP = b"<a>" * 1_000_000
LAUGHS = (
    b"<!DOCTYPE a [<!ENTITY e0 'ha'>"
    + b"".join(b"<!ENTITY e%d '%s'>" % (number, b"&e%d;" % (number - 1) * 10) for number in range(1, 20))
    + b"]><a b='&e19;'/>"
)


class DocumentError(ValueError):
    """A document that can't be parsed."""


def open_expat() -> Any:
    """The library; None where it is not."""
    name = "libexpat.dll" if sys.platform == "win32" else find_library("expat") or "libexpat.so.1"
    try:
        return ffi.dlopen(name)
    except OSError:
        return None


def count_elements(a: Region, expat: Any, document: bytes) -> int:
    """How many elements a document has.

    Raises:
        DocumentError: it is none, or wants more memory than the region has.
    """
    hooks: CffiHooks = a.cffi(ffi).hooks()
    suite = a.cffi(ffi).new(
        "XML_Memory_Handling_Suite *",
        (
            hooks.malloc("void *(*)(size_t)", "size"),
            hooks.realloc("void *(*)(void *, size_t)", "ptr size"),
            hooks.free("void (*)(void *)", "ptr"),
        ),
    )
    parser = expat.XML_ParserCreate_MM(ffi.NULL, suite, ffi.NULL)
    if parser == ffi.NULL:
        raise DocumentError(str(hooks.refused))
    count = 0

    def on_start(_data: Any, _name: Any, _attributes: Any) -> None:
        nonlocal count
        count += 1

    handler = ffi.callback("XML_StartElementHandler", on_start)
    expat.XML_SetStartElementHandler(parser, handler)
    if not expat.XML_Parse(parser, document, len(document), True):
        said = ffi.string(expat.XML_ErrorString(expat.XML_GetErrorCode(parser))).decode()
        raise DocumentError(f"{said} ({hooks.refused})" if hooks.refused else said)
    return count  # and nobody frees the parser: it lies in the region


def main() -> None:
    """Parse documents, good and hostile."""
    expat = open_expat()
    if expat is None:
        print("expat is not on this machine")
        return
    with RegionPool(QUOTA, name="a document") as pool:
        used = 0
        for _ in range(1000):
            with pool.region() as a:
                assert count_elements(a, expat, GOOD) == 51
                used = a.used
        print(f"a good document: 51 elements, {used:,} bytes for each of 1,000 parsers that were never freed")
        for name, document in (("deep nesting", DEEP), ("entities that explode", LAUGHS)):
            with pool.region() as a:
                try:
                    count_elements(a, expat, document)
                    print(f"{name}: this should not have been parsed")
                except DocumentError as refusal:
                    print(f"{name}: {refusal}")
                assert a.peak <= QUOTA


if __name__ == "__main__":
    main()
