/* fuzz_npy.c: a numpy array file, raw (first byte odd) or as header text, a zero byte, and data: then magic and length are
 * always right. What opens must give back the file, and its tensor the same whether read at once or in pieces. */
#include "base/num.h"
#include "formats/source.h"
#include "tests/fuzz/fuzz.h"
#include "tests/support/hostile.h"
#include <string.h>

static void check_tensor(qn_source *s, const qt_buf *file)
{
    const qn_source_tensor *t = &s->tensors[0];
    qn_err err = {0};
    QF_CHECK(s->n_tensors == 1 && t->n_bytes <= file->n && qn_source_tensor_find(s, t->name) == 0);
    const size_t n = (size_t)t->n_bytes, cut = n / 3;
    uint8_t *once = malloc(n + 1), *parts = malloc(n + 1);
    QF_CHECK(qn_source_tensor_read(s, 0, 0, n, once, &err) == QN_OK);
    QF_CHECK(qn_source_tensor_read(s, 0, cut, n - cut, parts + cut, &err) == QN_OK);
    QF_CHECK(qn_source_tensor_read(s, 0, 0, cut, parts, &err) == QN_OK);
    QF_CHECK(memcmp(once, parts, n) == 0);
    free(once);
    free(parts);
}

static void check_objects(qn_source *s, const qt_buf *file)
{
    uint8_t *back = malloc(file->n);
    size_t at = 0;
    for (uint64_t i = 0; i < s->n_objects; i++) {
        qn_err err = {0};
        QF_CHECK(s->objects[i].n_bytes <= file->n - at);
        QF_CHECK(qn_source_read(s, i, 0, s->objects[i].n_bytes, back + at, &err) == QN_OK);
        at += (size_t)s->objects[i].n_bytes;
    }
    QF_CHECK(at == file->n && memcmp(back, file->p, at) == 0);
    free(back);
}

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
    qt_buf file = {0};
    if (n == 0)
        return 0;
    if (p[0] & 1) {
        qt_add(&file, p + 1, n - 1);
    } else {
        const uint8_t *zero = memchr(p + 1, 0, n - 1);
        const size_t n_head = zero ? (size_t)(zero - p - 1) : n - 1;
        uint8_t lead[12] = {0x93, 'N', 'U', 'M', 'P', 'Y', 2};
        qn_store32(lead + 8, (uint32_t)n_head);
        qt_add(&file, lead, sizeof lead);
        qt_add(&file, p + 1, n_head);
        if (zero)
            qt_add(&file, zero + 1, n - 2 - n_head);
    }
    qt_files t;
    qt_counter c;
    qn_err err;
    qn_source *s;
    qt_files_init(&t);
    qt_files_add(&t, "w.npy", file.p, file.n);
    qt_counter_init(&c);
    const qn_env env = qt_env(&t, &c);
    qn_err_clear(&err);
    const qn_code rc = qn_source_open(&env, "w.npy", &s, &err);
    QF_CHECK(rc == QN_OK || rc == QN_E_INPUT || rc == QN_E_UNSUPPORTED);
    QF_CHECK(rc == QN_OK || (err.code == rc && err.text[0] && err.path[0]));
    QF_CHECK(c.peak <= 2 * file.n + (1 << 20));
    if (rc == QN_OK) {
        if (strcmp(s->ops->format, "npy") == 0) {
            check_objects(s, &file);
            check_tensor(s, &file);
        }
        qn_source_close(s);
    }
    QF_CHECK(c.n_live == 0 && t.n_open == 0);
    qt_buf_free(&file);
    return 0;
}

void qf_seeds(void (*emit)(void *, const uint8_t *, size_t), void *ctx)
{
    static const char *const heads[] = {
        "{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }\n",
        "{'descr': '>f4', 'fortran_order': True, 'shape': (2, 3), }\n",
        "{'descr': '>c8', 'fortran_order': False, 'shape': (3,), }\n",
        "{\"shape\":(2L,3L,2L),\"fortran_order\":True,\"descr\":\"<i2\"}",
        "{'descr': '|b1', 'fortran_order': True, 'shape': (), }\n",
        "{'descr': '<f8', 'fortran_order': True, 'shape': (0, 281474976710656), }\n",
        "{'descr': [('x', '<f4')], 'fortran_order': False, 'shape': (2,), }\n",
    };
    for (size_t i = 0; i < sizeof heads / sizeof heads[0]; i++) {
        qt_buf b = {0};
        qt_add(&b, "\0", 1);
        qt_add(&b, heads[i], strlen(heads[i]) + 1);
        qt_add(&b, "abcdefghijklmnopqrstuvwx", 24);
        emit(ctx, b.p, b.n);
        qt_buf_free(&b);
    }
    qt_buf b = {0};
    qt_add(&b, "\1\x93NUMPY\1\0\x36\0", 11);
    qt_addf(&b, "%-53s\n", "{'descr': '|u1', 'fortran_order': False, 'shape': (2,)}");
    qt_add(&b, "xy", 2);
    emit(ctx, b.p, b.n);
    qt_buf_free(&b);
}
