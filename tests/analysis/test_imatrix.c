/* test_imatrix.c: importance matrices in and out, and files that are none. The .dat layout is written here by hand. */
#include "analysis/stats/imatrix.h"
#include "base/num.h"
#include "formats/gguf/names.h"
#include "tests/support/gguf_build.h"
#include "tests/support/made.h"
#include "tests/support/stats_build.h"
#include <criterion/criterion.h>
#include <string.h>
#include <unistd.h>

static qn_err err;

static qn_code import_text(const char *text, bool keep, const char *out, qn_imatrix_facts *facts)
{
    qt_buf b = {0};
    uint64_t mark;
    qt_add_gguf(&b, text, &mark);
    const char *path = qt_made_file("in.imatrix", b.p ? b.p : (const uint8_t *)"", b.n);
    const qn_imatrix_options opt = {.arch = keep ? UINT32_MAX : qn_gguf_arch_bit("mixtral"), .keep_names = keep,
                                    .overwrite = true};
    qn_err_clear(&err);
    const qn_code rc = qn_imatrix_import(qt_made_env(1), path, qt_made_path(out), &opt, facts, &err);
    qt_buf_free(&b);
    return rc;
}

#define KEYS "\"general.type\" i8 \"imatrix\" \"imatrix.datasets\" i9 i8 q2 \"a.txt\" \"b.txt\" \"imatrix.chunk_count\" i4 i6 " \
             "\"imatrix.chunk_size\" i4 i128 "
#define ONE "i0x3f800000"
#define TWO "i0x40000000"
/* two experts of three columns; the first saw two rows, the second none */
#define MOE "GGUF i3 q2 q4 " KEYS "\"blk.3.ffn_up_exps.weight.in_sum2\" i2 q3 q2 i0 q0 " \
            "\"blk.3.ffn_up_exps.weight.counts\" i2 q1 q2 i0 q32 | " ONE " " TWO " i0 i0 i0 i0 | " TWO " i0 |"

Test(imatrix, gguf_in)
{
    qn_imatrix_facts x;
    qn_stats_file f;
    qn_stats_vectors v;
    cr_assert_eq(import_text(MOE, true, "k.qstats", &x), QN_OK, "%s", err.text);
    cr_assert(x.n_entries == 1 && x.n_experts == 1 && x.n_unseen == 1 && x.n_untranslated == 0);
    cr_assert_eq(qn_stats_file_open(&f, qt_made_env(1), qt_made_path("k.qstats"), &err), QN_OK);
    cr_assert(f.n_items == 2 && f.complete && f.meta.sequences == 6 && f.meta.context == 128 && f.meta.tokens == 768);
    cr_assert(f.meta.n_sources == 2 && strcmp(f.meta.sources[1].label, "b.txt") == 0);
    const qn_stats_item *e0 = qn_stats_find(&f, "blk.3.ffn_up_exps.weight", 0);
    cr_assert(e0 && f.inputs[e0->input].count == 2 && f.inputs[e0->input].parts == 0);
    cr_assert_eq(qn_stats_vectors_read(&f, e0->input, &v, &err), QN_OK);
    cr_assert(v.sum_sq[0] == 1 && v.sum_sq[1] == 2 && v.sum_sq[2] == 0 && !v.sum && !v.min);
    qn_stats_vectors_release(&f, &v);
    const qn_stats_item *e1 = qn_stats_find(&f, "blk.3.ffn_up_exps.weight", 1);
    cr_assert(e1 && f.inputs[e1->input].count == 0 && qn_stats_is_starved(&f, e1, 1));
    qn_stats_file_close(&f);
    cr_assert_eq(import_text(MOE, false, "t.qstats", &x), QN_OK, "%s", err.text);
    cr_assert_eq(qn_stats_file_open(&f, qt_made_env(1), qt_made_path("t.qstats"), &err), QN_OK);
    cr_assert_not_null(qn_stats_find(&f, "model.layers.3.block_sparse_moe.experts.1.w3.weight", QN_STATS_NO_EXPERT));
    /* and out again: the first file, but for the padding of other names */
    const qn_imatrix_options opt = {.arch = UINT32_MAX, .overwrite = true};
    cr_assert_eq(qn_imatrix_export(&f, qt_made_path("o.gguf"), &opt, &x, &err), QN_OK, "%s", err.text);
    qn_stats_file_close(&f);
    static uint8_t a[4096], b[4096];
    FILE *p = fopen(qt_made_path("o.gguf"), "rb"), *q = fopen(qt_made_path("in.imatrix"), "rb");
    const size_t n = fread(a, 1, sizeof a, p), m = fread(b, 1, sizeof b, q);
    fclose(p);
    fclose(q);
    cr_assert(n == m && memcmp(a, b, n) == 0);
}

Test(imatrix, dat_in_and_out)
{
    qn_imatrix_facts x;
    qn_stats_file f;
    /* two entries, 5 calls; last chunk 5, text "t" */
    const char *dat = "i2 i14 'blk.0.attn_q.w' i5 i2 " ONE " " TWO " i1 'a' i5 i1 " TWO " i5 i1 't'";
    cr_assert_eq(import_text(dat, true, "d.qstats", &x), QN_OK, "%s", err.text);
    cr_assert_eq(qn_stats_file_open(&f, qt_made_env(1), qt_made_path("d.qstats"), &err), QN_OK);
    const qn_stats_item *q = qn_stats_find(&f, "blk.0.attn_q.w", QN_STATS_NO_EXPERT);
    cr_assert(q && f.inputs[q->input].count == 5 && f.meta.sequences == 5 && strcmp(f.meta.sources[0].label, "t") == 0);
    const qn_imatrix_options opt = {.arch = UINT32_MAX, .keep_names = true};
    cr_assert_eq(qn_imatrix_export(&f, qt_made_path("o.dat"), &opt, &x, &err), QN_OK, "%s", err.text);
    qn_stats_file_close(&f);
    qt_buf want = {0};
    uint64_t mark;
    uint8_t got[200];
    qt_add_gguf(&want, "i2 i1 'a' i5 i1 " TWO " i14 'blk.0.attn_q.w' i5 i2 " ONE " " TWO " i5 i1 't'", &mark);
    FILE *p = fopen(qt_made_path("o.dat"), "rb");
    cr_assert_eq(fread(got, 1, sizeof got, p), want.n);
    fclose(p);
    cr_assert_eq(memcmp(got, want.p, want.n), 0);
    qt_buf_free(&want);
}

Test(imatrix, refused)
{
    static const struct {
        const char *name, *file, *text, *tensor;
        qn_code code;
    } rows[] = {
        {"empty", "", "number of entries is missing", "", QN_E_INPUT},
        {"no entries", "i0", "number of entries 0", "", QN_E_INPUT},
        {"negative entries", "i-1 z40", "number of entries -1", "", QN_E_INPUT},
        {"entries beyond the file", "i1000 z40", "number of entries 1000", "", QN_E_INPUT},
        {"name of no bytes", "i1 i0 i1 i1 z4 z4", "length of a name 0", "", QN_E_INPUT},
        {"name past the end", "i1 i100 'a' i1 i1 z9", "length of a name 100", "", QN_E_INPUT},
        {"name not UTF-8", "i1 i1 b255 i1 i1 z4", "is not UTF-8", "", QN_E_INPUT},
        {"no calls", "i1 i1 'a' i0 i1 z4", "number of calls 0", "a", QN_E_INPUT},
        {"values past the end", "i1 i1 'a' i1 i2 z4", "number of values 2", "a", QN_E_INPUT},
        {"2^31-1 values", "i1 i1 'a' i1 i0x7fffffff z4", "number of values 2147483647", "a", QN_E_INPUT},
        {"cut in the tail", "i1 i1 'a' i1 i1 z4 z3", "last chunk is missing", "", QN_E_INPUT},
        {"path past the end", "i1 i1 'a' i1 i1 z4 i1 i9 'abc'", "length of the text's path 9", "", QN_E_INPUT},
        {"a byte too long", "i1 i1 'a' i1 i1 z4 i1 i1 'a' b0", "1 bytes too long", "", QN_E_INPUT},
        {"NaN", "i1 i1 'a' i1 i1 i0x7fc00000", "value 0 is NaN", "a", QN_E_INPUT},
        {"negative", "i1 i1 'a' i1 i2 i0 i0xbf800000", "value 1 is negative", "a", QN_E_INPUT},
        {"infinite", "i1 i1 'a' i1 i1 i0x7f800000", "value 0 is infinite", "a", QN_E_INPUT},
        {"name twice", "i2 i1 'a' i1 i1 z4 i1 'a' i1 i1 z4", "has statistics already", "a", QN_E_USAGE},
        {"no type", "GGUF i3 q0 q0", "without general.type", "", QN_E_INPUT},
        {"a model", "GGUF i3 q0 q1 \"general.type\" i8 \"model\"", "of type 'model'", "", QN_E_INPUT},
        {"no tensors", "GGUF i3 q0 q4 " KEYS, "holds no entries", "", QN_E_INPUT},
        {"too many tokens", "GGUF i3 q0 q3 \"general.type\" i8 \"imatrix\" \"imatrix.chunk_count\" i10 q-1 \"imatrix.chunk_size\" i4 i9",
         "are too many", "", QN_E_INPUT},
        {"counts missing", "GGUF i3 q1 q4 " KEYS "\"a.in_sum2\" i1 q1 i0 q0 | " ONE, "its counts are missing", "a", QN_E_INPUT},
        {"another tensor", "GGUF i3 q1 q4 " KEYS "\"a\" i1 q1 i0 q0 | " ONE, "NAME.in_sum2 and NAME.counts only", "a", QN_E_INPUT},
        {"sums in F16", "GGUF i3 q2 q4 " KEYS "\"a.in_sum2\" i1 q2 i1 q0 \"a.counts\" i1 q1 i0 q32 | " ONE " | " ONE,
         "0 sums in rows of 2", "a", QN_E_INPUT},
        {"counts for others", "GGUF i3 q2 q4 " KEYS "\"a.in_sum2\" i1 q1 i0 q0 \"a.counts\" i1 q2 i0 q32 | " ONE " | " ONE " " ONE,
         "1 sums in rows of 1 and 2 counts", "a", QN_E_INPUT},
        {"count NaN", "GGUF i3 q2 q4 " KEYS "\"a.in_sum2\" i1 q1 i0 q0 \"a.counts\" i1 q1 i0 q32 | " ONE " | i0x7fc00000",
         "count 0 is no number of rows", "a", QN_E_INPUT},
        {"sums of no rows", "GGUF i3 q2 q4 " KEYS "\"a.in_sum2\" i1 q1 i0 q0 \"a.counts\" i1 q1 i0 q32 | " ONE " | i0",
         "sums, but a count of 0", "a", QN_E_INPUT},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        qn_imatrix_facts x;
        const qn_code rc = import_text(rows[i].file, true, "x.qstats", &x);
        cr_expect(rc == rows[i].code && strstr(err.text, rows[i].text) && strcmp(err.tensor, rows[i].tensor) == 0,
                  "%s: code %d, tensor '%s': %s", rows[i].name, rc, err.tensor, err.text);
        cr_expect(access(qt_made_path("x.qstats"), F_OK) != 0 && access(qt_made_path("x.qstats.quern-export"), F_OK) != 0);
    }
}

Test(imatrix, export_refused)
{
    qn_imatrix_facts x;
    qn_stats_file f;
    const qn_imatrix_options opt = {.arch = UINT32_MAX};
    qn_err_clear(&err);
    cr_assert_eq(qt_stats_write(qt_made_env(1), qt_made_path("s"), 2, true, &err), QN_OK);
    cr_assert_eq(qn_stats_file_open(&f, qt_made_env(1), qt_made_path("s"), &err), QN_OK);
    cr_assert_eq(qn_imatrix_export(&f, qt_made_path("o.bin"), &opt, &x, &err), QN_E_USAGE);
    cr_assert(strstr(err.text, "ends with .gguf or .dat"));
    qn_err_clear(&err);
    cr_assert_eq(qn_imatrix_export(&f, qt_made_path("o2.gguf"), &opt, &x, &err), QN_E_UNSUPPORTED);
    cr_assert(strstr(err.text, "none of its 6 tensors has a name in GGUF"));
    cr_assert_eq(x.n_left_out, 6);
    qn_stats_file_close(&f);
}
