/* fuzz_reader.c: payload bytes and an index; the checksums of payloads are put right, so that decoding starts. Then
 * everything is read: whole objects, ranges, rows as f32, codes (which must give the weights), and the full check.
 *   input: u16 payload length │ payload │ index */
#include "base/half.h"
#include "base/num.h"
#include "compress/export/codes.h"
#include "compress/pack.h"
#include "formats/quern/source.h"
#include "formats/quern/write.h"
#include "tests/fuzz/fuzz.h"
#include "tests/support/quern_build.h"
#include <string.h>

enum { DECODE_MAX = 1 << 20 };

/* The same index with the hashes of the payloads as they lie in `area` (which begins at byte 64); false: not parsable. */
static bool right_hashes(const uint8_t *p, size_t n, const uint8_t *area, size_t n_area, qt_buf *out)
{
    qn_arena ar;
    qn_index ix;
    uint8_t *bytes;
    uint64_t n_bytes;
    qn_arena_init(&ar, NULL);
    bool ok = qn_index_parse(&ix, &ar, p, n, NULL) == QN_OK;
    for (uint64_t i = 0; ok && i < ix.n_chunks; i++) {
        qn_index_chunk *c = &ix.chunks[i];
        if (c->codec != QN_CODEC_SHARED && c->off - 64 <= n_area && c->stored_bytes <= n_area - (c->off - 64))
            c->hash = qn_hash64(area + (c->off - 64), c->stored_bytes);
    }
    if (ok && qn_index_serialise(&ix, NULL, &bytes, &n_bytes, NULL) == QN_OK) {
        qt_add(out, bytes, (size_t)n_bytes);
        qn_mem_put(NULL, bytes);
    }
    qn_arena_release(&ar);
    return ok;
}

static void read_all(qn_source *s, qn_reader *r)
{
    const qn_index *ix = qn_reader_index(r);
    static uint8_t dst[DECODE_MAX], part[DECODE_MAX];
    qn_err err;
    for (uint64_t i = 0; i < ix->n_objects; i++) {
        const uint64_t n = ix->objects[i].n_bytes;
        if (n == 0 || n > DECODE_MAX)
            continue;
        qn_err_clear(&err);
        const qn_code rc = qn_source_read(s, i, 0, n, dst, &err);
        QF_CHECK(rc == QN_OK || rc == QN_E_INPUT || rc == QN_E_UNSUPPORTED || rc == QN_E_USAGE);
        QF_CHECK(rc == QN_OK || (err.code == rc && err.text[0]));
        const uint64_t at = n / 3, len = n / 2;
        qn_err_clear(&err);
        if (rc == QN_OK && len) {
            QF_CHECK(qn_source_read(s, i, at, len, part, &err) == QN_OK);
            QF_CHECK(memcmp(dst + at, part, (size_t)len) == 0);
        }
    }
    for (uint64_t t = 0; t < qn_reader_n_tensors(r); t++) {
        qn_tensor x;
        qn_err_clear(&err);
        QF_CHECK(qn_reader_tensor(r, t, &x, &err) == QN_OK);
        if (x.n_elems <= DECODE_MAX / 8) {
            const qn_code rc = qn_reader_rows(r, t, 0, x.n_rows, QN_F32, dst, (size_t)x.n_elems * (x.dtype == QN_C64 ? 8 : 4), &err);
            QF_CHECK(rc != QN_E_BUG && rc != QN_E_MEMORY);
        }
    }
}

static bool same(qn_dtype t, float v, float w)
{
    const float r = t == QN_F32 ? v : t == QN_F16 ? qn_f16_to_f32(qn_f32_to_f16(v)) : qn_bf16_to_f32(qn_f32_to_bf16(v));
    return r == w;
}

/* What was taken apart is what the decoder makes of it. */
static void read_codes(qn_source *s, uint64_t tensor, qn_arena *scratch)
{
    qn_codes c;
    qn_err err;
    qn_err_clear(&err);
    if (qn_codes_open(&c, s, tensor, scratch, &err) != QN_OK) {
        QF_CHECK(err.code == QN_E_INPUT || err.code == QN_E_UNSUPPORTED || err.code == QN_E_USAGE);
        return;
    }
    const uint64_t n = (uint64_t)c.rows * c.cols * c.parts;
    const uint32_t rows = c.rows * c.parts;
    if (n == 0 || n > DECODE_MAX / 16)
        return;
    float *w = malloc(n * sizeof *w);
    if (!w)
        abort();
    const bool dense = qn_codes_dense(&c, 0, rows, w, scratch, &err) == QN_OK;
    qn_err_clear(&err);
    if (c.kind == QN_CODES_BLOCKS) {
        uint8_t *b = malloc(qn_bytes_of_elems(c.block, n));
        QF_CHECK(b && qn_codes_blocks(&c, 0, rows, b, scratch, &err) == QN_OK);
        free(b);
    } else if (c.kind == QN_CODES_GRID || c.kind == QN_CODES_FP8) {
        const uint64_t side = (uint64_t)rows * qn_codes_groups(&c);
        uint8_t *codes = malloc(n);
        float *scales = malloc(side * sizeof *scales), *zeros = malloc(side * sizeof *zeros);
        QF_CHECK(codes && scales && zeros && qn_codes_grid(&c, 0, rows, codes, scales, zeros, scratch, &err) == QN_OK);
        for (uint64_t i = 0; dense && i < n; i++) {
            const uint64_t g = i / c.cols * qn_codes_groups(&c) + i % c.cols / c.group;
            const float v = c.kind == QN_CODES_FP8 ? qn_e4m3_to_f32(codes[i]) : (float)codes[i] - zeros[g];
            QF_CHECK(same(c.dtype, scales[g] * v, w[i]));
        }
        free(codes);
        free(scales);
        free(zeros);
    }
    free(w);
}

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
    if (n < 3)
        return 0;
    size_t n_pay = (size_t)(p[0] | p[1] << 8);
    if (n_pay > n - 2)
        n_pay = n - 2;
    uint8_t *area = calloc(1, 65536);
    if (!area)
        abort();
    memcpy(area, p + 2, n_pay);
    qt_buf index = {0}, file = {0};
    if (right_hashes(p + 2 + n_pay, n - 2 - n_pay, area, n_pay, &index)) {
        (void)qt_quern_file(&file, n_pay, index.p, index.n, false);
        memcpy(file.p + 64, area, n_pay);
        qt_files t;
        qn_err err;
        qn_source *s;
        qt_files_init(&t);
        qt_files_add(&t, "m.quern", file.p, file.n);
        const qn_env env = qt_env(&t, NULL);
        qn_err_clear(&err);
        if (qn_quern_source_open(&env, "m.quern", &s, &err) == QN_OK) {
            uint64_t total = 0;
            for (uint64_t f = 0; f < s->n_files; f++)
                total += s->files[f].n_bytes > DECODE_MAX ? DECODE_MAX : s->files[f].n_bytes;
            read_all(s, qn_quern_source_reader(s));
            qn_arena scratch;
            qn_arena_init(&scratch, NULL);
            for (uint64_t i = 0; i < s->n_tensors; i++)
                if (s->tensors[i].n_bytes <= DECODE_MAX)
                    read_codes(s, i, &scratch);
            qn_arena_release(&scratch);
            qn_err_clear(&err);
            if (total < DECODE_MAX) {
                const qn_code rc = qn_verify(&env, s, NULL, NULL, &err);
                QF_CHECK(rc != QN_E_BUG && rc != QN_E_MEMORY);
            }
            qn_source_close(s);
        }
        QF_CHECK(t.n_open == 0);
    }
    free(area);
    qt_buf_free(&index);
    qt_buf_free(&file);
    return 0;
}

static const char *const seeds[] = {
    "b40 b0 z40 b1 v1 screator st v2 sa.bin v1 sm.st v2 v3 b0 v3 z16 v3 v6 b0 H3 b0 v10 z16 v10 v20 b0 H10 b143 sw b2 v2 v4 z16 v8 v32 b0 H16",
    "b8 b0 z8 b0 v0 v1 sm v3 v3 b0 v3 z16 v3 v6 b0 H3 b0 v3 z16 v3 v1 v1 b0 v3 z16 v3 v1 v2",
    "b24 b0 f24 b0 v0 v1 sm v2 v2 b146 sw b1 v100 z16 v100 v8 b1 z8 b149 sv b2 v3 v5 z16 v15 v16 b1 z8",
    "b32 b0 t(\xb5/\xfd z28 b0 v0 v1 sm v1 v1 b0 v400 z16 v400 v64 b2 z8",
    "b16 b0 z16 b0 v0 v1 sm v2 v4 b130 sx b1 v64 z16 v16 v32 b0 z8 v1 v1 b131 se b1 v8 z16 v3 v6 b0 z8 v1 v1",
    "b64 b0 z64 b0 v0 v1 sm v1 v1 b143 sw b2 v4 v64 z16 v256 v128 b4 z8",
    "b64 b0 z64 b0 v0 v1 sm v1 v1 b143 sw b2 v4 v64 z16 v256 v128 b5 z8",
    "b64 b0 z64 b0 v0 v1 sm v1 v1 b146 sw b2 v4 v64 z16 v256 v128 b3 z8",
    /* a grid, the same turned, a grid of two chunks of which one is of other bits, fp8 */
    "b143 b0 b4 b0 b0 b0 v64 b0 v8 z8 z128 b0 v0 v1 sm v1 v1 b143 sw b2 v4 v64 z16 v256 v286 b14 z8",
    "b148 b0 b1 v64 b14 v143 b4 b0 b0 b0 v64 b0 v8 z8 z128 b0 v0 v1 sm v1 v1 b143 sw b2 v64 v4 z16 v256 v296 b20 z8",
    "b108 b0 b2 b1 b0 b1 v64 b0 v4 z4 f32 z1 b3 b1 b0 b1 v64 b0 v4 z4 f48 b0 v0 v1 sm v1 v2 b143 sw b2 v4 v64 z16 v128 v86 b14 z8 v118 b14 z8",
    "b22 b1 v64 b0 v16 z16 b0 v256 z256 b0 v0 v1 sm v1 v1 b143 sw b2 v4 v64 z16 v256 v556 b21 z8",
};

void qf_seeds(void (*emit)(void *, const uint8_t *, size_t), void *ctx)
{
    for (size_t i = 0; i < sizeof seeds / sizeof seeds[0]; i++) {
        qt_buf b = {0};
        uint64_t mark = 0;
        qt_index_words(&b, seeds[i], &mark);
        emit(ctx, b.p, b.n);
        qt_buf_free(&b);
    }
}
