/* test_stats_bad.c: statistics files that are not what they should be. Checksums are put right again after each change of
 * the tables, so that what they hide is reached. */
#include "base/num.h"
#include "tests/support/made.h"
#include "tests/support/stats_build.h"
#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

static uint8_t *good, *work;
static size_t n_good;

static void make_blocks(uint32_t blocks)
{
    qn_err err = {0};
    cr_assert_eq(qt_stats_write(qt_made_env(1), qt_made_path("g"), blocks, true, &err), QN_OK, "%s", err.text);
    FILE *f = fopen(qt_made_path("g"), "rb");
    good = qt_made_keep(malloc(1 << 16));
    work = qt_made_keep(malloc(1 << 16));
    n_good = fread(good, 1, 1 << 16, f);
    fclose(f);
    memcpy(work, good, n_good);
}

static void make(void)
{
    make_blocks(2);
}

static void make_costs(void)
{
    make_blocks(3);
}

/* Opens and reads everything; nothing stays open, no memory is lost. */
static qn_code look(const uint8_t *p, size_t n, bool whole, qt_counter *c, qn_err *err)
{
    uint8_t *exact = malloc(n ? n : 1); /* so that a read past the end is seen */
    qt_files t;
    qn_stats_file f;
    if (n)
        memcpy(exact, p, n);
    qt_files_init(&t);
    qt_files_add(&t, "s.qstats", exact, n);
    const qn_env env = qt_env(&t, c);
    qn_err_clear(err);
    qn_code rc = qn_stats_file_open(&f, &env, "s.qstats", err);
    if (rc == QN_OK && whole)
        rc = qn_stats_check(&f, err);
    qn_stats_file_close(&f);
    free(exact);
    cr_assert_eq(t.n_open, 0);
    cr_assert(!c || c->n_live == 0);
    return rc;
}

Test(stats_bad, every_byte, .init = make)
{
    qn_err err;
    cr_assert_eq(look(good, n_good, true, NULL, &err), QN_OK, "%s", err.text);
    for (size_t i = 0; i < n_good; i++)
        for (unsigned k = 0; k < 3; k++) {
            work[i] = (uint8_t)(k == 0 ? ~good[i] : k == 1 ? good[i] ^ 1 : good[i] ^ 0x80);
            const qn_code rc = look(work, n_good, true, NULL, &err);
            cr_assert(rc == QN_E_INPUT, "byte %zu: code %d", i, rc);
            work[i] = good[i];
        }
    fprintf(stderr, "# a change of any of %zu bytes is seen\n", n_good);
}

Test(stats_bad, prefixes_and_extensions, .init = make)
{
    qn_err err;
    unsigned n_whole = 0;
    for (size_t n = 0; n < n_good; n++) {
        const qn_code rc = look(work, n, true, NULL, &err);
        cr_assert(rc == QN_OK || rc == QN_E_INPUT, "%zu bytes: code %d", n, rc);
        n_whole += rc == QN_OK;
    }
    cr_expect_eq(n_whole, 2, "a file is whole after each of its two blocks, not %u times", n_whole);
    for (size_t n = 1; n <= 130; n++) {
        memset(work + n_good, 0, n);
        cr_assert_eq(look(work, n_good + n, false, NULL, &err), QN_E_INPUT);
    }
}

Test(stats_bad, every_allocation_fails, .init = make)
{
    qn_err err;
    for (uint64_t k = 1;; k++) {
        qt_counter c;
        qt_counter_init(&c);
        c.fail_at = k;
        const qn_code rc = look(good, n_good, true, &c, &err);
        if (rc == QN_OK) {
            cr_assert_gt(k, 5u);
            break;
        }
        cr_assert_eq(rc, QN_E_MEMORY, "allocation %llu: code %d", (unsigned long long)k, rc);
    }
}

/* Where the index of the first block lies, and in it the first input. */
static size_t index_of_block0(void)
{
    const uint64_t end2 = qn_load64(good + n_good - 64 + 24), end1 = qn_load64(good + end2 - 64 + 24);
    return qn_load64(good + end1 - 64 + 8);
}

enum { META = 48 + 8 + 8 + 4 + 4 + 4 + (16 + 8 + 4 + 8) + 4 + (4 + 7) + (4 + 5), INPUT = META + 4 };

struct row {
    const char *name;
    size_t at;     /* in the index of the first block */
    unsigned n_bytes;
    uint64_t v;
    qn_code code;
    const char *text;
};

static const struct row rows[] = {
    {"flags 4", 68, 4, 4, QN_E_INPUT, "flags 0x4"},
    {"flags 2, and no sensitivities", 68, 4, 2, QN_E_INPUT, "sensitivities: there is room for 0"},
    {"complete, and more follows", 68, 4, 1, QN_E_INPUT, "says complete"},
    {"another model", 0, 4, 7, QN_E_INPUT, "model, tokenizer or settings"},
    {"other settings", 32, 4, 7, QN_E_INPUT, "model, tokenizer or settings"},
    {"2^32-1 sources", 72, 4, UINT32_MAX, QN_E_INPUT, "4294967295 data sources"},
    {"a label of 2^32-1 bytes", 100, 4, UINT32_MAX, QN_E_INPUT, "label of 4294967295 bytes"},
    {"a label not UTF-8", 104, 1, 0xff, QN_E_INPUT, "label is not UTF-8"},
    {"a label with a NUL", 105, 1, 0, QN_E_INPUT, "NUL inside"},
    {"2^32-1 properties", 112, 4, UINT32_MAX, QN_E_INPUT, "4294967295 properties"},
    {"an empty key", 116, 4, 0, QN_E_INPUT, "key of 0 bytes"},
    {"inputs 2^31", META, 4, 1u << 31, QN_E_INPUT, "2147483648 inputs"},
    {"no input", META, 4, 0, QN_E_INPUT, "bytes too long"},
    {"two inputs", META, 4, 2, QN_E_INPUT, "2 inputs: there is room for"},
    {"no columns", INPUT, 4, 0, QN_E_INPUT, "input of 0 columns"},
    {"2^24 + 1 columns", INPUT, 4, (1 << 24) + 1, QN_E_INPUT, "input of 16777217 columns"},
    {"2^24 columns", INPUT, 4, 1 << 24, QN_E_INPUT, "payload reaches past"},
    {"9 columns", INPUT, 4, 9, QN_E_INPUT, "payload reaches past"},
    {"parts 8", INPUT + 4, 4, 8, QN_E_INPUT, "parts 0x8"},
    {"no H", INPUT + 4, 4, 6, QN_E_INPUT, "digest of H where there is none"},
    {"expert 2^24", INPUT + 8, 4, 1 << 24, QN_E_INPUT, "expert 16777216"},
    {"no names", INPUT + 12, 4, 0, QN_E_INPUT, "0 names"},
    {"2^32-1 names", INPUT + 12, 4, UINT32_MAX, QN_E_INPUT, "4294967295 names"},
    {"two names", INPUT + 12, 4, 2, QN_E_INPUT, "bytes too long"},
    {"four names", INPUT + 12, 4, 4, QN_E_INPUT, "4 names: 1 to"},
    {"an empty name", INPUT + 56, 4, 0, QN_E_INPUT, "tensor name of 0 bytes"},
    {"a name not UTF-8", INPUT + 60, 1, 0xff, QN_E_INPUT, "tensor name is not UTF-8"},
    {"two of one name", INPUT + 60, 1, 'k', QN_E_INPUT, "two entries have this name"},
    {"2^32-1 outputs", INPUT + 61, 4, UINT32_MAX, QN_E_INPUT, "4294967295 outputs"},
    {"2^24 outputs", INPUT + 61, 4, 1 << 24, QN_E_INPUT, "payload reaches past"},
};

Test(stats_bad, tables, .init = make)
{
    const size_t index = index_of_block0();
    cr_assert_eq(qn_load32(good + index + INPUT), 3, "the layout that the rows count on");
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        const struct row *r = &rows[i];
        uint8_t b[8];
        qn_err err;
        qt_counter c;
        memcpy(work, good, n_good);
        qn_store64(b, r->v);
        memcpy(work + index + r->at, b, r->n_bytes);
        qt_stats_reseal(work, n_good);
        qt_counter_init(&c);
        const qn_code rc = look(work, n_good, true, &c, &err);
        cr_expect(rc == r->code && strstr(err.text, r->text) && err.path[0], "%s: code %d, '%s'", r->name, rc, err.text);
        cr_expect_leq(c.peak, 64 * n_good + (2 << 20), "%s takes %llu bytes", r->name, (unsigned long long)c.peak);
    }
}

Test(stats_bad, header_and_footers, .init = make)
{
    static const struct row heads[] = {
        {"another magic", 0, 1, 'x', QN_E_INPUT, "not a statistics file"},
        {"major 2", 8, 2, 2, QN_E_UNSUPPORTED, "version 2.0"},
        {"minor 9", 10, 2, 9, QN_OK, ""},
    };
    static const struct row feet[] = {
        {"another magic", 0, 1, 'x', QN_E_INPUT, "no footer"},
        {"index past the end", 8, 8, 1 << 20, QN_E_INPUT, "no footer"},
        {"index of 2^64-1 bytes", 16, 8, UINT64_MAX, QN_E_INPUT, "no footer"},
        {"segment before at 0", 24, 8, 0, QN_E_INPUT, "no footer"},
        {"segment before is this one", 24, 8, UINT64_MAX - 63, QN_E_INPUT, "no footer"},
        {"segment before is the header", 24, 8, 64, QN_E_INPUT, "says complete has inputs|belong to nothing"},
    };
    qn_err err;
    for (size_t i = 0; i < sizeof heads / sizeof heads[0]; i++) {
        uint8_t b[8];
        memcpy(work, good, n_good);
        qn_store64(b, heads[i].v);
        memcpy(work + heads[i].at, b, heads[i].n_bytes);
        qt_stats_reseal(work, n_good);
        const qn_code rc = look(work, n_good, true, NULL, &err);
        cr_expect(rc == heads[i].code && (rc == QN_OK || strstr(err.text, heads[i].text)), "%s: %d %s", heads[i].name, rc, err.text);
    }
    for (size_t i = 0; i < sizeof feet / sizeof feet[0]; i++) {
        uint8_t b[8], *foot = work + n_good - 64;
        memcpy(work, good, n_good);
        qn_store64(b, feet[i].v);
        memcpy(foot + feet[i].at, b, feet[i].n_bytes);
        qn_store64(foot + 56, qn_hash64(foot, 56));
        const qn_code rc = look(work, n_good, true, NULL, &err);
        cr_expect(rc == feet[i].code && (strchr(feet[i].text, '|') || strstr(err.text, feet[i].text)), "%s: %d %s",
                  feet[i].name, rc, err.text);
    }
}

/* Values that no measurement gives, behind right checksums. */
Test(stats_bad, values, .init = make)
{
    static const struct {
        size_t at; /* from the start of the first payload */
        unsigned n;
        uint64_t v;
    } bad[] = {{0, 8, 0x7ff0000000000000}, {8, 8, 0x7ff8000000000000}, {16, 8, 0xbff0000000000000}, {24, 8, 0xfff0000000000000},
               {48, 8, 0xbff0000000000000}, {72, 4, 0x7f800000}, {88, 4, 0x7fc00000}, {96, 8, 0xbff0000000000000},
               {128, 4, 0xbf800000}, {132, 4, 0x7f800000}, {128 + 12, 4, 0xbf800000}};
    const size_t index = index_of_block0();
    qn_err err;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        uint8_t b[8];
        memcpy(work, good, n_good);
        qn_store64(b, bad[i].v);
        memcpy(work + 64 + bad[i].at, b, bad[i].n);
        const qn_digest v = qn_hash128(work + 64, 128), h = qn_hash128(work + 64 + 128, 64);
        memcpy(work + index + INPUT + 24, v.b, 16);
        memcpy(work + index + INPUT + 40, h.b, 16);
        qt_stats_reseal(work, n_good);
        const qn_code rc = look(work, n_good, true, NULL, &err);
        cr_expect(rc == QN_E_INPUT && strstr(err.text, "finite") && strcmp(err.tensor, "q") == 0, "row %zu: %d %s", i, rc, err.text);
    }
}

/* The table of sensitivities: in the third segment, behind "no inputs". */
Test(stats_bad, sensitivities, .init = make_costs)
{
    enum { COST = META + 4 + 4, SECOND = COST + 4 + 1 + 4 + 8 + 8 + 8 };
    static const struct row costs[] = {
        {"2^32-1 of them", COST - 4, 4, UINT32_MAX, QN_E_INPUT, "4294967295 sensitivities"},
        {"none", COST - 4, 4, 0, QN_E_INPUT, "no sensitivities where"},
        {"one", COST - 4, 4, 1, QN_E_INPUT, "bytes too long"},
        {"not said", 68, 4, 0, QN_E_INPUT, "bytes too long"},
        {"complete, with some", 68, 4, 3, QN_E_INPUT, "says complete, and more follows"},
        {"an empty name", COST, 4, 0, QN_E_INPUT, "tensor name of 0 bytes"},
        {"a name not UTF-8", COST + 4, 1, 0xff, QN_E_INPUT, "tensor name is not UTF-8"},
        {"a name that is no entry", COST + 4, 1, 'z', QN_E_INPUT, "a sensitivity without an entry"},
        {"expert 2^24", COST + 5, 4, 1 << 24, QN_E_INPUT, "expert 16777216"},
        {"an expert that is no entry", COST + 5, 4, 1, QN_E_INPUT, "a sensitivity without an entry"},
        {"no tokens", COST + 9, 8, 0, QN_E_INPUT, "of no tokens"},
        {"no noise", COST + 17, 8, 0, QN_E_INPUT, "without noise"},
        {"noise below 0", COST + 17, 8, 0xbff0000000000000, QN_E_INPUT, "without noise"},
        {"noise NaN", COST + 17, 8, 0x7ff8000000000000, QN_E_INPUT, "not finite"},
        {"a divergence of infinity", COST + 25, 8, 0x7ff0000000000000, QN_E_INPUT, "not finite"},
        {"a divergence of NaN", SECOND + 25, 8, 0x7ff8000000000000, QN_E_INPUT, "not finite"},
        {"an expert that is another", SECOND + 5, 4, UINT32_MAX, QN_E_INPUT, "a sensitivity without an entry"},
    };
    const uint64_t end3 = qn_load64(good + n_good - 64 + 24);
    const size_t index = qn_load64(good + end3 - 64 + 8);
    qn_err err;
    cr_assert_eq(qn_load32(good + index + COST - 4), 2, "the layout that the rows count on");
    cr_assert_eq(look(good, n_good, true, NULL, &err), QN_OK, "%s", err.text);
    for (size_t i = 0; i < sizeof costs / sizeof costs[0]; i++) {
        const struct row *r = &costs[i];
        uint8_t b[8];
        memcpy(work, good, n_good);
        qn_store64(b, r->v);
        memcpy(work + index + r->at, b, r->n_bytes);
        qt_stats_reseal(work, n_good);
        const qn_code rc = look(work, n_good, true, NULL, &err);
        cr_expect(rc == r->code && strstr(err.text, r->text) && err.path[0], "%s: code %d, '%s'", r->name, rc, err.text);
    }
    /* twice the same */
    memcpy(work, good, n_good);
    work[index + SECOND + 4] = 'q';
    qn_store32(work + index + SECOND + 5, UINT32_MAX);
    qt_stats_reseal(work, n_good);
    cr_expect(look(work, n_good, true, NULL, &err) == QN_E_INPUT && strstr(err.text, "two sensitivities"), "%s", err.text);
}

Test(stats_bad, every_byte_of_sensitivities, .init = make_costs)
{
    qn_err err;
    for (size_t i = 0; i < n_good; i++) {
        work[i] ^= 0x41;
        cr_assert_eq(look(work, n_good, true, NULL, &err), QN_E_INPUT, "byte %zu", i);
        work[i] = good[i];
    }
}
