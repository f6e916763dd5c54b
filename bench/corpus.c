/* corpus.c: see corpus.h. */
#include "bench/corpus.h"
#include "base/err.h"
#include "base/half.h"
#include "base/num.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static char *copy(const char *s)
{
    char *p = malloc(strlen(s) + 1);
    return strcpy(p, s);
}

static bench_tensor *room(bench_corpus *c)
{
    if (c->n == c->cap) {
        c->cap = c->cap ? 2 * c->cap : 64;
        c->t = realloc(c->t, c->cap * sizeof *c->t);
    }
    c->t[c->n] = (bench_tensor){0};
    return &c->t[c->n++];
}

static bool is_float(qn_dtype t)
{
    return t == QN_F16 || t == QN_BF16 || t == QN_F32 || t == QN_F64 || t == QN_F8_E4M3 || t == QN_F8_E5M2;
}

bool bench_corpus_add(bench_corpus *c, const qn_env *env, const char *path, const char *model)
{
    qn_source *s;
    qn_err err;
    qn_err_clear(&err);
    qn_code rc = qn_source_open(env, path, &s, &err);
    for (uint64_t i = 0; rc == QN_OK && i < s->n_objects; i++) {
        const qn_object *o = &s->objects[i];
        if (o->kind != QN_OBJECT_TENSOR || !is_float((qn_dtype)o->dtype) || o->n_bytes == 0)
            continue;
        bench_tensor *t = room(c);
        *t = (bench_tensor){.model = copy(model), .name = copy(o->name), .dtype = (qn_dtype)o->dtype, .rank = o->rank,
                            .n = o->n_bytes / qn_unit_bytes((qn_dtype)o->dtype), .n_bytes = o->n_bytes};
        memcpy(t->dims, o->dims, o->rank * sizeof *o->dims);
        t->data = aligned_alloc(64, (o->n_bytes + 63) / 64 * 64);
        rc = qn_source_read(s, i, 0, o->n_bytes, t->data, &err);
    }
    if (rc == QN_OK) {
        qn_source_close(s);
        return true;
    }
    char line[600];
    qn_err_line(&err, line, sizeof line);
    fprintf(stderr, "left out: %s\n", line);
    return false;
}

void bench_corpus_round(bench_corpus *c, size_t first, size_t end)
{
    for (size_t i = first; i < end; i++) {
        if (c->t[i].dtype != QN_F32)
            continue;
        bench_tensor *t = room(c);
        const bench_tensor *from = &c->t[i];
        *t = *from;
        t->model = copy(from->model);
        t->name = copy(from->name);
        t->dtype = QN_BF16;
        t->derived = true;
        t->n_bytes = 2 * t->n;
        t->data = aligned_alloc(64, (t->n_bytes + 63) / 64 * 64);
        for (uint64_t k = 0; k < t->n; k++)
            qn_store16(t->data + 2 * k, qn_f32_to_bf16(qn_bits_f32(qn_load32(from->data + 4 * k))));
    }
}

void bench_corpus_take(bench_corpus *c, const char *model, const char *name, qn_dtype dtype, uint64_t rows, uint64_t cols,
                       uint8_t *data)
{
    bench_tensor *t = room(c);
    *t = (bench_tensor){.model = copy(model), .name = copy(name), .dtype = dtype, .rank = 2, .dims = {rows, cols},
                        .n = rows * cols, .n_bytes = rows * cols * qn_unit_bytes(dtype), .data = data, .derived = true};
}

void bench_corpus_release(bench_corpus *c)
{
    for (size_t i = 0; i < c->n; i++) {
        free(c->t[i].model);
        free(c->t[i].name);
        free(c->t[i].data);
    }
    free(c->t);
    *c = (bench_corpus){0};
}

static unsigned symbol(const bench_tensor *t, uint64_t i)
{
    switch (t->dtype) {
    case QN_BF16:
        return qn_load16(t->data + 2 * i) >> 7 & 0xff;
    case QN_F16:
        return qn_load16(t->data + 2 * i) >> 10 & 0x1f;
    case QN_F32:
        return qn_load32(t->data + 4 * i) >> 23 & 0xff;
    case QN_F64:
        return (unsigned)(qn_load64(t->data + 8 * i) >> 52 & 0x7ff);
    default:
        return t->data[i];
    }
}

double bench_order0_bound(const bench_tensor *t)
{
    static uint64_t count[2048];
    memset(count, 0, sizeof count);
    for (uint64_t i = 0; i < t->n; i++)
        count[symbol(t, i)]++;
    double bits = 0;
    for (size_t s = 0; s < sizeof count / sizeof count[0]; s++)
        if (count[s])
            bits -= (double)count[s] * log2((double)count[s] / (double)t->n);
    const double raw = t->dtype == QN_BF16 ? 8 : t->dtype == QN_F16 ? 11 : t->dtype == QN_F32 ? 24 : t->dtype == QN_F64 ? 53 : 0;
    return bits / (double)t->n + raw;
}
