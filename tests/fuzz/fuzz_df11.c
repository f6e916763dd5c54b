/* fuzz_df11.c: a folder with DFloat11 groups: two bytes say how long config.json is, behind it stands the safetensors file. What opens is read,
 * whole and in part, and both must say the same. */
#include "formats/source.h"
#include "tests/fuzz/opened.h"
#include "tests/support/df11_build.h"
#include <string.h>

static void read_all(qn_source *s)
{
    qn_err err = {0};
    enum { MOST = 1 << 16 };
    uint8_t *p = malloc(MOST), *q = malloc(MOST);
    for (uint64_t i = 0; i < s->n_tensors; i++) {
        const uint64_t n = s->tensors[i].n_bytes;
        if (n < 3 || n > MOST)
            continue;
        const qn_code whole = qn_source_tensor_read(s, i, 0, n, p, &err), part = qn_source_tensor_read(s, i, 1, n / 2, q, &err);
        QF_CHECK(whole == QN_OK || whole == QN_E_INPUT);
        QF_CHECK(part == QN_OK || part == QN_E_INPUT);
        QF_CHECK(whole != QN_OK || (part == QN_OK && memcmp(p + 1, q, n / 2) == 0));
    }
    free(p);
    free(q);
}

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
    qt_files t;
    if (n < 2 || n > 1 << 16)
        return 0;
    const size_t n_config = p[0] | (size_t)p[1] << 8;
    if (n_config > n - 2)
        return 0;
    qt_files_init(&t);
    qt_files_add(&t, "m/config.json", p + 2, n_config);
    qt_files_add(&t, "m/model.safetensors", p + 2 + n_config, n - 2 - n_config);
    qf_open_source(&t, "m", 64 * n + (4 << 20), read_all);
    return 0;
}

void qf_seeds(void (*emit)(void *, const uint8_t *, size_t), void *ctx)
{
    static const unsigned threads[] = {1, 2, 40}, slices[] = {4, 5, 8};
    uint16_t w[40];
    for (unsigned i = 0; i < 40; i++)
        w[i] = qt_df11_weight(i * UINT64_C(0x9e3779b97f4a7c15) >> 20);
    for (unsigned i = 0; i < 3; i++) {
        qt_df11 d;
        qt_buf b = {0};
        qt_df11_make(&d, w, 40, threads[i], slices[i], "0.5.0");
        const size_t n = strlen(d.config);
        qt_add(&b, (const uint8_t[]){(uint8_t)n, (uint8_t)(n >> 8)}, 2);
        qt_add(&b, d.config, n);
        qt_df11_file(&d, &b);
        emit(ctx, b.p, b.n);
        qt_buf_free(&b);
        qt_df11_free(&d);
    }
}
