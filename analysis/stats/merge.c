/* merge.c: see merge.h. */
#include "analysis/stats/merge.h"
#include "base/err.h"
#include "base/num.h"
#include <math.h>
#include <stdlib.h>

struct part {
    const qn_stats_file *f;
    qn_digest key; /* decides the order */
};

static int by_key(const void *a, const void *b)
{
    const struct part *x = a, *y = b;
    return memcmp(x->key.b, y->key.b, sizeof x->key.b);
}

/* From what is in the file: data, and digests of all payloads. Files of equal keys have equal content. */
static qn_code key_of(struct part *p, qn_err *err)
{
    qn_hasher h;
    QN_TRY(qn_hasher_open(&h, err));
    const qn_stats_meta *m = &p->f->meta;
    for (uint32_t i = 0; i < m->n_sources; i++) {
        qn_hasher_add(&h, m->sources[i].digest.b, 16);
        qn_hasher_add(&h, m->sources[i].label, strlen(m->sources[i].label) + 1);
    }
    for (uint32_t i = 0; i < p->f->n_items; i++) {
        const qn_stats_input *in = &p->f->inputs[p->f->items[i].input];
        qn_hasher_add(&h, p->f->items[i].key, strlen(p->f->items[i].key) + 1);
        qn_hasher_add(&h, in->vectors_digest.b, 16);
        qn_hasher_add(&h, in->h_digest.b, 16);
    }
    p->key = qn_hasher_digest(&h);
    qn_hasher_close(&h);
    return QN_OK;
}

static qn_code refuse(const qn_stats_file *f, const char *tensor, qn_err *err, const char *what)
{
    return qn_err_in_path(err, qn_err_in_tensor(err, QN_FAIL(err, QN_E_INPUT, QN_NO_OFFSET, "%s", what), tensor), f->file.path);
}

static qn_code check_files(const struct part *p, uint32_t n, qn_err *err)
{
    for (uint32_t i = 0; i < n; i++) {
        if (!p[i].f->complete)
            return refuse(p[i].f, NULL, err, "is of a run that has not ended: finish that run first");
        if (!qn_digest_equal(&p[i].f->meta.model, &p[0].f->meta.model))
            return refuse(p[i].f, NULL, err, "was measured on another model than the others");
        if (!qn_digest_equal(&p[i].f->meta.tokenizer, &p[0].f->meta.tokenizer))
            return refuse(p[i].f, NULL, err, "was measured with another tokenizer than the others");
        if (i > 0 && memcmp(&p[i].key, &p[i - 1].key, sizeof p[i].key) == 0)
            return refuse(p[i].f, NULL, err, "holds the same as another of the files: its data would count twice");
    }
    return QN_OK;
}

static int by_source(const void *a, const void *b)
{
    const qn_stats_source *x = a, *y = b;
    const int r = memcmp(x->digest.b, y->digest.b, sizeof x->digest.b);
    return r ? r : strcmp(x->label, y->label);
}

/* meta of the whole. Properties stay where all files agree. */
static qn_code join_meta(const struct part *p, uint32_t n, qn_arena *ar, qn_stats_meta *m, qn_err *err)
{
    static const qn_digest none;
    uint64_t n_sources = 0;
    bool ovf = false;
    *m = p[0].f->meta;
    m->tokens = m->sequences = 0;
    for (uint32_t i = 0; i < n; i++) {
        const qn_stats_meta *o = &p[i].f->meta;
        m->tokens = qn_add(m->tokens, o->tokens, &ovf);
        m->sequences = qn_add(m->sequences, o->sequences, &ovf);
        m->context = o->context > m->context ? o->context : m->context;
        n_sources = qn_add(n_sources, o->n_sources, &ovf);
        if (!qn_digest_equal(&m->settings, &o->settings))
            m->settings = none;
    }
    if (ovf || n_sources > UINT32_MAX)
        return QN_FAIL(err, QN_E_INPUT, QN_NO_OFFSET, "token counts of the files overflow");
    qn_stats_source *s = qn_arena_get(ar, n_sources * sizeof *s, 8, err);
    qn_stats_prop *v = qn_arena_get(ar, p[0].f->meta.n_props * sizeof *v, 8, err);
    if (!s || !v)
        return QN_E_MEMORY;
    m->n_sources = m->n_props = 0;
    for (uint32_t i = 0; i < n; i++)
        for (uint32_t k = 0; k < p[i].f->meta.n_sources; k++)
            s[m->n_sources++] = p[i].f->meta.sources[k];
    if (m->n_sources > 1)
        qsort(s, m->n_sources, sizeof *s, by_source);
    for (uint32_t k = 1; k < m->n_sources; k++)
        if (!qn_digest_equal(&s[k].digest, &none) && qn_digest_equal(&s[k].digest, &s[k - 1].digest))
            return QN_FAIL(err, QN_E_INPUT, QN_NO_OFFSET, "'%.100s' is in two of the files: its data would count twice",
                           s[k].label);
    for (uint32_t k = 0; k < p[0].f->meta.n_props; k++) {
        bool all = true;
        for (uint32_t i = 1; i < n && all; i++) {
            const qn_stats_meta *o = &p[i].f->meta;
            all = false;
            for (uint32_t j = 0; j < o->n_props; j++)
                all = all || (strcmp(o->props[j].key, p[0].f->meta.props[k].key) == 0 &&
                              strcmp(o->props[j].value, p[0].f->meta.props[k].value) == 0);
        }
        if (all)
            v[m->n_props++] = p[0].f->meta.props[k];
    }
    m->sources = s;
    m->props = v;
    return QN_OK;
}

/* The input of each file that has the first name of `like`; UINT32_MAX where there is none. */
static qn_code match(const struct part *p, uint32_t n, const qn_stats_input *like, uint32_t *at, qn_err *err)
{
    for (uint32_t i = 0; i < n; i++) {
        const qn_stats_item *item = qn_stats_find(p[i].f, like->names[0].name, like->expert);
        at[i] = item ? item->input : UINT32_MAX;
        if (!item)
            continue;
        const qn_stats_input *in = &p[i].f->inputs[item->input];
        if (in->n != like->n)
            return refuse(p[i].f, like->names[0].name, err, "has another number of columns than in the other files");
        if (in->parts != like->parts)
            return refuse(p[i].f, like->names[0].name, err,
                          "was measured in another way (H, diagonal, extremes) than in the other files");
        bool same = in->n_names == like->n_names;
        for (uint32_t k = 0; k < like->n_names && same; k++)
            same = strcmp(in->names[k].name, like->names[k].name) == 0 && in->names[k].n_outputs == like->names[k].n_outputs;
        if (!same)
            return refuse(p[i].f, like->names[0].name, err, "shares its input with other tensors than in the other files");
    }
    return QN_OK;
}

struct sum {
    const struct part *p;
    const uint32_t *at;
    uint32_t n_files;
    double *h; /* the triangle, rows one after another */
    uint64_t n;
};

static uint64_t row_at(uint64_t n, uint64_t i)
{
    return i * n - (i % 2 ? (i - 1) / 2 * i : i / 2 * (i - (i > 0)));
}

static qn_code add_row(void *ctx, uint32_t i, const float *row, qn_err *err)
{
    const struct sum *s = ctx;
    double *to = s->h + row_at(s->n, i);
    (void)err;
    for (uint64_t j = 0; j < s->n - i; j++)
        to[j] += (double)row[j];
    return QN_OK;
}

static qn_code give_row(void *ctx, uint32_t i, float *dst, qn_err *err)
{
    const struct sum *s = ctx;
    const double *from = s->h + row_at(s->n, i);
    (void)err;
    for (uint64_t j = 0; j < s->n - i; j++)
        dst[j] = (float)from[j];
    return QN_OK;
}

static void add_f64s(double *to, const double *from, uint64_t n)
{
    for (uint64_t i = 0; i < n && from; i++)
        to[i] += from[i];
}

/* v of the first file becomes the sum. An input that saw nothing has no extremes. */
static void add_vectors(qn_stats_vectors *v, const qn_stats_input *in, const qn_stats_vectors *o, uint64_t count, uint64_t more)
{
    add_f64s(v->sum_sq, o->sum_sq, in->n);
    add_f64s(v->sum, o->sum, in->n);
    add_f64s(v->sum_abs, o->sum_abs, in->n);
    for (uint32_t k = 0; k < in->n_names; k++)
        add_f64s(v->outputs[k], o->outputs[k], in->names[k].n_outputs);
    for (uint32_t c = 0; v->min && more && c < in->n; c++) {
        v->min[c] = count == 0 || o->min[c] < v->min[c] ? o->min[c] : v->min[c];
        v->max[c] = count == 0 || o->max[c] > v->max[c] ? o->max[c] : v->max[c];
    }
}

static qn_code sum_files(struct sum *s, qn_stats_input *in, qn_stats_vectors *v, uint32_t first, qn_err *err)
{
    bool ovf = false;
    for (uint32_t i = 0; i < s->n_files; i++) {
        if (s->at[i] == UINT32_MAX)
            continue;
        const qn_stats_file *f = s->p[i].f;
        const uint64_t more = f->inputs[s->at[i]].count;
        if (i != first) {
            qn_stats_vectors o;
            QN_TRY(qn_stats_vectors_read(f, s->at[i], &o, err));
            add_vectors(v, in, &o, in->count, more);
            qn_stats_vectors_release(f, &o);
        }
        if (in->parts & QN_STATS_HAS_H)
            QN_TRY(qn_stats_h_walk(f, s->at[i], add_row, s, err));
        in->count = qn_add(in->count, more, &ovf);
        if (ovf)
            return refuse(f, in->names[0].name, err, "row counts of the files overflow");
    }
    return QN_OK;
}

/* One input, w NULL: only read. */
static qn_code merge_input(const qn_env *env, qn_stats_writer *w, struct sum *s, const qn_stats_input *like, uint32_t first,
                           qn_err *err)
{
    qn_stats_input in = *like;
    qn_stats_vectors v;
    in.count = 0;
    s->n = in.n;
    s->h = NULL;
    QN_TRY(qn_env_check(env, err));
    if (in.parts & QN_STATS_HAS_H) {
        s->h = qn_mem_zeros(env->alloc, row_at(in.n, in.n), sizeof *s->h, err);
        if (!s->h)
            return QN_E_MEMORY;
    }
    qn_code rc = qn_stats_vectors_read(s->p[first].f, s->at[first], &v, err);
    if (rc == QN_OK) {
        rc = sum_files(s, &in, &v, first, err);
        const qn_stats_data d = {.sum_sq = v.sum_sq, .sum = v.sum, .sum_abs = v.sum_abs, .min = v.min, .max = v.max,
                                 .outputs = (const double *const *)v.outputs, .h_row = give_row, .ctx = s};
        if (rc == QN_OK && w)
            rc = qn_stats_writer_add(w, &in, &d, err);
        qn_stats_vectors_release(s->p[first].f, &v);
    }
    qn_mem_put(env->alloc, s->h);
    return rc;
}

/* Inputs by the name that sorts first, files in their order: nothing depends on how the files were named. */
static qn_code merge_all(const qn_env *env, qn_stats_writer *w, const struct part *p, uint32_t n, uint32_t *at, qn_err *err)
{
    struct sum s = {.p = p, .at = at, .n_files = n};
    for (uint32_t i = 0; i < n; i++) {
        for (uint32_t k = 0; k < p[i].f->n_items; k++) {
            const qn_stats_input *like = &p[i].f->inputs[p[i].f->items[k].input];
            if (p[i].f->items[k].at != 0)
                continue; /* done, or to be done, by its first name */
            QN_TRY(match(p, n, like, at, err));
            uint32_t first = 0;
            while (at[first] == UINT32_MAX)
                first++;
            if (first == i)
                QN_TRY(merge_input(env, w, &s, like, first, err));
        }
    }
    return QN_OK;
}

/* Of one entry over all files: the mean over tokens. */
static bool join_costs(const struct part *p, uint32_t n, const qn_stats_item *like, qn_stats_cost *c)
{
    double sum = 0, tokens = 0;
    uint32_t n_found = 0;
    for (uint32_t i = 0; i < n; i++) {
        const qn_stats_item *it = qn_stats_find(p[i].f, like->name, like->expert);
        if (!it || !it->cost)
            continue;
        if (n_found++ == 0)
            *c = *it->cost;
        else
            c->tokens += it->cost->tokens;
        sum += it->cost->kl / it->cost->noise * (double)it->cost->tokens;
        tokens += (double)it->cost->tokens;
    }
    if (n_found > 1)
        c->kl = sum / tokens * c->noise;
    return n_found > 0;
}

static qn_code merge_costs(qn_stats_writer *w, const struct part *p, uint32_t n, qn_err *err)
{
    for (uint32_t i = 0; i < n; i++)
        for (uint32_t k = 0; k < p[i].f->n_items; k++) {
            const qn_stats_item *it = &p[i].f->items[k];
            qn_stats_cost c;
            bool before = false;
            for (uint32_t j = 0; j < i && !before; j++)
                before = qn_stats_find(p[j].f, it->name, it->expert) != NULL;
            if (!before && join_costs(p, n, it, &c))
                QN_TRY(qn_stats_writer_add_cost(w, &c, err));
        }
    return QN_OK;
}

qn_code qn_stats_copy(const qn_env *env, const qn_stats_file *f, qn_stats_writer *w, qn_err *err)
{
    const struct part p = {.f = f};
    uint32_t at;
    return merge_all(env, w, &p, 1, &at, err);
}

static qn_code merge(const qn_env *env, const char *path, struct part *p, uint32_t n, uint32_t *at, bool overwrite,
                     bool dry_run, qn_err *err)
{
    qn_stats_meta meta;
    qn_arena ar;
    qn_stats_writer *w = NULL;
    for (uint32_t i = 0; i < n; i++)
        QN_TRY(key_of(&p[i], err));
    qsort(p, n, sizeof *p, by_key);
    QN_TRY(check_files(p, n, err));
    qn_arena_init(&ar, env->alloc);
    qn_code rc = join_meta(p, n, &ar, &meta, err);
    const qn_stats_write_options opt = {.overwrite = overwrite};
    if (rc == QN_OK && !dry_run)
        rc = qn_stats_writer_open(&w, env, path, &meta, &opt, err);
    if (rc == QN_OK)
        rc = merge_all(env, w, p, n, at, err);
    if (rc == QN_OK && w)
        rc = merge_costs(w, p, n, err);
    if (rc == QN_OK && w)
        rc = qn_stats_writer_finish(w, NULL, err);
    qn_stats_writer_close(w);
    qn_arena_release(&ar);
    return rc;
}

qn_code qn_stats_merge(const qn_env *env, const char *path, qn_stats_file *const *files, uint32_t n, bool overwrite,
                       bool dry_run, qn_err *err)
{
    if (n == 0)
        return QN_BUG(err, "nothing to merge");
    struct part *p = qn_mem_zeros(env->alloc, n, sizeof *p, err);
    uint32_t *at = qn_mem_zeros(env->alloc, n, sizeof *at, err);
    qn_code rc = QN_E_MEMORY;
    if (p && at) {
        for (uint32_t i = 0; i < n; i++)
            p[i].f = files[i];
        rc = merge(env, path, p, n, at, overwrite, dry_run, err);
    }
    qn_mem_put(env->alloc, at);
    qn_mem_put(env->alloc, p);
    return rc;
}
