/* imatrix_export.c: statistics → importance matrices; see imatrix.h. */
#include "analysis/stats/imatrix.h"
#include "base/err.h"
#include "base/half.h"
#include "base/num.h"
#include "formats/gguf/names.h"
#include "formats/gguf/write.h"
#include <float.h>
#include <stdio.h>
#include <stdlib.h>

enum { EXPERTS_MAX = 1 << 16, CHUNK_SIZE_USUAL = 512 };

/* A tensor, or one expert of it, under its GGUF name. */
struct row {
    const char *name;
    uint32_t expert, input;
};

struct out {
    const qn_stats_file *f;
    const qn_env *env;
    struct row *rows;
    uint64_t n_rows;
    qn_imatrix_facts *facts;
};

/* Rows [first, first + n) have one name; experts 0 … n_experts − 1, of which some may be missing. */
struct group {
    uint64_t first, n;
    uint32_t n_experts, n_columns;
};

static int by_name(const void *a, const void *b)
{
    const struct row *x = a, *y = b;
    const int r = strcmp(x->name, y->name);
    return r ? r : (x->expert + 1u > y->expert + 1u) - (x->expert + 1u < y->expert + 1u);
}

static bool is_gguf_name(const char *name)
{
    return strncmp(name, "blk.", 4) == 0 || strcmp(name, "output.weight") == 0 || strcmp(name, "token_embd.weight") == 0;
}

static qn_code name_rows(struct out *o, const qn_imatrix_options *opt, qn_arena *ar, qn_err *err)
{
    o->rows = qn_arena_get(ar, o->f->n_items * sizeof *o->rows, 8, err);
    if (!o->rows)
        return QN_E_MEMORY;
    for (uint32_t i = 0; i < o->f->n_items; i++) {
        const qn_stats_item *it = &o->f->items[i];
        char gguf[QN_GGUF_NAME_CAP];
        struct row r = {it->name, it->expert, it->input};
        if (!opt->keep_names && !is_gguf_name(it->name)) {
            uint32_t expert;
            if (!qn_gguf_name_from_hf(opt->arch, it->name, gguf, &expert) ||
                (expert != QN_GGUF_NO_EXPERT && it->expert != QN_STATS_NO_EXPERT)) {
                o->facts->n_left_out++;
                continue;
            }
            r.name = qn_arena_str(ar, gguf, strlen(gguf), err);
            if (!r.name)
                return QN_E_MEMORY;
            if (expert != QN_GGUF_NO_EXPERT)
                r.expert = expert;
        }
        o->rows[o->n_rows++] = r;
    }
    if (o->n_rows > 1)
        qsort(o->rows, (size_t)o->n_rows, sizeof *o->rows, by_name);
    return o->n_rows ? QN_OK : QN_FAIL(err, QN_E_UNSUPPORTED, QN_NO_OFFSET, "none of its %lu tensors has a name in GGUF",
                                       (unsigned long)o->f->n_items);
}

static qn_code group_at(const struct out *o, uint64_t first, struct group *g, qn_err *err)
{
    const struct row *r = &o->rows[first];
    *g = (struct group){.first = first, .n = 1, .n_experts = 1, .n_columns = o->f->inputs[r->input].n};
    while (first + g->n < o->n_rows && strcmp(r->name, r[g->n].name) == 0) {
        const struct row *next = &r[g->n];
        if (r->expert == QN_STATS_NO_EXPERT || next->expert == next[-1].expert)
            return qn_err_in_tensor(err, QN_FAIL(err, QN_E_INPUT, QN_NO_OFFSET, "two entries have this GGUF name"), r->name);
        if (o->f->inputs[next->input].n != g->n_columns)
            return qn_err_in_tensor(err, QN_FAIL(err, QN_E_INPUT, QN_NO_OFFSET, "experts of different widths"), r->name);
        g->n++;
    }
    if (r->expert != QN_STATS_NO_EXPERT)
        g->n_experts = r[g->n - 1].expert + 1;
    if (g->n_experts > EXPERTS_MAX)
        return qn_err_in_tensor(err, QN_FAIL(err, QN_E_UNSUPPORTED, QN_NO_OFFSET, "%lu experts: at most 2^16 are written",
                                             (unsigned long)g->n_experts), r->name);
    return QN_OK;
}

/* The file's sums of expert e, scaled, as f32; zeros, and count 0, for an expert that is missing. */
static qn_code expert_values(const struct out *o, const struct group *g, uint32_t e, uint64_t *at, double calls, float *v,
                             uint64_t *count, qn_err *err)
{
    const struct row *r = &o->rows[g->first + *at];
    *count = 0;
    memset(v, 0, 4ull * g->n_columns);
    if (*at == g->n || (r->expert != QN_STATS_NO_EXPERT && r->expert != e))
        return QN_OK;
    (*at)++;
    qn_stats_vectors sums;
    QN_TRY(qn_stats_vectors_read(o->f, r->input, &sums, err));
    *count = o->f->inputs[r->input].count;
    qn_code rc = QN_OK;
    for (uint32_t i = 0; i < g->n_columns && rc == QN_OK; i++) {
        const double x = calls > 0 && *count ? sums.sum_sq[i] / (double)*count * calls : sums.sum_sq[i];
        if (x > (double)FLT_MAX)
            rc = qn_err_in_tensor(err, QN_FAIL(err, QN_E_UNSUPPORTED, QN_NO_OFFSET, "column %lu: its sum is beyond the range of "
                                               "f32", (unsigned long)i), r->name);
        else
            v[i] = (float)x;
    }
    qn_stats_vectors_release(o->f, &sums);
    return rc;
}

static void store_f32s(float *v, uint64_t n)
{
    for (uint64_t i = 0; i < n; i++)
        qn_store32(&v[i], qn_f32_bits(v[i]));
}

static void note_group(const struct out *o, const struct group *g)
{
    o->facts->n_entries++;
    o->facts->n_experts += o->rows[g->first].expert != QN_STATS_NO_EXPERT;
}

static uint32_t chunks_of(const qn_stats_meta *m)
{
    return (uint32_t)qn_max_u64(1, qn_min_u64(m->sequences, INT32_MAX));
}

static uint32_t chunk_size_of(const qn_stats_meta *m)
{
    const uint64_t mean = m->sequences ? m->tokens / m->sequences : 0;
    return m->context ? m->context : mean && mean <= UINT32_MAX ? (uint32_t)mean : CHUNK_SIZE_USUAL;
}

/* ---- GGUF ---- */

static qn_code gguf_keys(qn_gguf_writer *w, const qn_stats_meta *m, qn_err *err)
{
    QN_TRY(qn_gguf_put_str(w, "general.type", "imatrix", err));
    QN_TRY(qn_gguf_put_array(w, "imatrix.datasets", QN_GGUF_STR, m->n_sources ? m->n_sources : 1, err));
    if (m->n_sources == 0) /* readers want the key, and a name in it */
        QN_TRY(qn_gguf_put_array_str(w, "unknown", 7, err));
    for (uint32_t i = 0; i < m->n_sources; i++)
        QN_TRY(qn_gguf_put_array_str(w, m->sources[i].label, strlen(m->sources[i].label), err));
    QN_TRY(qn_gguf_put_u32(w, "imatrix.chunk_count", chunks_of(m), err));
    return qn_gguf_put_u32(w, "imatrix.chunk_size", chunk_size_of(m), err);
}

static qn_code gguf_list(const struct out *o, qn_gguf_writer *w, qn_err *err)
{
    for (uint64_t at = 0; at < o->n_rows;) {
        char name[QN_STATS_NAME_MAX + 16];
        struct group g;
        QN_TRY(group_at(o, at, &g, err));
        const uint64_t sums[2] = {g.n_experts, g.n_columns}, counts[2] = {g.n_experts, 1};
        (void)snprintf(name, sizeof name, "%s.in_sum2", o->rows[at].name);
        QN_TRY(qn_gguf_put_tensor(w, name, QN_F32, sums, 2, err));
        (void)snprintf(name, sizeof name, "%s.counts", o->rows[at].name);
        QN_TRY(qn_gguf_put_tensor(w, name, QN_F32, counts, 2, err));
        at += g.n;
        note_group(o, &g);
    }
    return QN_OK;
}

static qn_code gguf_group(const struct out *o, qn_gguf_writer *w, const struct group *g, float *v, float *counts, qn_err *err)
{
    uint64_t at = 0, count;
    for (uint32_t e = 0; e < g->n_experts; e++) {
        QN_TRY(expert_values(o, g, e, &at, 0, v, &count, err));
        o->facts->n_unseen += count == 0;
        counts[e] = (float)count;
        store_f32s(v, g->n_columns);
        QN_TRY(qn_gguf_put_data(w, v, 4ull * g->n_columns, err));
    }
    store_f32s(counts, g->n_experts);
    return qn_gguf_put_data(w, counts, 4ull * g->n_experts, err);
}

static qn_code gguf_data(const struct out *o, qn_gguf_writer *w, qn_err *err)
{
    for (uint64_t at = 0; at < o->n_rows;) {
        struct group g;
        QN_TRY(group_at(o, at, &g, err));
        float *v = qn_mem_get(o->env->alloc, 4ull * g.n_columns, err);
        float *counts = qn_mem_get(o->env->alloc, 4ull * g.n_experts, err);
        const qn_code rc = v && counts ? gguf_group(o, w, &g, v, counts, err) : QN_E_MEMORY;
        qn_mem_put(o->env->alloc, counts);
        qn_mem_put(o->env->alloc, v);
        QN_TRY(rc);
        at += g.n;
    }
    return QN_OK;
}

static qn_code write_gguf(const struct out *o, const char *path, bool overwrite, qn_err *err)
{
    qn_gguf_writer w;
    qn_code rc = qn_gguf_writer_open(&w, o->env, path, 0, overwrite, err);
    if (rc == QN_OK)
        rc = gguf_keys(&w, &o->f->meta, err);
    if (rc == QN_OK)
        rc = gguf_list(o, &w, err);
    if (rc == QN_OK)
        rc = gguf_data(o, &w, err);
    if (rc == QN_OK)
        rc = qn_gguf_writer_finish(&w, err);
    o->facts->n_bytes = w.out.at;
    qn_gguf_writer_close(&w);
    return rc;
}

/* ---- .dat ---- */

static qn_code put_u32(qn_outfile *w, uint64_t v, qn_err *err)
{
    uint8_t b[4];
    qn_store32(b, (uint32_t)v);
    return qn_outfile_add(w, b, sizeof b, err);
}

static qn_code dat_group(const struct out *o, qn_outfile *w, const struct group *g, float *v, qn_err *err)
{
    const char *name = o->rows[g->first].name;
    const uint64_t n = (uint64_t)g->n_experts * g->n_columns;
    const uint32_t calls = chunks_of(&o->f->meta);
    uint64_t at = 0, count;
    if (n > INT32_MAX)
        return qn_err_in_tensor(err, QN_FAIL(err, QN_E_UNSUPPORTED, QN_NO_OFFSET, "%llu values: a .dat file counts to 2^31 - 1",
                                             (unsigned long long)n), name);
    QN_TRY(put_u32(w, strlen(name), err));
    QN_TRY(qn_outfile_add(w, name, strlen(name), err));
    QN_TRY(put_u32(w, calls, err));
    QN_TRY(put_u32(w, n, err));
    for (uint32_t e = 0; e < g->n_experts; e++) {
        QN_TRY(expert_values(o, g, e, &at, calls, v, &count, err));
        o->facts->n_unseen += count == 0;
        for (uint32_t i = 0; i < g->n_columns && count == 0; i++)
            v[i] = (float)calls; /* all columns alike: the format has no other way to say "not seen" */
        store_f32s(v, g->n_columns);
        QN_TRY(qn_outfile_add(w, v, 4ull * g->n_columns, err));
    }
    note_group(o, g);
    return QN_OK;
}

static qn_code dat_all(const struct out *o, qn_outfile *w, qn_err *err)
{
    const qn_stats_meta *m = &o->f->meta;
    const char *label = m->n_sources ? m->sources[0].label : "";
    struct group g;
    uint64_t n = 0;
    for (uint64_t at = 0; at < o->n_rows; at += g.n, n++)
        QN_TRY(group_at(o, at, &g, err));
    if (n > INT32_MAX)
        return QN_FAIL(err, QN_E_UNSUPPORTED, QN_NO_OFFSET, "%llu tensors: a .dat file counts to 2^31 - 1", (unsigned long long)n);
    QN_TRY(put_u32(w, n, err));
    for (uint64_t at = 0; at < o->n_rows; at += g.n) {
        QN_TRY(group_at(o, at, &g, err));
        float *v = qn_mem_get(o->env->alloc, 4ull * g.n_columns, err);
        const qn_code rc = v ? dat_group(o, w, &g, v, err) : QN_E_MEMORY;
        qn_mem_put(o->env->alloc, v);
        QN_TRY(rc);
    }
    QN_TRY(put_u32(w, chunks_of(m), err));
    QN_TRY(put_u32(w, strlen(label), err));
    return qn_outfile_add(w, label, strlen(label), err);
}

static qn_code write_dat(const struct out *o, const char *path, bool overwrite, qn_err *err)
{
    qn_outfile w;
    qn_code rc = qn_outfile_open(&w, o->env, path, overwrite, err);
    if (rc == QN_OK)
        rc = dat_all(o, &w, err);
    if (rc == QN_OK)
        rc = qn_outfile_seal(&w, err);
    if (rc == QN_OK)
        rc = qn_outfile_publish(&w, err);
    o->facts->n_bytes = w.at;
    qn_outfile_close(&w);
    return rc;
}

/* ---- */

static bool ends_with(const char *s, const char *end)
{
    const size_t n = strlen(s), k = strlen(end);
    return n > k && strcmp(s + n - k, end) == 0;
}

/* Everything is looked at, nothing written. */
static qn_code try_all(const struct out *o, qn_err *err)
{
    for (uint64_t at = 0; at < o->n_rows;) {
        struct group g;
        QN_TRY(group_at(o, at, &g, err));
        o->facts->n_unseen += g.n_experts - g.n;
        for (uint64_t i = 0; i < g.n; i++) {
            qn_stats_vectors v;
            QN_TRY(qn_stats_vectors_read(o->f, o->rows[at + i].input, &v, err));
            qn_stats_vectors_release(o->f, &v);
            o->facts->n_unseen += o->f->inputs[o->rows[at + i].input].count == 0;
        }
        note_group(o, &g);
        at += g.n;
    }
    return QN_OK;
}

qn_code qn_imatrix_export(const qn_stats_file *f, const char *path, const qn_imatrix_options *opt, qn_imatrix_facts *facts,
                          qn_err *err)
{
    struct out o = {.f = f, .env = f->env, .facts = facts};
    qn_arena ar;
    const bool gguf = ends_with(path, ".gguf");
    *facts = (qn_imatrix_facts){0};
    if (!gguf && !ends_with(path, ".dat"))
        return qn_err_in_path(err, QN_FAIL(err, QN_E_USAGE, QN_NO_OFFSET, "an importance matrix ends with .gguf or .dat"), path);
    qn_arena_init(&ar, f->env->alloc);
    qn_code rc = qn_err_in_path(err, name_rows(&o, opt, &ar, err), f->file.path);
    if (rc == QN_OK)
        rc = opt->dry_run ? try_all(&o, err) : gguf ? write_gguf(&o, path, opt->overwrite, err)
                                                    : write_dat(&o, path, opt->overwrite, err);
    qn_arena_release(&ar);
    return rc;
}
