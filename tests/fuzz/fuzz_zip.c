/* fuzz_zip.c: a zip directory. What opens must lie as it says: entries from 0 to the central directory, each found by its name; and
 * what the entries hold must unpack to the declared length or fail cleanly. */
#include "base/num.h"
#include "formats/zip/zip.h"
#include "tests/fuzz/fuzz.h"
#include "tests/support/zip_build.h"
#include <string.h>

struct bytes {
    const uint8_t *p;
    size_t n;
};

static qn_code read_bytes(void *ctx, void *dst, uint64_t n, uint64_t off, qn_err *err)
{
    const struct bytes *b = ctx;
    (void)err;
    QF_CHECK(off <= b->n && n <= b->n - off);
    if (n)
        memcpy(dst, b->p + off, n);
    return QN_OK;
}

static void check(const qn_zip *z)
{
    enum { UNPACK_MAX = 1 << 20 };
    uint64_t at = 0;
    for (uint64_t i = 0; i < z->n_entries; i++) {
        const qn_zip_entry *e = &z->entries[i];
        qn_err err;
        QF_CHECK(e->off == at && e->data_off > at && e->n_packed <= e->end - e->data_off);
        QF_CHECK(qn_zip_find(z, e->name) == e);
        QF_CHECK(e->method == QN_ZIP_DEFLATED || e->n_packed == e->n_bytes);
        at = e->end;
        qn_err_clear(&err);
        const qn_code rc = e->n_bytes <= UNPACK_MAX ? qn_zip_check(z, e, &err) : QN_OK;
        QF_CHECK(rc == QN_OK || (rc == QN_E_INPUT && err.text[0]));
    }
    QF_CHECK(at == z->central_off);
}

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
    struct bytes b = {p, n};
    qt_counter c;
    qn_zip z;
    qn_err err;
    qt_counter_init(&c);
    qn_err_clear(&err);
    const qn_code rc = qn_zip_open(&z, &c.alloc, read_bytes, &b, n, &err);
    QF_CHECK(rc == QN_OK || ((rc == QN_E_INPUT || rc == QN_E_UNSUPPORTED) && err.code == rc && err.text[0]));
    QF_CHECK(c.peak <= 4 * n + (1 << 20));
    if (rc == QN_OK) {
        check(&z);
        qn_zip_release(&z);
    }
    QF_CHECK(c.n_live == 0);
    return 0;
}

void qf_seeds(void (*emit)(void *, const uint8_t *, size_t), void *ctx)
{
    static const char ones[300] = {1};
    static const unsigned how[] = {0, QT_ZIP_DESCRIPTOR | QT_ZIP_ALIGN, QT_ZIP_DEFLATE, QT_ZIP_WIDE, QT_ZIP_WIDE | QT_ZIP_DESCRIPTOR,
                                   QT_ZIP_DEFLATE | QT_ZIP_DESCRIPTOR};
    static const char *const names[] = {"a", "m/data.pkl", "c.npy", "d", "e/f", "g"};
    for (unsigned k = 0; k < 8; k++) {
        qt_zip z = {0};
        for (size_t i = 0; i < 6; i++)
            if (k == 7 || k == i)
                qt_zip_add(&z, names[i], ones, 20 + 40 * i, how[i]);
        qt_zip_finish(&z, k % 2);
        emit(ctx, z.file.p, z.file.n);
        qt_zip_free(&z);
    }
}
