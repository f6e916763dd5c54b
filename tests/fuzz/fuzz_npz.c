/* fuzz_npz.c: a numpy archive, raw (first byte odd) or in the making: then the input is up to four members, each a byte of
 * flags, two of length and the content, put into an archive that is right around them. */
#include "base/num.h"
#include "formats/source.h"
#include "tests/fuzz/fuzz.h"
#include "tests/support/npz_build.h"
#include <string.h>

enum { TENSOR_MAX = 1 << 20 }; /* what deflates to more is only opened */

static void check(qn_source *s, const qt_buf *file)
{
    uint8_t *back = malloc(file->n + 1);
    size_t at = 0;
    for (uint64_t i = 0; i < s->n_objects; i++) {
        qn_err err = {0};
        QF_CHECK(s->objects[i].n_bytes <= file->n - at);
        QF_CHECK(qn_source_read(s, i, 0, s->objects[i].n_bytes, back + at, &err) == QN_OK);
        at += (size_t)s->objects[i].n_bytes;
    }
    QF_CHECK(at == file->n && memcmp(back, file->p, at) == 0);
    free(back);
    for (uint64_t i = 0; i < s->n_tensors; i++) {
        const qn_source_tensor *t = &s->tensors[i];
        QF_CHECK(qn_source_tensor_find(s, t->name) == i);
        if (t->n_bytes > TENSOR_MAX)
            continue;
        const size_t n = (size_t)t->n_bytes, cut = n / 3;
        uint8_t *once = malloc(n + 1), *parts = malloc(n + 1);
        qn_err err = {0};
        qn_code rc = qn_source_tensor_read(s, i, 0, n, once, &err);
        QF_CHECK(rc == QN_OK || (rc == QN_E_INPUT && err.text[0] && err.path[0]));
        if (rc == QN_OK) {
            QF_CHECK(qn_source_tensor_read(s, i, cut, n - cut, parts + cut, &err) == QN_OK);
            QF_CHECK(qn_source_tensor_read(s, i, 0, cut, parts, &err) == QN_OK);
            QF_CHECK(memcmp(once, parts, n) == 0);
        }
        free(once);
        free(parts);
    }
}

static void make(qt_npz *z, const uint8_t *p, size_t n)
{
    for (unsigned k = 0; k < 4 && n >= 3; k++) {
        static const char *const names[] = {"a.npy", "b/c.npy", "d.npy", "e.txt"};
        const size_t len = (size_t)qn_min_u64(qn_load16(p + 1), n - 3);
        const bool wrong_size = p[0] & 4, wrong_crc = p[0] & 8;
        qt_npz_add_as(z, names[k], p + 3, len, p[0] & 2, (uint32_t)len + wrong_size, wrong_crc);
        p += 3 + len;
        n -= 3 + len;
    }
    qt_npz_end(z);
}

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
    qt_npz z = {0};
    if (n == 0)
        return 0;
    if (p[0] & 1)
        qt_add(&z.file, p + 1, n - 1);
    else
        make(&z, p + 1, n - 1);
    qt_files t;
    qt_counter c;
    qn_err err;
    qn_source *s;
    qt_files_init(&t);
    qt_files_add(&t, "m.npz", z.file.p, z.file.n);
    qt_counter_init(&c);
    const qn_env env = qt_env(&t, &c);
    qn_err_clear(&err);
    const qn_code rc = qn_source_open(&env, "m.npz", &s, &err);
    QF_CHECK(rc == QN_OK || rc == QN_E_INPUT || rc == QN_E_UNSUPPORTED);
    QF_CHECK(rc == QN_OK || (err.code == rc && err.text[0] && err.path[0]));
    QF_CHECK(c.peak <= 2 * z.file.n + (1 << 20));
    if (rc == QN_OK) {
        if (strcmp(s->ops->format, "npz") == 0)
            check(s, &z.file);
        qn_source_close(s);
    }
    QF_CHECK(c.n_live == 0 && t.n_open == 0);
    qt_npz_free(&z);
    return 0;
}

void qf_seeds(void (*emit)(void *, const uint8_t *, size_t), void *ctx)
{
    static const char *const dicts[] = {
        "{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }",
        "{'descr': '>i2', 'fortran_order': True, 'shape': (3, 2, 2), }",
        "{'descr': '<U6', 'fortran_order': False, 'shape': (), }",
    };
    for (unsigned deflate = 0; deflate < 2; deflate++) {
        qt_buf b = {0};
        qt_npz z = {0};
        qt_add(&b, "\0", 1);
        for (unsigned k = 0; k < 3; k++) {
            static const char *const names[] = {"a.npy", "b.npy", "note.npy"};
            qt_buf array = {0};
            uint8_t lead[3] = {(uint8_t)(2 * deflate)};
            qt_add_npy(&array, dicts[k], 24);
            qn_store16(lead + 1, (uint16_t)array.n);
            qt_add(&b, lead, 3);
            qt_add(&b, array.p, array.n);
            qt_npz_add(&z, names[k], array.p, array.n, deflate);
            qt_buf_free(&array);
        }
        emit(ctx, b.p, b.n);
        qt_npz_end(&z);
        b.n = 0;
        qt_add(&b, "\1", 1);
        qt_add(&b, z.file.p, z.file.n);
        emit(ctx, b.p, b.n);
        qt_buf_free(&b);
        qt_npz_free(&z);
    }
}
