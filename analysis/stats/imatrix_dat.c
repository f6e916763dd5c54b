/* imatrix_dat.c: the .dat form of importance matrices; see imatrix.h. A first walk makes a table of what lies where, checked
 * against the length of the file; then entries are read one by one. */
#include "analysis/stats/imatrix_impl.h"
#include "base/err.h"
#include "base/half.h"
#include "base/num.h"
#include "base/path.h"
#include <stdio.h>

enum { ENTRY_BYTES_MIN = 4 + 1 + 4 + 4 + 4, LABEL_MAX = QN_STATS_NAME_MAX };

struct row {
    const char *name;
    uint64_t off, n; /* of the values */
    uint32_t calls;
};

struct dat {
    const qn_file *file;
    uint64_t n_bytes, at;
    struct row *rows;
    uint64_t n_rows;
    uint32_t chunks;   /* 0: not said */
    const char *label; /* ""         */
};

/* A count: i32, not negative, and not more than `most`. */
static qn_code take_count(struct dat *d, const char *what, uint64_t least, uint64_t most, uint32_t *v, qn_err *err)
{
    uint8_t b[4];
    if (d->n_bytes - d->at < sizeof b)
        return QN_FAIL(err, QN_E_INPUT, d->at, "%s is missing: the file ends", what);
    QN_TRY(qn_file_read(d->file, b, sizeof b, d->at, err));
    *v = qn_load32(b);
    if (*v > INT32_MAX || *v < least || *v > most)
        return QN_FAIL(err, QN_E_INPUT, d->at, "%s %ld: %llu to %llu are allowed", what, (long)(int32_t)*v,
                       (unsigned long long)least, (unsigned long long)qn_min_u64(most, INT32_MAX));
    d->at += sizeof b;
    return QN_OK;
}

static qn_code take_string(struct dat *d, const char *what, uint64_t least, qn_arena *ar, const char **out, qn_err *err)
{
    const uint64_t at = d->at, room = d->n_bytes - d->at;
    uint32_t n = 0;
    QN_TRY(take_count(d, what, least, qn_min_u64(LABEL_MAX, room < 4 ? 0 : room - 4), &n, err));
    char *s = qn_arena_get(ar, n + 1ull, 1, err);
    if (!s)
        return QN_E_MEMORY;
    QN_TRY(qn_file_read(d->file, s, n, d->at, err));
    s[n] = '\0';
    if (!qn_utf8_is_valid(s, n) || memchr(s, 0, n))
        return QN_FAIL(err, QN_E_INPUT, at, "%s is not UTF-8 or has a NUL inside", what);
    d->at += n;
    *out = s;
    return QN_OK;
}

static qn_code take_row(struct dat *d, qn_arena *ar, struct row *r, qn_err *err)
{
    uint32_t n = 0;
    QN_TRY(take_string(d, "length of a name", 1, ar, &r->name, err));
    QN_TRY(qn_err_in_tensor(err, take_count(d, "number of calls", 1, INT32_MAX, &r->calls, err), r->name));
    const uint64_t room = d->n_bytes - d->at;
    QN_TRY(qn_err_in_tensor(err, take_count(d, "number of values", 1, room < 4 ? 0 : (room - 4) / 4, &n, err), r->name));
    r->n = n;
    r->off = d->at;
    d->at += 4ull * n;
    return QN_OK;
}

static qn_code walk(struct dat *d, const qn_file *file, uint64_t n_bytes, qn_arena *ar, qn_err *err)
{
    uint32_t n = 0;
    *d = (struct dat){.file = file, .n_bytes = n_bytes, .label = ""};
    QN_TRY(take_count(d, "number of entries", 1, n_bytes / ENTRY_BYTES_MIN, &n, err));
    d->rows = qn_arena_get(ar, n * sizeof *d->rows, 8, err);
    if (!d->rows)
        return QN_E_MEMORY;
    for (; d->n_rows < n; d->n_rows++)
        QN_TRY(take_row(d, ar, &d->rows[d->n_rows], err));
    if (d->at == n_bytes)
        return QN_OK;
    QN_TRY(take_count(d, "last chunk", 0, INT32_MAX, &d->chunks, err));
    if (d->at == n_bytes)
        return QN_OK;
    QN_TRY(take_string(d, "length of the text's path", 0, ar, &d->label, err));
    return d->at == n_bytes ? QN_OK : QN_FAIL(err, QN_E_INPUT, d->at, "%llu bytes too long",
                                              (unsigned long long)(n_bytes - d->at));
}

qn_code qn_imatrix_dat_meta(const qn_env *env, const qn_file *file, uint64_t n_bytes, qn_arena *arena, qn_stats_meta *meta,
                            qn_err *err)
{
    struct dat d;
    qn_stats_source *s = qn_arena_get(arena, sizeof *s, 8, err);
    (void)env;
    if (!s)
        return QN_E_MEMORY;
    QN_TRY(walk(&d, file, n_bytes, arena, err));
    *s = (qn_stats_source){.label = d.label};
    meta->sequences = d.chunks;
    meta->n_sources = d.label[0] != '\0';
    meta->sources = s;
    return QN_OK;
}

static uint64_t values_of(const struct dat *d, const char *block, size_t n, const char *rest)
{
    for (uint64_t i = 0; i < d->n_rows; i++)
        if (strncmp(d->rows[i].name, block, n) == 0 && strcmp(d->rows[i].name + n, rest) == 0)
            return d->rows[i].n;
    return 0;
}

/* Experts of a tensor "blk.N.…_exps.weight": the gate's and up's inputs are as wide as the router's or the query's, and down
 * has as many experts as they. 0: the file does not say. */
static uint64_t experts_of(const struct dat *d, const struct row *r)
{
    const char *dot = strncmp(r->name, "blk.", 4) == 0 ? strchr(r->name + 4, '.') : NULL;
    if (!dot)
        return 0;
    const size_t n = (size_t)(dot + 1 - r->name);
    uint64_t width = values_of(d, r->name, n, "ffn_gate_inp.weight"), all = values_of(d, r->name, n, "ffn_up_exps.weight");
    if (width == 0)
        width = values_of(d, r->name, n, "attn_q.weight");
    if (all == 0)
        all = values_of(d, r->name, n, "ffn_gate_exps.weight");
    const uint64_t e = width && all % width == 0 ? all / width : 0;
    return e && r->n % e == 0 ? e : 0;
}

static qn_code read_values(const struct dat *d, const struct row *r, float *v, qn_err *err)
{
    QN_TRY(qn_file_read(d->file, v, 4 * r->n, r->off, err));
    for (uint64_t i = 0; i < r->n; i++)
        v[i] = qn_bits_f32(qn_load32(&v[i]));
    return QN_OK;
}

static qn_code one_entry(qn_imatrix_in *in, const struct dat *d, const struct row *r, qn_err *err)
{
    const bool moe = qn_imatrix_is_moe(r->name);
    const uint64_t known = moe ? experts_of(d, r) : 1, e = known ? known : 1;
    if (e > QN_STATS_EXPERT_MAX)
        return qn_err_in_tensor(err, QN_FAIL(err, QN_E_UNSUPPORTED, r->off, "%llu experts: below 2^24 are allowed",
                                             (unsigned long long)e), r->name);
    float *v = qn_mem_get(in->env->alloc, 4 * r->n, err);
    uint64_t *counts = qn_mem_get(in->env->alloc, e * sizeof *counts, err);
    qn_code rc = v && counts ? read_values(d, r, v, err) : QN_E_MEMORY;
    if (rc == QN_OK) {
        for (uint64_t i = 0; i < e; i++)
            counts[i] = r->calls;
        rc = qn_imatrix_take(in, r->name, moe && known, e, r->n / e, v, counts, err);
    }
    qn_mem_put(in->env->alloc, counts);
    qn_mem_put(in->env->alloc, v);
    return rc;
}

qn_code qn_imatrix_dat_entries(qn_imatrix_in *in, const qn_file *file, uint64_t n_bytes, qn_err *err)
{
    struct dat d;
    qn_arena ar;
    qn_arena_init(&ar, in->env->alloc);
    qn_code rc = walk(&d, file, n_bytes, &ar, err);
    for (uint64_t i = 0; i < d.n_rows && rc == QN_OK; i++)
        rc = one_entry(in, &d, &d.rows[i], err);
    qn_arena_release(&ar);
    return rc;
}
