/* test_stats_example.c: makes the file that docs/statistics.md explains, walks it field by field along the specification (not
 * with the reader's code), and compares the labelled dump with the document. QUERN_PRINT=1 prints the dump. */
#include "base/num.h"
#include "tests/support/made.h"
#include "tests/support/stats_build.h"
#include <criterion/criterion.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

static char text[16384];
static size_t n_text;
static uint8_t file[8192];
static size_t n_file, at;

/* The next n bytes, sixteen a line, labelled on the first. */
static const uint8_t *show(size_t n, const char *label, ...) __attribute__((format(printf, 2, 3)));
static const uint8_t *show(size_t n, const char *label, ...)
{
    char what[200];
    va_list ap;
    va_start(ap, label);
    vsnprintf(what, sizeof what, label, ap);
    va_end(ap);
    cr_assert_leq(n, n_file - at, "%s reaches past the end", what);
    for (size_t i = 0; i < n; i += 16) {
        char hex[64] = "";
        for (size_t k = i; k < n && k < i + 16; k++)
            snprintf(hex + 3 * (k - i), sizeof hex - 3 * (k - i), " %02x", file[at + k]);
        n_text += (size_t)snprintf(text + n_text, sizeof text - n_text, i ? "%04zx %s\n" : "%04zx %-48s  %s\n", at + i, hex, what);
    }
    at += n;
    return file + at - n;
}

static uint32_t u32(const char *label)
{
    const uint32_t v = qn_load32(file + at);
    show(4, "%s: %lu", label, (unsigned long)v);
    return v;
}

static void u64(const char *label)
{
    show(8, "%s: %llu", label, (unsigned long long)qn_load64(file + at));
}

static void string(const char *label)
{
    const uint32_t n = qn_load32(file + at);
    show(4 + n, "%s: \"%.*s\"", label, (int)n, (const char *)file + at + 4);
}

static void padding(void)
{
    if (at % 64)
        show(64 - at % 64, "padding");
}

struct shape {
    uint32_t n, parts, outputs;
} shapes[8];
static unsigned n_shapes;

static void walk_index(void)
{
    show(16, "index: digest of the model");
    show(16, "digest of the tokenizer");
    show(16, "digest of the settings");
    u64("tokens");
    u64("sequences");
    u32("context");
    u32("flags");
    for (uint32_t n = u32("data sources"); n > 0; n--) {
        show(16, "  digest");
        u64("  tokens");
        string("  label");
    }
    for (uint32_t n = u32("properties"); n > 0; n--) {
        string("  key");
        string("  value");
    }
    for (uint32_t n = u32("inputs"); n > 0; n--) {
        struct shape *s = &shapes[n_shapes++];
        *s = (struct shape){.n = u32("input: columns"), .parts = u32("  parts")};
        if (qn_load32(file + at) == UINT32_MAX)
            show(4, "  no expert");
        else
            u32("  expert");
        uint32_t n_names = u32("  names");
        u64("  rows");
        show(16, "  digest of the vectors");
        show(16, "  digest of H");
        for (; n_names > 0; n_names--) {
            string("  name");
            s->outputs += u32("    outputs");
        }
    }
}

static void payload(const struct shape *s)
{
    show(8 * s->n, "sums of x^2, f64");
    if (s->parts & 2) {
        show(8 * s->n, "sums of x");
        show(8 * s->n, "sums of |x|");
    }
    if (s->parts & 4) {
        show(4 * s->n, "least values, f32");
        show(4 * s->n, "largest values");
    }
    if (s->outputs)
        show(8 * s->outputs, "sums of y^2 of the outputs");
    padding();
    if (s->parts & 1) {
        show(4 * (s->n * (s->n + 1) / 2), "H, upper triangle, f32");
        padding();
    }
}

static void walk_segment(size_t begin, size_t end)
{
    const uint8_t *foot = file + end - 64;
    const size_t index = qn_load64(foot + 8), before = n_text;
    static char index_text[sizeof text];
    n_shapes = 0;
    cr_assert_eq(qn_load64(foot + 24), begin);
    at = index; /* the index says what the payloads are: walked first, shown behind them */
    walk_index();
    cr_assert_eq(at, index + qn_load64(foot + 16));
    padding();
    memcpy(index_text, text + before, n_text - before + 1);
    n_text = before;
    at = begin;
    for (unsigned i = 0; i < n_shapes; i++)
        payload(&shapes[i]);
    cr_assert_eq(at, index);
    n_text += (size_t)snprintf(text + n_text, sizeof text - n_text, "%s", index_text);
    at = end - 64;
    const XXH128_hash_t d = XXH3_128bits(file + index, at - index);
    XXH128_canonical_t c;
    XXH128_canonicalFromHash(&c, d);
    show(8, "footer: magic");
    u64("where the index begins");
    u64("bytes of the index");
    u64("where the segment before ends");
    u64("where this one ends");
    cr_assert_eq(memcmp(show(16, "digest of index and padding"), c.digest, 16), 0);
    cr_assert_eq(qn_load64(show(8, "hash64 of the 56 bytes before")), XXH3_64bits(foot, 56));
}

Test(stats, worked_example_is_what_the_document_shows)
{
    static char doc[1 << 16];
    qn_err err = {0};
    cr_assert_eq(qt_stats_write(qt_made_env(1), qt_made_path("e.qstats"), 1, true, &err), QN_OK, "%s", err.text);
    FILE *f = fopen(qt_made_path("e.qstats"), "rb");
    n_file = fread(file, 1, sizeof file, f);
    fclose(f);
    show(8, "header: magic");
    show(4, "major and minor version");
    show(44, "zeros");
    cr_assert_eq(qn_load64(show(8, "hash64 of the 56 bytes before")), XXH3_64bits(file, 56));
    const size_t second = qn_load64(file + n_file - 64 + 24);
    walk_segment(64, second);
    walk_segment(second, n_file);
    cr_assert_eq(at, n_file);
    if (getenv("QUERN_PRINT"))
        fputs(text, stderr);
    f = fopen(QT_SOURCE_ROOT "/docs/statistics.md", "rb");
    cr_assert(f, "docs/statistics.md");
    doc[fread(doc, 1, sizeof doc - 1, f)] = '\0';
    fclose(f);
    cr_assert(strstr(doc, text), "docs/statistics.md shows another dump: run with QUERN_PRINT=1 and paste it");
}
