/* fuzz_imatrix.c: importance matrices of either format, read without writing anything. */
#include "analysis/stats/imatrix.h"
#include "tests/fuzz/fuzz.h"
#include "tests/fuzz/seeds.h"
#include "tests/support/gguf_build.h"

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
    qt_buf file = {0};
    if (n < 1)
        return 0;
    qt_add(&file, p + 1, n - 1);
    qt_files t;
    qt_counter c;
    qn_err err;
    qn_imatrix_facts x;
    qt_files_init(&t);
    qt_files_add(&t, "i", file.p ? file.p : p, file.n);
    qt_counter_init(&c);
    const qn_env env = qt_env(&t, &c);
    const qn_imatrix_options opt = {.arch = UINT32_MAX, .keep_names = p[0] & 1, .dry_run = true};
    qn_err_clear(&err);
    const qn_code rc = qn_imatrix_import(&env, "i", "o", &opt, &x, &err);
    QF_CHECK(rc == QN_OK || rc == QN_E_INPUT || rc == QN_E_UNSUPPORTED);
    QF_CHECK(rc == QN_OK || (err.code == rc && err.text[0] && err.path[0]));
    QF_CHECK(c.peak <= 64 * file.n + (1 << 20));
    QF_CHECK(c.n_live == 0 && t.n_open == 0);
    qt_buf_free(&file);
    return 0;
}

void qf_seeds(void (*emit)(void *, const uint8_t *, size_t), void *ctx)
{
    static const char *const files[] = {
        "b1 i2 i3 'abc' i5 i2 i0x3f800000 i0x40000000 i1 'a' i5 i1 i0 i5 i1 't'",
        "b0 i2 i20 'blk.0.ffn_gate_inp.weight' i5 i2 i0 i0",
        "b0 i2 i25 'blk.0.ffn_gate_inp.weight' i5 i2 i0 i0 i24 'blk.0.ffn_up_exps.weight' i5 i4 i0 i0 i0 i0",
        "b0 GGUF i3 q2 q4 \"general.type\" i8 \"imatrix\" \"imatrix.datasets\" i9 i8 q1 \"a.txt\" \"imatrix.chunk_count\" i4 i6 "
        "\"imatrix.chunk_size\" i4 i128 \"blk.3.ffn_up_exps.weight.in_sum2\" i2 q3 q2 i0 q0 \"blk.3.ffn_up_exps.weight.counts\" i2 "
        "q1 q2 i0 q32 z13 i0x3f800000 i0x40000000 i0 i0 i0 i0 z8 i0x40000000 i0 z24",
    };
    qf_emit_built(emit, ctx, qt_add_gguf, files, sizeof files / sizeof files[0]);
}
