/* test_container_bad.c: malformed .quern files whose checksums are all right, each with the error that it must give. */
#include "base/num.h"
#include "formats/quern/source.h"
#include "tests/support/quern_build.h"
#include <criterion/criterion.h>
#include <string.h>

#define PROPS "b1 v1 screator st "
#define FILES "v2 sa.bin v1 sm.st v2 "
#define BLOB1 "b0 v3 z16 v3 v6 b0 H3 "
#define BLOB2 "b0 v10 z16 v10 v20 b0 H10 "
#define TENSOR "b143 sw b2 v2 v4 z16 v8 v32 b0 H16 "
#define GOOD  PROPS FILES "v3 " BLOB1 BLOB2 TENSOR
/* one file, one object, n chunks: what follows is the object */
#define ONE(n_chunks) "b0 v0 v1 sm v1 v" n_chunks " "
#define TWO(n_chunks) "b0 v0 v1 sm v2 v" n_chunks " "

static const struct row {
    const char *name, *words; /* '^' where the error must be */
    qn_code code;
    const char *tensor, *text;
} rows[] = {
    {"unknown flag", "^ b2 v0", QN_E_UNSUPPORTED, "", "unknown flags 0x02"},
    {"empty index", "b0 ^", QN_E_INPUT, "", "property count: ends early"},
    {"property count too large", "b1 v60 ^ " "screator st v0 v0", QN_E_INPUT, "", "property count: 60 found, at most"},
    {"property count 2^64-1", "b1 v0xffffffffffffffff ^ v0", QN_E_INPUT, "", "property count: 18446744073709551615 found"},
    {"varint of 11 bytes", "b1 f10 ^ b1 v0 v0", QN_E_INPUT, "", "property count: ends early"},
    {"varint not shortest", "b1 b128 b0 ^ v0 v0", QN_E_INPUT, "", "property count: ends early"},
    {"property name too long", "b1 v1 v65 ^ z70 st v0 v0", QN_E_INPUT, "", "property name: length 65 found, at most 64"},
    {"property name with NUL", "b1 v1 v2 b97 b0 ^ st v0 v0", QN_E_INPUT, "", "property name: not UTF-8 text"},
    {"property not UTF-8", "b1 v1 sk v1 b255 ^ v0 v0", QN_E_INPUT, "", "property: not UTF-8 text"},
    {"property past the end", "b1 v1 sk v200 ^ z9", QN_E_INPUT, "", "property: length 200 found, at most 9"},
    {"properties swapped", "b1 v2 sb s1 sa s1 ^ v0 v0", QN_E_INPUT, "", "not in ascending order"},
    {"property twice", "b1 v2 sa s1 sa s1 ^ v0 v0", QN_E_INPUT, "", "not in ascending order"},
    {"file count too large", "b1 v0 v50 ^ sa v0 v0", QN_E_INPUT, "", "file count: 50 found, at most"},
    {"no file, not a folder", "b0 v0 v0 ^ v0", QN_E_INPUT, "", "0 files found, a single file expected"},
    {"two files, not a folder", "b0 v0 v2 ^ sa v0 sb v0 v0", QN_E_INPUT, "", "2 files found, a single file expected"},
    {"path empty", "b1 v0 v1 s ^ v0 v0", QN_E_INPUT, "", "not a plain relative path"},
    {"path ..", "b1 v0 v1 s.. ^ v0 v0", QN_E_INPUT, "", "not a plain relative path"},
    {"path ../x", "b1 v0 v1 s../x ^ v0 v0", QN_E_INPUT, "", "not a plain relative path"},
    {"path a/../b", "b1 v0 v1 sa/../b ^ v0 v0", QN_E_INPUT, "", "not a plain relative path"},
    {"path a/..", "b1 v0 v1 sa/.. ^ v0 v0", QN_E_INPUT, "", "not a plain relative path"},
    {"path /etc/x", "b1 v0 v1 s/etc/x ^ v0 v0", QN_E_INPUT, "", "not a plain relative path"},
    {"path a//b", "b1 v0 v1 sa//b ^ v0 v0", QN_E_INPUT, "", "not a plain relative path"},
    {"path ./a", "b1 v0 v1 s./a ^ v0 v0", QN_E_INPUT, "", "not a plain relative path"},
    {"path a/", "b1 v0 v1 sa/ ^ v0 v0", QN_E_INPUT, "", "not a plain relative path"},
    {"path a\\b", "b1 v0 v1 sa\\b ^ v0 v0", QN_E_INPUT, "", "not a plain relative path"},
    {"path with line feed", "b1 v0 v1 v2 b97 b10 ^ v0 v0", QN_E_INPUT, "", "not a plain relative path"},
    {"path of 17 folders", "b1 v0 v1 sa/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a ^ v0 v0", QN_E_INPUT, "", "not a plain relative path"},
    {"path too long", "b1 v0 v1 v1025 ^ z1100", QN_E_INPUT, "", "file path: length 1025 found, at most 1024"},
    {"path with NUL", "b1 v0 v1 v3 b97 b0 b98 ^ v0 v0", QN_E_INPUT, "", "file path: not UTF-8 text"},
    {"single file in a folder", "b0 v0 v1 sa/b ^ v0 v0", QN_E_INPUT, "", "a single file's path has a folder"},
    {"paths swapped", "b1 v0 v2 sb v0 sa ^ v0 v0", QN_E_INPUT, "", "not in ascending order"},
    {"path twice", "b1 v0 v2 sa v0 sa ^ v0 v0", QN_E_INPUT, "", "not in ascending order"},
    {"file as a folder", "b1 v0 v2 sa v0 sa/b ^ v0 v0", QN_E_INPUT, "", "file path 0 is used as a folder"},
    {"file as a folder, far apart", "b1 v0 v4 sa/b v0 sa/b-c v0 sa/b.d v0 sa/b/c ^ v0 v0", QN_E_INPUT, "", "file path 0 is used as a folder"},
    {"object count too large", "b0 v0 v1 sa v9 ^ v0 z30", QN_E_INPUT, "", "object count: more than the index can hold"},
    {"object counts wrap", "b1 v0 v2 sa v0xffffffffffffffff sb v2 ^ v0 z40", QN_E_INPUT, "", "object count: more than"},
    {"chunk count too large", ONE("200") "^ " BLOB1, QN_E_INPUT, "", "chunk count: 200 found, at most"},
    {"chunk count one too large", ONE("2") BLOB1 "^", QN_E_INPUT, "", "1 chunks found, 2 announced"},
    {"chunk count one too small", TWO("1") BLOB1 BLOB2 "^", QN_E_INPUT, "", "more chunks than announced (1)"},
    {"dtype 23", ONE("1") "b151 ^ sw b0 z16 v1 v2 b0 z8", QN_E_INPUT, "", "unknown object kind 0x97"},
    {"dtype 64", ONE("1") "b192 ^ sw b0 z16 v1 v2 b0 z8", QN_E_INPUT, "", "unknown object kind 0xc0"},
    {"dtype 68, of a ggml type given up", ONE("1") "b196 ^ sw b0 z16 v1 v2 b0 z8", QN_E_INPUT, "", "unknown object kind 0xc4"},
    {"dtype 73, of a ggml type for computing", ONE("1") "b201 ^ sw b0 z16 v1 v2 b0 z8", QN_E_INPUT, "", "unknown object kind 0xc9"},
    {"dtype 107", ONE("1") "b235 ^ sw b0 z16 v1 v2 b0 z8", QN_E_INPUT, "", "unknown object kind 0xeb"},
    {"dtype 127", ONE("1") "b255 ^ sw b0 z16 v1 v2 b0 z8", QN_E_INPUT, "", "unknown object kind 0xff"},
    {"part of a block", ONE("1") "b194 sw b1 v33 ^ z16 v3 v6 b0 z8", QN_E_INPUT, "w", "shape does not fit its type"},
    {"block over two rows", ONE("1") "b194 sw b2 v2 v16 ^ z16 v3 v6 b0 z8", QN_E_INPUT, "w", "shape does not fit its type"},
    {"scalar of a block type", ONE("1") "b194 sw b0 ^ z16 v3 v6 b0 z8", QN_E_INPUT, "w", "shape does not fit its type"},
    {"blob of a block type", ONE("1") "b66 ^ v3 z16 v3 v6 b0 z8", QN_E_INPUT, "", "unknown object kind 0x42"},
    {"blob with a dtype", ONE("1") "b15 ^ v3 z16 v3 v6 b0 z8", QN_E_INPUT, "", "unknown object kind 0x0f"},
    {"tensor of BYTES", ONE("1") "b128 sw b1 v3 ^ z16 v3 v6 b0 z8", QN_E_INPUT, "w", "shape does not fit its type"},
    {"tensor name too long", ONE("1") "b143 v4097 ^ z5000", QN_E_INPUT, "", "tensor name: length 4097 found, at most 4096"},
    {"tensor name not UTF-8", ONE("1") "b143 v2 b195 b40 ^ b0 z40", QN_E_INPUT, "", "tensor name: not UTF-8 text"},
    {"rank 17", ONE("1") "b143 sw b17 ^ z60", QN_E_INPUT, "w", "rank 17 found, at most 16 allowed"},
    {"dimension 2^48+1", ONE("1") "b143 sw b1 v0x1000000000001 ^ z40", QN_E_INPUT, "w", "dimension 281474976710657 found"},
    {"shape wraps", ONE("1") "b143 sw b2 v0x100000000 v0x100000000 ^ z40", QN_E_INPUT, "w", "shape does not fit its type"},
    {"half a byte", ONE("1") "b130 sw b1 v3 ^ z40", QN_E_INPUT, "w", "shape does not fit its type"},
    {"digest cut", "b0 v0 v1 sm v1 v0 b0 v0 ^ z15", QN_E_INPUT, "", NULL},
    {"chunk of 0 units", ONE("1") "b0 v3 z16 v0 ^ v6 b0 z8", QN_E_INPUT, "", "chunk of 0 units found, 1 to 3"},
    {"chunk larger than its object", ONE("1") "b0 v3 z16 v4 ^ v6 b0 z8", QN_E_INPUT, "", "chunk of 4 units found, 1 to 3"},
    {"chunk of more than 16 MiB", ONE("1") "b0 v0x2000000 z16 v0x1000001 ^ v6 b0 z8", QN_E_INPUT, "", "1 to 16777216 allowed"},
    {"2^40 chunks", ONE("1") "b0 v0x10000000000 z16 v1 ^ v6 b0 z8", QN_E_INPUT, "", "1099511627776 chunks found, at most"},
    {"stored bytes 0", ONE("1") "b0 v3 z16 v3 v0 b0 z8 ^", QN_E_INPUT, "", "chunk record of 0 stored bytes"},
    {"stored bytes past 16 MiB", ONE("1") "b0 v3 z16 v3 v0x2000002 b0 z8 ^", QN_E_INPUT, "", "16777217 stored bytes, 1 to 16777216"},
    {"odd tag", ONE("1") "b0 v3 z16 v3 v3 b0 z8 ^", QN_E_INPUT, "", "chunk record"},
    {"codec 0xff", ONE("1") "b0 v3 z16 v3 v6 b255 z8 ^", QN_E_INPUT, "", "codec 0xff is reserved"},
    {"shared first", ONE("1") "b0 v3 z16 v3 v1 v1 ^ z8", QN_E_INPUT, "", "1 steps back from chunk 0"},
    {"shared with itself", TWO("2") BLOB1 "b0 v3 z16 v3 v1 v0 ^ z8", QN_E_INPUT, "", "0 steps back from chunk 1"},
    {"shared 2^63 back", TWO("2") BLOB1 "b0 v3 z16 v3 v1 v0x8000000000000000 ^ z8", QN_E_INPUT, "", "steps back from chunk 1"},
    {"shared with a shared one", "b0 v0 v1 sm v3 v3 " BLOB1 "b0 v3 z16 v3 v1 v1 b0 v3 z16 v3 v1 v1 ^ z1", QN_E_INPUT, "", "points to another shared chunk"},
    {"shared, other length", TWO("2") BLOB1 "b0 v4 z16 v4 v1 v1 ^ z8", QN_E_INPUT, "", "differs in type or shape"},
    {"shared, other type", TWO("2") "b0 v16 z16 v16 v32 b0 z8 b143 sw b1 v8 z16 v8 v1 v1 ^ z1", QN_E_INPUT, "w", "differs in type or shape"},
    {"shared, other columns", TWO("2") "b133 sa b2 v64 v32 z16 v2048 v64 b0 z8 b133 sb b2 v32 v64 z16 v2048 v1 v1 ^ z1", QN_E_INPUT, "b", "differs in type or shape"},
    {"file length wraps", "b1 v0 v1 sm v2 v0 " "b0 v0xffffffffffffffff z16 v1 ^ z40", QN_E_INPUT, "", "chunks found, at most"},
    {"tensor twice", TWO("0") "b143 sw b1 v0 z16 b143 sw b1 v0 z16 ^", QN_E_INPUT, "w", "two tensors of one name"},
    {"bytes behind", ONE("1") BLOB1 "^ b0", QN_E_INPUT, "", "1 bytes too many"},
};

static qn_code open_bytes(const void *p, size_t n, qt_counter *counter, qn_err *err)
{
    qt_files t;
    qn_source *s;
    qt_files_init(&t);
    qt_files_add(&t, "m.quern", p, n);
    const qn_env env = qt_env(&t, counter);
    qn_err_clear(err);
    const qn_code rc = qn_quern_source_open(&env, "m.quern", &s, err);
    if (rc == QN_OK)
        qn_source_close(s);
    cr_assert_eq(t.n_open, 0, "a file stays open");
    cr_assert(!counter || counter->n_live == 0, "memory is lost");
    return rc;
}

Test(container_bad, index_rows)
{
    const size_t n_rows = sizeof rows / sizeof rows[0];
    size_t n_bad = 0;
    for (size_t i = 0; i < 2 * n_rows; i++) { /* stored plain, and as a zstd frame */
        const struct row *r = &rows[i / 2];
        qt_buf index = {0}, file = {0};
        uint64_t mark = 0;
        qn_err err;
        qt_counter c;
        qt_counter_init(&c);
        qt_index_words(&index, r->words, &mark);
        const uint64_t at = qt_quern_file(&file, 128, index.p, index.n, i % 2);
        const qn_code rc = open_bytes(file.p, file.n, &c, &err);
        n_bad += !qt_err_is(r->name, &err, rc, r->code, at + (i % 2 ? 0 : mark), r->tensor, r->text);
        cr_expect_leq(c.peak, 2 * file.n + (1 << 20), "%s takes %llu bytes", r->name, (unsigned long long)c.peak);
        qt_buf_free(&index);
        qt_buf_free(&file);
    }
    cr_expect_eq(n_bad, 0, "%zu of %zu files give another error", n_bad, 2 * n_rows);
    fprintf(stderr, "# %zu malformed indexes refused, plain and compressed\n", n_rows);
}

/* Header and footer: 8 bytes at `at` (from the end when negative) become `v`; then these checksums are put right. */
static const struct patch {
    const char *name;
    int at;
    unsigned width, reseal;
    uint64_t v;
    qn_code code;
    int64_t off; /* from the end when negative */
    const char *text;
} patches[] = {
    {"magic", 0, 1, 5, 0x0b, QN_E_INPUT, 0, "wrong magic"},
    {"text mode ate CR", 6, 1, 5, 0x0a, QN_E_INPUT, 0, "wrong magic"},
    {"major 0", 8, 2, 5, 0, QN_E_UNSUPPORTED, 8, "format version 0.0 found"},
    {"major 2", 8, 2, 5, 2, QN_E_UNSUPPORTED, 8, "format version 2.0 found, this program reads 1.x"},
    {"major 65535", 8, 2, 5, 0xffff, QN_E_UNSUPPORTED, 8, "format version 65535.0"},
    {"reserved byte first", 12, 1, 5, 1, QN_E_UNSUPPORTED, 12, "reserved byte is 0x01"},
    {"reserved byte last", 55, 1, 5, 0x80, QN_E_UNSUPPORTED, 55, "reserved byte is 0x80"},
    {"header checksum", 20, 1, 0, 1, QN_E_INPUT, 56, "header checksum does not match"},
    {"footer checksum", -8, 1, 0, 1, QN_E_INPUT, -64, "footer checksum does not match"},
    {"index checksum", -32, 8, 4, 1, QN_E_INPUT, 128, "index checksum does not match"},
    {"index in the header", -64, 8, 4, 0, QN_E_INPUT, -64, "does not lie between payloads and footer"},
    {"index off the grid", -64, 8, 4, 129, QN_E_INPUT, -64, "does not lie between"},
    {"index past the footer", -64, 8, 4, 1 << 20, QN_E_INPUT, -64, "does not lie between"},
    {"index offset wraps", -64, 8, 4, UINT64_MAX - 63, QN_E_INPUT, -64, "does not lie between"},
    {"index one block early", -64, 8, 4, 64, QN_E_INPUT, -64, "does not lie between"},
    {"stored length 0", -56, 8, 4, 0, QN_E_INPUT, -64, "does not lie between"},
    {"stored length too large", -56, 8, 4, 1 << 20, QN_E_INPUT, -64, "does not lie between"},
    {"stored length 2^64-1", -56, 8, 4, UINT64_MAX, QN_E_INPUT, -64, "does not lie between"},
    {"plain length differs", -48, 8, 4, 77, QN_E_INPUT, -48, "index of 77 bytes in"},
    {"plain length 2^64-1", -48, 8, 4, UINT64_MAX, QN_E_INPUT, -48, "index of 18446744073709551615 bytes"},
    {"file length less", -40, 8, 4, 256, QN_E_INPUT, -40, "the footer says 256"},
    {"file length more", -40, 8, 4, 1 << 20, QN_E_INPUT, -40, "the footer says 1048576"},
    {"unknown flag", -16, 4, 4, 2, QN_E_UNSUPPORTED, -16, "unknown flags 0x2"},
    {"reserved word", -12, 4, 4, 1, QN_E_UNSUPPORTED, -16, "unknown flags"},
    {"said to be zstd", -16, 4, 4, 1, QN_E_INPUT, 128, "not exactly one zstd frame"},
    {"padding before the index", 126, 1, 5, 7, QN_E_INPUT, 126, "padding byte is 0x07"},
    {"padding behind the index", -65, 1, 5, 7, QN_E_INPUT, -65, "padding byte is 0x07"},
};

Test(container_bad, patches)
{
    const size_t n = sizeof patches / sizeof patches[0];
    for (size_t i = 0; i < n; i++) {
        const struct patch *x = &patches[i];
        qt_buf index = {0}, file = {0};
        uint64_t mark = 0;
        qn_err err;
        qt_index_words(&index, GOOD, &mark);
        cr_assert_eq(qt_quern_file(&file, 40, index.p, index.n, false), 128);
        uint8_t *p = x->at < 0 ? file.p + file.n - (size_t)-x->at : file.p + x->at;
        for (unsigned k = 0; k < x->width; k++)
            p[k] = (uint8_t)(x->v >> 8 * k);
        qt_quern_reseal(&file, x->reseal & ~2u);
        const uint64_t off = x->off < 0 ? file.n - (uint64_t)-x->off : (uint64_t)x->off;
        const qn_code rc = open_bytes(file.p, file.n, NULL, &err);
        cr_expect(qt_err_is(x->name, &err, rc, x->code, off, "", x->text));
        qt_buf_free(&index);
        qt_buf_free(&file);
    }
    fprintf(stderr, "# %zu malformed headers and footers refused\n", n);
}

static qn_code open_words(const char *words, size_t n_payload, bool zstd, qn_err *err)
{
    qt_buf index = {0}, file = {0};
    uint64_t mark = 0;
    qt_index_words(&index, words, &mark);
    (void)qt_quern_file(&file, n_payload, index.p, index.n, zstd);
    const qn_code rc = open_bytes(file.p, file.n, NULL, err);
    qt_buf_free(&index);
    qt_buf_free(&file);
    return rc;
}

Test(container_bad, payload_area)
{
    qn_err err;
    cr_expect_eq(open_words(GOOD, 40, false, &err), QN_OK, "%s", err.text);
    cr_expect_eq(open_words(GOOD, 40, true, &err), QN_OK, "%s", err.text);
    qn_code rc = open_words(GOOD, 0, false, &err); /* no room for the last payload */
    cr_expect(qt_err_is("payloads into the index", &err, rc, QN_E_INPUT, 64, "", "payloads reach to byte 104, into the index"));
    rc = open_words(GOOD, 40 + 256, false, &err);
    cr_expect(qt_err_is("unclaimed bytes", &err, rc, QN_E_INPUT, 104, "", "bytes belong to nothing"));
}

/* A small file that unfolds to a large index: refused by the numbers alone, before memory is asked for. */
Test(container_bad, index_bombs)
{
    static const struct {
        const char *name;
        size_t n;
        const char *head, *text;
    } bombs[] = {
        {"16 MiB of zeros", 16 << 20, "b0", "is out of range"},
        {"256 KiB of zeros", 256 << 10, "b0", "is out of range"},
        {"60 KiB, a property count that nearly fits", 60 << 10, "b1 v30000", NULL},
        {"60 KiB, a file count that nearly fits", 60 << 10, "b1 v0 v20000", NULL},
        {"60 KiB, a chunk count that nearly fits", 60 << 10, "b1 v0 v0 v30000", NULL},
        {"60 KiB, an object count that nearly fits", 60 << 10, "b0 v0 v1 sm v3400 v0", NULL},
    };
    for (size_t i = 0; i < sizeof bombs / sizeof bombs[0]; i++) {
        qt_buf index = {0}, file = {0};
        uint64_t mark = 0;
        qn_err err;
        qt_counter c;
        qt_counter_init(&c);
        qt_index_words(&index, bombs[i].head, &mark);
        qt_add_zeros(&index, bombs[i].n - index.n);
        (void)qt_quern_file(&file, 0, index.p, index.n, true);
        const double t0 = qt_cpu_ms();
        const qn_code rc = open_bytes(file.p, file.n, &c, &err);
        cr_expect_eq(rc, QN_E_INPUT, "%s: code %d", bombs[i].name, rc);
        cr_expect(!bombs[i].text || strstr(err.text, bombs[i].text), "%s: %s", bombs[i].name, err.text);
        cr_expect_leq(c.peak, 2 * file.n + (1 << 20), "%s: %llu bytes for a file of %zu", bombs[i].name,
                      (unsigned long long)c.peak, file.n);
        cr_expect_lt(qt_cpu_ms() - t0, 100 * qt_slack());
        fprintf(stderr, "# %s: %zu bytes of file, %llu of memory\n", bombs[i].name, file.n, (unsigned long long)c.peak);
        qt_buf_free(&index);
        qt_buf_free(&file);
    }
}

/* Valid but ill-meant: a megabyte of index that makes each check work hardest. */
Test(container_bad, a_megabyte_in_100_ms)
{
    static const char *const names[] = {"deep paths", "tensors", "shared chunks", "stored chunks", "properties"};
    for (unsigned kind = 0; kind < 5; kind++) {
        qt_buf body = {0}, index = {0}, file = {0};
        uint64_t mark = 0;
        char words[256];
        unsigned n = 0;
        for (; body.n < (1 << 20) - 200; n++) {
            if (kind == 0)
                snprintf(words, sizeof words, "s%06u/a/b/c/d/e/f/g/h/i/j/k/l/m/n/o v0", n);
            else if (kind == 1)
                snprintf(words, sizeof words, "b133 s%x b1 v0 z16", n * 2654435761u);
            else if (kind == 2)
                snprintf(words, sizeof words, n ? "v1 v%u" : "v2 b0 z8", n);
            else if (kind == 3)
                snprintf(words, sizeof words, "v2 b0 z8");
            else
                snprintf(words, sizeof words, "s%06u s", n);
            qt_index_words(&body, words, &mark);
        }
        if (kind == 0)
            snprintf(words, sizeof words, "b1 v0 v%u", n);
        else if (kind == 1)
            snprintf(words, sizeof words, "b0 v0 v1 sm v%u v0", n);
        else if (kind == 4)
            snprintf(words, sizeof words, "b1 v%u", n);
        else
            snprintf(words, sizeof words, "b0 v0 v1 sm v1 v%u b0 v%u z16 v1", n, n);
        qt_index_words(&index, words, &mark);
        qt_add(&index, body.p, body.n);
        if (kind == 0)
            qt_index_words(&index, "v0", &mark);
        if (kind == 4)
            qt_index_words(&index, "v0 v0", &mark);
        (void)qt_quern_file(&file, kind == 3 ? 8 * (size_t)n - 7 : kind == 2 ? 1 : 0, index.p, index.n, false);
        qn_err err;
        const double t0 = qt_cpu_ms();
        const qn_code rc = open_bytes(file.p, file.n, NULL, &err);
        const double ms = qt_cpu_ms() - t0;
        fprintf(stderr, "# %s: %u of them, %zu bytes, %.1f ms\n", names[kind], n, file.n, ms);
        cr_expect_eq(rc, QN_OK, "%s: %s", names[kind], err.text);
        cr_expect_lt(ms, 100 * qt_slack(), "%s takes %.1f ms", names[kind], ms);
        qt_buf_free(&body);
        qt_buf_free(&index);
        qt_buf_free(&file);
    }
}

Test(container_bad, prefixes_extensions_and_flips)
{
    qt_buf index = {0}, file = {0};
    uint64_t mark = 0;
    qn_err err;
    qt_index_words(&index, GOOD, &mark);
    (void)qt_quern_file(&file, 40, index.p, index.n, false);
    cr_assert_eq(open_bytes(file.p, file.n, NULL, &err), QN_OK, "%s", err.text);
    for (size_t n = 0; n < file.n; n++) {
        uint8_t *exact = malloc(n ? n : 1);
        memcpy(exact, file.p, n);
        cr_expect_eq(open_bytes(exact, n, NULL, &err), QN_E_INPUT, "prefix of %zu bytes", n);
        free(exact);
    }
    /* outside of the payloads every changed bit is seen at once */
    for (size_t bit = 0; bit < 8 * file.n; bit++) {
        if (bit / 8 >= 64 && bit / 8 < 104)
            continue;
        file.p[bit / 8] ^= (uint8_t)(1u << bit % 8);
        cr_expect_neq(open_bytes(file.p, file.n, NULL, &err), QN_OK, "bit %zu", bit);
        file.p[bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
    const size_t n_whole = file.n;
    for (size_t more = 1; more <= 128; more++) {
        qt_add_zeros(&file, 1);
        cr_expect_eq(open_bytes(file.p, file.n, NULL, &err), QN_E_INPUT, "extended by %zu", more);
    }
    fprintf(stderr, "# %zu prefixes, %zu bit flips, 128 extensions refused\n", n_whole, 8 * (n_whole - 40));
    qt_buf_free(&index);
    qt_buf_free(&file);
}

Test(container_bad, every_allocation_fails)
{
    qt_buf index = {0}, file = {0};
    uint64_t mark = 0;
    qn_err err;
    qt_index_words(&index, GOOD, &mark);
    (void)qt_quern_file(&file, 40, index.p, index.n, true);
    for (uint64_t k = 1;; k++) {
        qt_counter c;
        qt_counter_init(&c);
        c.fail_at = k;
        c.fail_on = true;
        const qn_code rc = open_bytes(file.p, file.n, &c, &err);
        if (rc == QN_OK)
            break;
        cr_assert_eq(rc, QN_E_MEMORY, "allocation %llu: code %d", (unsigned long long)k, rc);
        cr_assert_eq(err.code, QN_E_MEMORY);
    }
    qt_buf_free(&index);
    qt_buf_free(&file);
}
