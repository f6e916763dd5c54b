/* fuzz_codec.c: one decoder of the table (FUZZ_CODEC), under every CPU variant: the same code from each, and the same bytes.
 *   input: dtype │ u16 units − 1 │ u16 columns − 1 │ payload
 * Built once per codec; a codec that has no decoder yet does nothing. */
#include "base/cpu.h"
#include "base/err.h"
#include "base/num.h"
#include "runtime/codec.h"
#include "tests/fuzz/fuzz.h"
#include <string.h>

enum { HEAD = 5, UNITS_MAX = 8192 };

static unsigned variants(unsigned out[3])
{
    const unsigned have = qn_cpu_detect();
    unsigned n = 0;
    out[n++] = 0;
    if (have & QN_CPU_AVX2)
        out[n++] = QN_CPU_AVX2;
    if (have & QN_CPU_AVX512)
        out[n++] = QN_CPU_AVX2 | QN_CPU_AVX512;
    return n;
}

static qn_code decode(unsigned cpu, const qn_block *b, const uint8_t *base, const uint8_t *p, size_t n, uint8_t *dst,
                      qn_err *err)
{
    qn_kern k;
    qn_arena scratch;
    qn_err_clear(err);
    qn_kern_init(&k, cpu);
    qn_arena_init(&scratch, NULL);
    const qn_dec_ctx cx = {.kern = &k, .scratch = &scratch, .base = base};
    const qn_code rc = qn_codec_decode(&cx, FUZZ_CODEC, b, p, n, dst, err);
    qn_arena_release(&scratch);
    return rc;
}

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
    if (n < HEAD || !qn_codec_tab[FUZZ_CODEC].decode)
        return 0;
    qn_block b = {.dtype = (qn_dtype)(p[0] % QN_DTYPE_COUNT), .n = qn_load16(p + 1) % UNITS_MAX + 1u};
    b.cols = qn_load16(p + 3) % b.n + 1u;
    const size_t n_out = (size_t)b.n * qn_unit_bytes(b.dtype);
    unsigned cpu[3];
    const unsigned n_cpu = variants(cpu);
    uint8_t *first = malloc(n_out), *other = malloc(n_out), *base = malloc(n_out), *payload = malloc(n - HEAD + 1);
    qn_code want = QN_OK;
    if (!first || !other || !base || !payload)
        abort();
    memcpy(payload + 1, p + HEAD, n - HEAD); /* at an odd address, and exactly as long as it is */
    for (size_t i = 0; i < n_out; i++)
        base[i] = (uint8_t)(i * 7 ^ i >> 5);
    for (unsigned i = 0; i < n_cpu; i++) {
        qn_err err;
        const qn_code rc = decode(cpu[i], &b, base, payload + 1, n - HEAD, i ? other : first, &err);
        QF_CHECK(rc == QN_OK || rc == QN_E_INPUT || rc == QN_E_UNSUPPORTED || rc == QN_E_USAGE);
        QF_CHECK(rc == QN_OK || (err.code == rc && err.text[0]));
        want = i ? want : rc;
        QF_CHECK(rc == want);
        QF_CHECK(i == 0 || rc != QN_OK || memcmp(first, other, n_out) == 0);
    }
    free(first);
    free(other);
    free(base);
    free(payload);
    return 0;
}

/* Payloads of constant and counting bytes for a few geometries; encoders of the tests make better ones. */
void qf_seeds(void (*emit)(void *, const uint8_t *, size_t), void *ctx)
{
    static const struct {
        qn_dtype t;
        unsigned n, cols, n_payload;
    } g[] = {{QN_BF16, 256, 64, 64}, {QN_F32, 100, 100, 200}, {QN_U8, 64, 8, 64}, {QN_F8_E4M3, 512, 128, 300},
             {QN_F16, 33, 33, 66},   {QN_F64, 17, 17, 136},   {QN_U8, 1, 1, 1},   {QN_C64, 20, 10, 80}};
    for (size_t i = 0; i < 3 * (sizeof g / sizeof g[0]); i++) {
        uint8_t b[HEAD + 512] = {0};
        const size_t k = i / 3;
        b[0] = (uint8_t)g[k].t;
        qn_store16(b + 1, (uint16_t)(g[k].n - 1));
        qn_store16(b + 3, (uint16_t)(g[k].cols - 1));
        for (unsigned j = 0; j < g[k].n_payload; j++)
            b[HEAD + j] = (uint8_t)(i % 3 == 0 ? 0 : i % 3 == 1 ? j : 0xff);
        emit(ctx, b, HEAD + g[k].n_payload);
    }
}
