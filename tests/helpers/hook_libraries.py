"""Jobs of C libraries that let their caller say where memory comes from: each as its users would write it.

A job takes what makes the functions (`CffiHooks`, or anything with its methods), or None for the library's own
allocator, and returns what the library made. Nothing is freed that a region gives back. Without hooks that leaks,
unless the caller of the job runs what is then in `endings`.
"""

from __future__ import annotations

import ctypes.util
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import cffi

ffi: Any = cffi.FFI()
ffi.cdef(
    """
    typedef void *(*alloc_size)(size_t);
    typedef void *(*alloc_opaque)(void *, size_t);
    typedef void *(*alloc_last)(size_t, void *);
    typedef void *(*alloc_count)(void *, size_t, size_t);
    typedef void *(*alloc_ints)(void *, int, int);
    typedef void *(*alloc_uints)(void *, unsigned, unsigned);
    typedef void *(*realloc_ptr)(void *, size_t);
    typedef void *(*realloc_opaque)(void *, void *, size_t);
    typedef void *(*realloc_last)(void *, size_t, void *);
    typedef void *(*realloc_lua)(void *, void *, size_t, size_t);
    typedef void *(*calloc_count)(size_t, size_t);
    typedef void *(*calloc_last)(size_t, size_t, void *);
    typedef void (*free_ptr)(void *);
    typedef void (*free_opaque)(void *, void *);

    /* zlib */
    typedef struct {
        const unsigned char *next_in; unsigned avail_in; unsigned long total_in;
        unsigned char *next_out; unsigned avail_out; unsigned long total_out;
        char *msg; void *state; alloc_uints zalloc; free_opaque zfree; void *opaque;
        int data_type; unsigned long adler, reserved;
    } z_stream;
    const char *zlibVersion(void);
    int deflateInit2_(z_stream *, int, int, int, int, int, const char *, int);
    int deflate(z_stream *, int);

    /* bzip2 */
    typedef struct {
        const char *next_in; unsigned avail_in, total_in_lo32, total_in_hi32;
        char *next_out; unsigned avail_out, total_out_lo32, total_out_hi32;
        void *state; alloc_ints bzalloc; free_opaque bzfree; void *opaque;
    } bz_stream;
    int BZ2_bzCompressInit(bz_stream *, int, int, int);
    int BZ2_bzCompress(bz_stream *, int);

    /* lzma */
    typedef struct { alloc_count alloc; free_opaque free; void *opaque; } lzma_allocator;
    int lzma_easy_buffer_encode(uint32_t, int, const lzma_allocator *, const char *, size_t, char *, size_t *, size_t);

    /* zstd */
    typedef struct { alloc_opaque alloc; free_opaque free; void *opaque; } ZSTD_customMem;
    void *ZSTD_createCCtx_advanced(ZSTD_customMem);
    size_t ZSTD_compressCCtx(void *, char *, size_t, const char *, size_t, int);
    size_t ZSTD_CCtx_setParameter(void *, int, int);
    size_t ZSTD_compress2(void *, char *, size_t, const char *, size_t);
    unsigned ZSTD_isError(size_t);
    size_t ZSTD_freeCCtx(void *);

    /* lz4 */
    typedef struct { alloc_opaque alloc; alloc_opaque calloc; free_opaque free; void *opaque; } LZ4F_CustomMem;
    void *LZ4F_createCompressionContext_advanced(LZ4F_CustomMem, unsigned);
    size_t LZ4F_compressBegin(void *, char *, size_t, const void *);
    size_t LZ4F_compressUpdate(void *, char *, size_t, const char *, size_t, const void *);
    size_t LZ4F_compressEnd(void *, char *, size_t, const void *);

    /* brotli */
    void *BrotliEncoderCreateInstance(alloc_opaque, free_opaque, void *);
    int BrotliEncoderCompressStream(void *, int, size_t *, const char **, size_t *, char **, size_t *);

    /* expat */
    typedef struct XML_ParserStruct *XML_Parser;
    typedef struct { alloc_size malloc_fcn; realloc_ptr realloc_fcn; free_ptr free_fcn; } XML_Memory_Handling_Suite;
    XML_Parser XML_ParserCreate_MM(const char *, const XML_Memory_Handling_Suite *, const char *);
    int XML_Parse(XML_Parser, const char *, int, int);
    int XML_GetErrorCode(XML_Parser);
    void XML_ParserFree(XML_Parser);
    typedef void (*XML_StartElementHandler)(void *, const char *, const char **);
    void XML_SetStartElementHandler(XML_Parser, XML_StartElementHandler);

    /* pcre2 */
    void *pcre2_general_context_create_8(alloc_last, free_opaque, void *);
    void *pcre2_compile_context_create_8(void *);
    void *pcre2_compile_8(const char *, size_t, uint32_t, int *, size_t *, void *);
    void *pcre2_match_data_create_8(uint32_t, void *);
    int pcre2_match_8(const void *, const char *, size_t, size_t, uint32_t, void *, void *);
    size_t *pcre2_get_ovector_pointer_8(void *);

    /* yajl */
    typedef struct { alloc_opaque malloc; realloc_opaque realloc; free_opaque free; void *ctx; } yajl_alloc_funcs;
    void *yajl_gen_alloc(const yajl_alloc_funcs *);
    int yajl_gen_array_open(void *);
    int yajl_gen_string(void *, const char *, size_t);
    int yajl_gen_integer(void *, long long);
    int yajl_gen_array_close(void *);
    int yajl_gen_get_buf(void *, const char **, size_t *);
    void *yajl_alloc(const void *, const yajl_alloc_funcs *, void *);
    int yajl_parse(void *, const char *, size_t);
    int yajl_complete_parse(void *);

    /* nghttp2 */
    typedef struct {
        void *mem_user_data; alloc_last malloc; free_opaque free; calloc_last calloc; realloc_last realloc;
    } nghttp2_mem;
    typedef struct { const char *name, *value; size_t namelen, valuelen; uint8_t flags; } nghttp2_nv;
    int nghttp2_hd_deflate_new2(void **, size_t, nghttp2_mem *);
    ssize_t nghttp2_hd_deflate_hd(void *, char *, size_t, const nghttp2_nv *, size_t);

    /* FreeType */
    typedef struct FT_MemoryRec *FT_Memory;
    typedef void *(*FT_Alloc_Func)(FT_Memory, long);
    typedef void (*FT_Free_Func)(FT_Memory, void *);
    typedef void *(*FT_Realloc_Func)(FT_Memory, long, long, void *);
    struct FT_MemoryRec { void *user; FT_Alloc_Func alloc; FT_Free_Func free; FT_Realloc_Func realloc; };
    int FT_New_Library(FT_Memory, void **);
    int FT_Init_FreeType(void **);
    void FT_Add_Default_Modules(void *);
    int FT_New_Memory_Face(void *, const char *, long, long, void **);
    int FT_Set_Pixel_Sizes(void *, unsigned, unsigned);
    int FT_Get_Advances(void *, unsigned, unsigned, int32_t, long *);

    /* libpng */
    typedef struct png_struct *png_structp;
    typedef void *(*png_malloc_ptr)(png_structp, size_t);
    typedef void (*png_free_ptr)(png_structp, void *);
    typedef void (*png_rw_ptr)(png_structp, char *, size_t);
    const char *png_get_libpng_ver(png_structp);
    png_structp png_create_write_struct_2(const char *, void *, void *, void *, void *, png_malloc_ptr, png_free_ptr);
    void *png_create_info_struct(png_structp);
    void png_set_write_fn(png_structp, void *, png_rw_ptr, void *);
    void png_set_IHDR(png_structp, void *, uint32_t, uint32_t, int, int, int, int, int);
    void png_write_info(png_structp, void *);
    void png_write_row(png_structp, const char *);
    void png_write_end(png_structp, void *);

    /* Duktape */
    void *duk_create_heap(alloc_opaque, realloc_opaque, free_opaque, void *, void *);
    int duk_eval_raw(void *, const char *, size_t, unsigned);
    const char *duk_safe_to_lstring(void *, int, size_t *);

    /* Lua */
    void *lua_newstate(realloc_lua, void *);
    void *luaL_newstate(void);
    void luaL_openlibs(void *);
    int luaL_loadstring(void *, const char *);
    int lua_pcallk(void *, int, int, int, intptr_t, void *);
    const char *lua_tolstring(void *, int, size_t *);
    void lua_close(void *);

    /* cmark */
    typedef struct { calloc_count calloc; realloc_ptr realloc; free_ptr free; } cmark_mem;
    void *cmark_parser_new_with_mem(int, cmark_mem *);
    void *cmark_parser_new(int);
    void cmark_parser_feed(void *, const char *, size_t);
    void *cmark_parser_finish(void *);
    char *cmark_render_html(void *, int);

    /* their ends */
    int deflateEnd(z_stream *);
    int BZ2_bzCompressEnd(bz_stream *);
    size_t LZ4F_freeCompressionContext(void *);
    void BrotliEncoderDestroyInstance(void *);
    void pcre2_general_context_free_8(void *);
    void pcre2_compile_context_free_8(void *);
    void pcre2_code_free_8(void *);
    void pcre2_match_data_free_8(void *);
    void yajl_gen_free(void *);
    void yajl_free(void *);
    void nghttp2_hd_deflate_del(void *);
    int FT_Done_FreeType(void *);
    void png_destroy_write_struct(png_structp *, void **);
    void duk_destroy_heap(void *);
    void cmark_parser_free(void *);
    void cmark_node_free(void *);

    void *malloc(size_t);
    void *calloc(size_t, size_t);
    void *realloc(void *, size_t);
    void free(void *);
    """
)

Job = Callable[[Any, Any], bytes]
NULL: Any = ffi.NULL
WORDS = b"".join(b"%d green bottles, hanging on the wall; " % number for number in range(3000))


endings: list[Callable[[], object]] = []
"""What ends the objects of jobs without hooks."""


def ends(hooks: Any, function: Callable[..., object], *arguments: Any) -> None:
    """The call that ends an object of a library."""
    if hooks is None:
        endings.append(lambda: function(*arguments))


class Library(NamedTuple):
    """A library: how it is called, what its file is called, and a job for it: with the open library, and the hooks."""

    name: str
    files: tuple[str, ...]
    job: Job

    def open(self) -> Any:
        """The open library; None when it is not on this machine."""
        for file in self.files:
            try:
                return ffi.dlopen(file)
            except OSError:
                continue
        return None


def zlib(lib: Any, hooks: Any) -> bytes:
    out = ffi.new("char[]", len(WORDS))
    source = ffi.from_buffer(WORDS)
    stream = ffi.new("z_stream *", {"next_in": source, "avail_in": len(WORDS), "next_out": out, "avail_out": len(out)})
    if hooks is not None:
        stream.zalloc = hooks.malloc("alloc_uints", "opaque count size")
        stream.zfree = hooks.free("free_opaque", "opaque ptr")
    assert lib.deflateInit2_(stream, 6, 8, 15, 8, 0, lib.zlibVersion(), ffi.sizeof("z_stream")) == 0
    ends(hooks, lib.deflateEnd, stream)
    assert lib.deflate(stream, 4) == 1
    return bytes(ffi.buffer(out, stream.total_out))


def bzip2(lib: Any, hooks: Any) -> bytes:
    out = ffi.new("char[]", len(WORDS))
    source = ffi.from_buffer(WORDS)
    stream = ffi.new("bz_stream *", {"next_in": source, "avail_in": len(WORDS), "next_out": out, "avail_out": len(out)})
    if hooks is not None:
        stream.bzalloc = hooks.malloc("alloc_ints", "opaque count size")
        stream.bzfree = hooks.free("free_opaque", "opaque ptr")
    assert lib.BZ2_bzCompressInit(stream, 9, 0, 0) == 0
    ends(hooks, lib.BZ2_bzCompressEnd, stream)
    assert lib.BZ2_bzCompress(stream, 2) == 4
    return bytes(ffi.buffer(out, stream.total_out_lo32))


def lzma(lib: Any, hooks: Any) -> bytes:
    out = ffi.new("char[]", len(WORDS))
    length = ffi.new("size_t *")
    allocator = NULL
    if hooks is not None:
        functions = hooks.malloc("alloc_count", "opaque count size"), hooks.free("free_opaque", "opaque ptr")
        allocator = ffi.new("lzma_allocator *", functions)
    source = ffi.from_buffer(WORDS)
    assert lib.lzma_easy_buffer_encode(1, 4, allocator, source, len(WORDS), out, length, len(out)) == 0
    return bytes(ffi.buffer(out, length[0]))


def zstd(lib: Any, hooks: Any) -> bytes:
    out = ffi.new("char[]", len(WORDS))
    memory = ffi.new("ZSTD_customMem *")
    if hooks is not None:
        memory.alloc = hooks.malloc("alloc_opaque", "opaque size")
        memory.free = hooks.free("free_opaque", "opaque ptr")
    context = lib.ZSTD_createCCtx_advanced(memory[0])
    assert context
    ends(hooks, lib.ZSTD_freeCCtx, context)
    length = lib.ZSTD_compressCCtx(context, out, len(out), ffi.from_buffer(WORDS), len(WORDS), 3)
    return bytes(ffi.buffer(out, length))


def lz4(lib: Any, hooks: Any) -> bytes:
    out = ffi.new("char[]", 2 * len(WORDS))
    memory = ffi.new("LZ4F_CustomMem *")
    if hooks is not None:
        memory.alloc = hooks.malloc("alloc_opaque", "opaque size")
        memory.calloc = hooks.calloc("alloc_opaque", "opaque size")
        memory.free = hooks.free("free_opaque", "opaque ptr")
    context = lib.LZ4F_createCompressionContext_advanced(memory[0], 100)
    assert context
    ends(hooks, lib.LZ4F_freeCompressionContext, context)
    length = lib.LZ4F_compressBegin(context, out, len(out), NULL)
    length += lib.LZ4F_compressUpdate(
        context, out + length, len(out) - length, ffi.from_buffer(WORDS), len(WORDS), NULL
    )
    length += lib.LZ4F_compressEnd(context, out + length, len(out) - length, NULL)
    return bytes(ffi.buffer(out, length))


def brotli(lib: Any, hooks: Any) -> bytes:
    out = ffi.new("char[]", len(WORDS))
    functions = (NULL, NULL)
    if hooks is not None:
        functions = hooks.malloc("alloc_opaque", "opaque size"), hooks.free("free_opaque", "opaque ptr")
    encoder = lib.BrotliEncoderCreateInstance(*functions, NULL)
    assert encoder
    ends(hooks, lib.BrotliEncoderDestroyInstance, encoder)
    source = ffi.from_buffer(WORDS)
    total = ffi.new("size_t *")
    sizes = ffi.new("size_t[2]", [len(WORDS), len(out)])
    at = ffi.new("const char *[1]", [source]), ffi.new("char *[1]", [out])
    assert lib.BrotliEncoderCompressStream(encoder, 2, sizes, at[0], sizes + 1, at[1], total)
    return bytes(ffi.buffer(out, total[0]))


DOCUMENT = b"<r>" + b"".join(b"<item%d x='%d'>text</item%d>" % (n, n, n) for n in range(300)) + b"</r>"


def expat_parser(lib: Any, hooks: Any) -> Any:
    suite = NULL
    if hooks is not None:
        suite = ffi.new(
            "XML_Memory_Handling_Suite *",
            (
                hooks.malloc("alloc_size", "size"),
                hooks.realloc("realloc_ptr", "ptr size"),
                hooks.free("free_ptr", "ptr"),
            ),
        )
    return lib.XML_ParserCreate_MM(NULL, suite, NULL)


def expat(lib: Any, hooks: Any) -> bytes:
    parser = expat_parser(lib, hooks)
    ends(hooks, lib.XML_ParserFree, parser)
    seen: list[bytes] = []
    on_start = ffi.callback("XML_StartElementHandler", lambda _, name, __: seen.append(ffi.string(name)))
    lib.XML_SetStartElementHandler(parser, on_start)
    assert lib.XML_Parse(parser, DOCUMENT, len(DOCUMENT), 1) == 1
    return b" ".join(seen)


def pcre2(lib: Any, hooks: Any) -> bytes:
    context = NULL
    if hooks is not None:
        context = lib.pcre2_general_context_create_8(
            hooks.malloc("alloc_last", "size opaque"), hooks.free("free_opaque", "ptr opaque"), NULL
        )
        assert context
    error, offset = ffi.new("int *"), ffi.new("size_t *")
    pattern = rb"(\d+) (?:green|blue) (\w+), (?=hanging)(\w+)"
    compiler = lib.pcre2_compile_context_create_8(context)
    ends(hooks, lib.pcre2_compile_context_free_8, compiler)
    code = lib.pcre2_compile_8(pattern, len(pattern), 0, error, offset, compiler)
    ends(hooks, lib.pcre2_code_free_8, code)
    match = lib.pcre2_match_data_create_8(10, context)
    ends(hooks, lib.pcre2_match_data_free_8, match)
    found: list[bytes] = []
    at = 0
    for _ in range(20):
        count = lib.pcre2_match_8(code, WORDS, len(WORDS), at, 0, match, NULL)
        assert count == 4
        vector = lib.pcre2_get_ovector_pointer_8(match)
        found.append(WORDS[vector[0] : vector[1]])
        at = vector[1]
    return b"|".join(found)


def yajl(lib: Any, hooks: Any) -> bytes:
    functions = NULL
    if hooks is not None:
        functions = ffi.new(
            "yajl_alloc_funcs *",
            (
                hooks.malloc("alloc_opaque", "opaque size"),
                hooks.realloc("realloc_opaque", "opaque ptr size"),
                hooks.free("free_opaque", "opaque ptr"),
                NULL,
            ),
        )
    generator = lib.yajl_gen_alloc(functions)
    ends(hooks, lib.yajl_gen_free, generator)
    lib.yajl_gen_array_open(generator)
    for number in range(2000):
        lib.yajl_gen_integer(generator, number)
        lib.yajl_gen_string(generator, b"text", 4)
    lib.yajl_gen_array_close(generator)
    text, length = ffi.new("const char **"), ffi.new("size_t *")
    assert lib.yajl_gen_get_buf(generator, text, length) == 0
    json = bytes(ffi.buffer(text[0], length[0]))
    parser = lib.yajl_alloc(NULL, functions, NULL)
    ends(hooks, lib.yajl_free, parser)
    for at in range(0, len(json), 100):
        assert lib.yajl_parse(parser, json[at : at + 100], len(json[at : at + 100])) == 0
    assert lib.yajl_complete_parse(parser) == 0
    return json


def nghttp2(lib: Any, hooks: Any) -> bytes:
    memory = NULL
    if hooks is not None:
        memory = ffi.new(
            "nghttp2_mem *",
            (
                NULL,
                hooks.malloc("alloc_last", "size opaque"),
                hooks.free("free_opaque", "ptr opaque"),
                hooks.calloc("calloc_last", "count size opaque"),
                hooks.realloc("realloc_last", "ptr size opaque"),
            ),
        )
    deflater = ffi.new("void **")
    assert lib.nghttp2_hd_deflate_new2(deflater, 4096, memory) == 0
    ends(hooks, lib.nghttp2_hd_deflate_del, deflater[0])
    out = ffi.new("char[]", 1 << 16)
    made = b""
    for number in range(50):
        texts = [ffi.new("char[]", b"x-name-%d" % (number % 9)), ffi.new("char[]", b"value %d" % number)]
        field = ffi.new("nghttp2_nv *", (*texts, len(texts[0]) - 1, len(texts[1]) - 1, 0))
        length = lib.nghttp2_hd_deflate_hd(deflater[0], out, len(out), field, 1)
        assert length > 0
        made += bytes(ffi.buffer(out, length))
    return made


FONTS = [
    Path("/usr/share/fonts/truetype/dejavu/DejaVuSans.ttf"),
    Path("/usr/share/fonts/truetype/dejavu/DejaVuSerif.ttf"),
]


def freetype(lib: Any, hooks: Any) -> bytes:
    library = ffi.new("void **")
    if hooks is not None:
        memory = ffi.new(
            "struct FT_MemoryRec *",
            (
                NULL,
                hooks.malloc("FT_Alloc_Func", "opaque size"),
                hooks.free("FT_Free_Func", "opaque ptr"),
                hooks.realloc("FT_Realloc_Func", "opaque old size ptr"),
            ),
        )
        assert lib.FT_New_Library(memory, library) == 0
        lib.FT_Add_Default_Modules(library[0])
    else:
        assert lib.FT_Init_FreeType(library) == 0
        ends(hooks, lib.FT_Done_FreeType, library[0])
    data = next((font.read_bytes() for font in FONTS if font.exists()), b"")
    if not data:
        return b"no font on this machine"
    font = ffi.from_buffer(data)
    face = ffi.new("void **")
    assert lib.FT_New_Memory_Face(library[0], font, len(data), 0, face) == 0
    assert lib.FT_Set_Pixel_Sizes(face[0], 0, 32) == 0
    advances = ffi.new("long[200]")
    assert lib.FT_Get_Advances(face[0], 20, len(advances), 0, advances) == 0
    return bytes(ffi.buffer(advances))


def libpng(lib: Any, hooks: Any) -> bytes:
    functions = (NULL, NULL)
    if hooks is not None:
        functions = hooks.malloc("png_malloc_ptr", "_ size"), hooks.free("png_free_ptr", "_ ptr")
    png = lib.png_create_write_struct_2(lib.png_get_libpng_ver(NULL), NULL, NULL, NULL, NULL, *functions)
    assert png
    ends(hooks, lib.png_destroy_write_struct, ffi.new("png_structp *", png), NULL)
    made: list[bytes] = []
    write = ffi.callback("png_rw_ptr", lambda _, data, length: made.append(bytes(ffi.buffer(data, length))))
    lib.png_set_write_fn(png, NULL, write, NULL)
    info = lib.png_create_info_struct(png)
    assert info
    lib.png_set_IHDR(png, info, 256, 64, 8, 0, 0, 0, 0)
    lib.png_write_info(png, info)
    for row in range(64):
        lib.png_write_row(png, bytes((row * column) & 0xFF for column in range(256)))
    lib.png_write_end(png, info)
    return b"".join(made)


def duktape(lib: Any, hooks: Any) -> bytes:
    functions = (NULL, NULL, NULL)
    if hooks is not None:
        functions = (
            hooks.malloc("alloc_opaque", "opaque size"),
            hooks.realloc("realloc_opaque", "opaque ptr size"),
            hooks.free("free_opaque", "opaque ptr"),
        )
    context = lib.duk_create_heap(*functions, NULL, NULL)
    assert context
    ends(hooks, lib.duk_destroy_heap, context)
    source = b"var a = []; for (var i = 0; i < 500; i++) a.push({n: i, s: 'x' + i}); JSON.stringify(a)"
    assert lib.duk_eval_raw(context, source, 0, 1 << 3 | 1 << 7 | 1 << 9 | 1 << 10 | 1 << 11) == 0
    length = ffi.new("size_t *")
    text = lib.duk_safe_to_lstring(context, -1, length)
    return bytes(ffi.buffer(text, length[0]))


def lua_state(lib: Any, hooks: Any) -> Any:
    if hooks is None:
        return lib.luaL_newstate()
    return lib.lua_newstate(hooks.realloc("realloc_lua", "opaque ptr old size"), NULL)


def lua(lib: Any, hooks: Any) -> bytes:
    state = lua_state(lib, hooks)
    assert state
    ends(hooks, lib.lua_close, state)
    lib.luaL_openlibs(state)
    source = b"local t = {} for i = 1, 2000 do t[#t + 1] = 'n' .. i * i end return table.concat(t, ' ')"
    assert lib.luaL_loadstring(state, source) == 0
    assert lib.lua_pcallk(state, 0, 1, 0, 0, NULL) == 0
    length = ffi.new("size_t *")
    text = lib.lua_tolstring(state, -1, length)
    return bytes(ffi.buffer(text, length[0]))


def cmark(lib: Any, hooks: Any) -> bytes:
    if hooks is None:
        parser = lib.cmark_parser_new(0)
    else:
        memory = ffi.new(
            "cmark_mem *",
            (
                hooks.calloc("calloc_count", "count size"),
                hooks.realloc("realloc_ptr", "ptr size"),
                hooks.free("free_ptr", "ptr"),
            ),
        )
        parser = lib.cmark_parser_new_with_mem(0, memory)
    text = b"".join(b"# Head %d\n\n- an *item* with `code`\n- [link](http://x/%d)\n\n" % (n, n) for n in range(100))
    lib.cmark_parser_feed(parser, text, len(text))
    ends(hooks, lib.cmark_parser_free, parser)
    document = lib.cmark_parser_finish(parser)
    ends(hooks, lib.cmark_node_free, document)
    return bytes(ffi.string(lib.cmark_render_html(document, 0)))


def _library(name: str, file: str, job: Job, *others: str) -> Library:
    found = ctypes.util.find_library(others[-1]) if others and sys.platform != "linux" else None
    return Library(name, (file, *others[:-1], *([found] if found else [])), job)


LIBRARIES = [
    _library("zlib", "libz.so.1", zlib, "zlib1.dll", "z"),
    _library("bzip2", "libbz2.so.1.0", bzip2, "bz2"),
    _library("lzma", "liblzma.so.5", lzma, "lzma"),
    _library("zstd", "libzstd.so.1", zstd, "zstd"),
    _library("lz4", "liblz4.so.1", lz4, "lz4"),
    _library("brotli", "libbrotlienc.so.1", brotli, "brotlienc"),
    _library("expat", "libexpat.so.1", expat, "expat"),
    _library("pcre2", "libpcre2-8.so.0", pcre2, "pcre2-8"),
    _library("yajl", "libyajl.so.2", yajl, "yajl"),
    _library("nghttp2", "libnghttp2.so.14", nghttp2, "nghttp2"),
    _library("FreeType", "libfreetype.so.6", freetype, "freetype"),
    _library("libpng", "libpng16.so.16", libpng, "png16"),
    _library("Duktape", "libduktape.so.207", duktape, "libduktape.so.206", "duktape"),
    _library("Lua", "liblua5.4.so.0", lua, "lua5.4"),
    _library("cmark", "libcmark.so.0.30.2", cmark, "libcmark.so.0.31.1", "cmark"),
]
