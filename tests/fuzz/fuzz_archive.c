/* fuzz_archive.c: an archive with a model in it, raw (first byte even), or a tar whose sums are made right and whose end is put
 * there (odd): then the search goes on behind the sums. What opens must read. */
#include "base/num.h"
#include "formats/source.h"
#include "tests/fuzz/fuzz.h"
#include "tests/support/tar_build.h"
#include "tests/support/zip_build.h"
#include <archive.h>
#include <string.h>

enum { BLOCK = 512 };

/* Follows sizes in octal from header to header, as far as they make sense. */
static void mend(qt_buf *b)
{
    size_t at = 0;
    while (b->n - at >= BLOCK) {
        char size[13] = "";
        memcpy(size, b->p + at + 124, 12);
        memcpy(b->p + at + 257, "ustar", 5);
        qt_tar_sum(b, at);
        const unsigned long long n = strtoull(size, NULL, 8);
        if (n > b->n - at - BLOCK)
            break;
        at += BLOCK + (size_t)((n + BLOCK - 1) / BLOCK * BLOCK);
        if (at > b->n)
            break;
    }
    qt_add_zeros(b, (BLOCK - b->n % BLOCK) % BLOCK);
    qt_tar_end(b);
}

static void read_all(qn_source *s)
{
    qn_err err = {0};
    uint8_t p[4096];
    for (uint64_t i = 0; i < s->n_objects; i++)
        for (uint64_t at = 0; at < s->objects[i].n_bytes; at += sizeof p)
            QF_CHECK(qn_source_read(s, i, at, qn_min_u64(sizeof p, s->objects[i].n_bytes - at), p, &err) == QN_OK);
}

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
    qt_buf file = {0};
    if (n == 0 || n > 1 << 16)
        return 0;
    qt_add(&file, p + 1, n - 1);
    if (p[0] & 1)
        mend(&file);
    qt_files t;
    qt_counter c;
    qn_err err;
    qn_source *s;
    qt_files_init(&t);
    qt_files_add(&t, "m.tar", file.p, file.n);
    qt_counter_init(&c);
    const qn_env env = qt_env(&t, &c);
    qn_err_clear(&err);
    const qn_code rc = qn_source_open(&env, "m.tar", &s, &err);
    /* IO: what does not fit into memory would go into a file, and here none can be made */
    QF_CHECK(rc == QN_OK || rc == QN_E_INPUT || rc == QN_E_UNSUPPORTED || rc == QN_E_IO);
    QF_CHECK(rc == QN_OK || (err.code == rc && err.text[0] && err.path[0]));
    QF_CHECK(c.peak <= 64 << 20);
    if (rc == QN_OK) {
        read_all(s);
        qn_source_close(s);
    }
    QF_CHECK(c.n_live == 0 && t.n_open == 0);
    qt_buf_free(&file);
    return 0;
}

static void emit_as(void (*emit)(void *, const uint8_t *, size_t), void *ctx, uint8_t how, const qt_buf *b)
{
    qt_buf seed = {0};
    qt_add(&seed, &how, 1);
    qt_add(&seed, b->p, b->n);
    emit(ctx, seed.p, seed.n);
    qt_buf_free(&seed);
}

void qf_seeds(void (*emit)(void *, const uint8_t *, size_t), void *ctx)
{
    static const int filters[] = {ARCHIVE_FILTER_GZIP, ARCHIVE_FILTER_ZSTD, ARCHIVE_FILTER_XZ, ARCHIVE_FILTER_BZIP2};
    qt_buf model = {0}, tar = {0};
    qt_zip z = {0};
    qt_add_safetensors(&model, "{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]}}", 8);
    qt_tar_add(&tar, "m/", '5', "", 0);
    qt_tar_add(&tar, "pax", 'x', "18 path=m/config\n\n", 18);
    qt_tar_add(&tar, "m/config.json", '0', "{}", 2);
    qt_tar_add(&tar, "@", 'L', "m/model.safetensors", 20);
    qt_tar_add(&tar, "m/x", '0', model.p, model.n);
    emit_as(emit, ctx, 1, &tar);
    qt_tar_end(&tar);
    emit_as(emit, ctx, 0, &tar);
    for (size_t i = 0; i < sizeof filters / sizeof filters[0]; i++) {
        qt_buf packed = {0};
        qt_pack(&packed, filters[i], tar.p, tar.n);
        emit_as(emit, ctx, 0, &packed);
        qt_buf_free(&packed);
    }
    qt_zip_add(&z, "m/model.safetensors", model.p, model.n, QT_ZIP_DEFLATE);
    qt_zip_add(&z, "m/config.json", "{}", 2, 0);
    qt_zip_finish(&z, false);
    emit_as(emit, ctx, 0, &z.file);
    qt_zip_free(&z);
    qt_buf_free(&tar);
    qt_buf_free(&model);
}
