/* file.c: see file.h. */
#include "analysis/stats/file.h"
#include "base/err.h"
#include "base/half.h"
#include "base/num.h"
#include <float.h>
#include <math.h>
#include <stdlib.h>

enum { BUF_BYTES = 1 << 20 };

struct segment {
    qn_stats_footer foot;
    qn_stats_index ix;
};

static const char *key_of(const void *ctx, uint32_t item)
{
    return ((const qn_stats_file *)ctx)->items[item].key;
}

/* Index of one segment: bytes, digest, padding. */
static qn_code read_index(qn_stats_file *f, struct segment *s, qn_err *err)
{
    bool ovf = false;
    const uint64_t n = qn_align_up(s->foot.index_bytes, QN_STATS_ALIGN, &ovf);
    uint8_t *b = qn_mem_get(f->env->alloc, n, err);
    if (!b)
        return QN_E_MEMORY;
    qn_code rc = qn_file_read(&f->file, b, n, s->foot.index_off, err);
    const qn_digest d = qn_hash128(b, rc == QN_OK ? (size_t)n : 0);
    if (rc == QN_OK && !qn_digest_equal(&d, &s->foot.digest))
        rc = QN_FAIL(err, QN_E_INPUT, s->foot.index_off, "index: checksum does not fit");
    for (uint64_t i = s->foot.index_bytes; rc == QN_OK && i < n; i++)
        if (b[i])
            rc = QN_FAIL(err, QN_E_INPUT, s->foot.index_off + i, "index: padding is not zero");
    if (rc == QN_OK)
        rc = qn_stats_index_parse(&s->ix, &f->arena, b, s->foot.index_bytes, s->foot.index_off, err);
    qn_mem_put(f->env->alloc, b);
    return rc;
}

/* The payloads must fill the segment exactly. */
static qn_code place_inputs(struct segment *s, qn_err *err)
{
    bool ovf = false;
    uint64_t at = s->foot.prev_end;
    for (uint32_t i = 0; i < s->ix.n_inputs; i++) {
        qn_stats_input *in = &s->ix.inputs[i];
        uint64_t n_vectors, n_h;
        in->off = at;
        if (!qn_stats_vectors_bytes(in, &n_vectors) || !qn_stats_h_bytes(in, &n_h))
            ovf = true;
        else
            at = qn_add(at, qn_add(n_vectors, n_h, &ovf), &ovf);
        if (ovf || at > s->foot.index_off)
            return qn_err_in_tensor(err, QN_FAIL(err, QN_E_INPUT, in->off, "payload reaches past byte %llu, where the index "
                                                 "begins", (unsigned long long)s->foot.index_off), in->names[0].name);
    }
    if (at != s->foot.index_off)
        return QN_FAIL(err, QN_E_INPUT, at, "%llu bytes before the index belong to nothing",
                       (unsigned long long)(s->foot.index_off - at));
    return QN_OK;
}

static qn_code check_meta(const struct segment *s, const struct segment *last, qn_err *err)
{
    const qn_stats_meta *m = &s->ix.meta, *l = &last->ix.meta;
    if (!qn_digest_equal(&m->model, &l->model) || !qn_digest_equal(&m->tokenizer, &l->tokenizer) ||
        !qn_digest_equal(&m->settings, &l->settings))
        return QN_FAIL(err, QN_E_INPUT, s->foot.index_off, "index: model, tokenizer or settings are not those of the last one");
    if (s != last && s->ix.complete)
        return QN_FAIL(err, QN_E_INPUT, s->foot.index_off, "index: says complete, and more follows");
    if (s->ix.complete && (s->ix.n_inputs || s->ix.n_costs))
        return QN_FAIL(err, QN_E_INPUT, s->foot.index_off, "index: the one that says complete has inputs or sensitivities");
    return QN_OK;
}

/* Footers from the end to the front; segs[0] is the last. */
static qn_code read_chain(qn_stats_file *f, struct segment **segs, uint64_t *cap, qn_err *err)
{
    for (uint64_t end = f->end; end > QN_STATS_HEADER_BYTES;) {
        uint8_t b[QN_STATS_FOOTER_BYTES];
        struct segment *p = qn_mem_grow(f->env->alloc, *segs, f->n_segments, cap, f->n_segments + 1ull, sizeof *p, err);
        if (!p)
            return QN_E_MEMORY;
        *segs = p;
        p += f->n_segments;
        *p = (struct segment){0};
        if (end % QN_STATS_ALIGN || end < QN_STATS_HEADER_BYTES + QN_STATS_FOOTER_BYTES)
            return QN_FAIL(err, QN_E_INPUT, end, "a file of statistics ends at a multiple of %d, behind a footer", QN_STATS_ALIGN);
        QN_TRY(qn_file_read(&f->file, b, sizeof b, end - sizeof b, err));
        if (!qn_stats_footer_get(b, end, &p->foot))
            return QN_FAIL(err, QN_E_INPUT, end - sizeof b, "no footer here: the file is cut short or damaged");
        f->n_segments++;
        end = p->foot.prev_end;
    }
    if (f->n_segments == 0)
        return QN_FAIL(err, QN_E_INPUT, f->end, "ends after its header");
    for (uint32_t i = 0; i < f->n_segments; i++) {
        QN_TRY(read_index(f, &(*segs)[i], err));
        QN_TRY(check_meta(&(*segs)[i], &(*segs)[0], err));
        QN_TRY(place_inputs(&(*segs)[i], err));
    }
    return QN_OK;
}

static int by_name(const void *a, const void *b)
{
    const qn_stats_item *x = a, *y = b;
    const int r = strcmp(x->name, y->name);
    /* no expert is the largest number: + 1 makes it the least */
    return r ? r : (x->expert + 1u > y->expert + 1u) - (x->expert + 1u < y->expert + 1u);
}

static qn_code list_items(qn_stats_file *f, qn_err *err)
{
    uint64_t n = 0;
    for (uint32_t i = 0; i < f->n_inputs; i++)
        n += f->inputs[i].n_names;
    if (n >= QN_NAMES_NONE)
        return QN_FAIL(err, QN_E_UNSUPPORTED, QN_NO_OFFSET, "%llu names: below 2^32 are allowed", (unsigned long long)n);
    f->items = qn_arena_get(&f->arena, n * sizeof *f->items, 8, err);
    const uint64_t n_slots = qn_names_slots(n);
    qn_name_slot *slots = qn_arena_get(&f->arena, n_slots * sizeof *slots, 8, err);
    if (!f->items || !slots)
        return QN_E_MEMORY;
    for (uint32_t i = 0; i < f->n_inputs; i++)
        for (uint32_t k = 0; k < f->inputs[i].n_names; k++) {
            const char *name = f->inputs[i].names[k].name;
            const char *key = qn_stats_key(&f->arena, name, f->inputs[i].expert, err);
            if (!key)
                return QN_E_MEMORY;
            f->items[f->n_items++] = (qn_stats_item){name, key, f->inputs[i].expert, i, k, NULL};
        }
    if (n > 1)
        qsort(f->items, (size_t)n, sizeof *f->items, by_name);
    memset(slots, 0, (size_t)n_slots * sizeof *slots);
    qn_names_init(&f->names, slots, n_slots);
    for (uint32_t i = 0; i < f->n_items; i++)
        if (qn_names_add(&f->names, f->items[i].key, i, key_of, f) != QN_NAMES_NONE)
            return qn_err_in_tensor(err, QN_FAIL(err, QN_E_INPUT, QN_NO_OFFSET, "two entries have this name"), f->items[i].name);
    return QN_OK;
}

/* Each belongs to an entry, and an entry has one. */
static qn_code give_costs(qn_stats_file *f, const struct segment *s, qn_err *err)
{
    for (uint32_t i = 0; i < s->ix.n_costs; i++) {
        const qn_stats_cost *c = &s->ix.costs[i];
        const char *key = qn_stats_key(&f->arena, c->name, c->expert, err);
        if (!key)
            return QN_E_MEMORY;
        const uint32_t at = qn_names_find(&f->names, key, key_of, f);
        if (at == QN_NAMES_NONE || f->items[at].cost)
            return qn_err_in_tensor(err, QN_FAIL(err, QN_E_INPUT, s->foot.index_off, at == QN_NAMES_NONE ? "a sensitivity without an entry"
                                                 : "two sensitivities of one entry"), c->name);
        f->items[at].cost = c;
        f->n_costs++;
    }
    return QN_OK;
}

static qn_code fill(qn_stats_file *f, struct segment **segs, qn_err *err)
{
    uint8_t head[QN_STATS_HEADER_BYTES];
    uint64_t cap = 0, n = 0;
    if (f->end < sizeof head)
        return QN_FAIL(err, QN_E_INPUT, f->end, "a file of %llu bytes: statistics begin with a header of %zu",
                       (unsigned long long)f->end, sizeof head);
    QN_TRY(qn_file_read(&f->file, head, sizeof head, 0, err));
    QN_TRY(qn_stats_header_check(head, err));
    QN_TRY(read_chain(f, segs, &cap, err));
    for (uint32_t i = 0; i < f->n_segments; i++)
        n += (*segs)[i].ix.n_inputs;
    if (n > UINT32_MAX)
        return QN_FAIL(err, QN_E_UNSUPPORTED, QN_NO_OFFSET, "%llu inputs: below 2^32 are allowed", (unsigned long long)n);
    f->inputs = qn_arena_get(&f->arena, n * sizeof *f->inputs, 8, err);
    if (!f->inputs)
        return QN_E_MEMORY;
    for (uint32_t i = f->n_segments; i > 0; i--) {
        const qn_stats_index *ix = &(*segs)[i - 1].ix;
        if (ix->n_inputs)
            memcpy(f->inputs + f->n_inputs, ix->inputs, ix->n_inputs * sizeof *f->inputs);
        f->n_inputs += ix->n_inputs;
    }
    f->meta = (*segs)[0].ix.meta;
    f->complete = (*segs)[0].ix.complete;
    QN_TRY(list_items(f, err));
    for (uint32_t i = f->n_segments; i > 0; i--)
        QN_TRY(give_costs(f, &(*segs)[i - 1], err));
    return QN_OK;
}

qn_code qn_stats_file_open_at(qn_stats_file *f, const qn_env *env, qn_file *file, uint64_t end, qn_err *err)
{
    struct segment *segs = NULL;
    *f = (qn_stats_file){.env = env, .file = *file, .end = end};
    *file = QN_FILE_CLOSED;
    qn_arena_init(&f->arena, env->alloc);
    const qn_code rc = fill(f, &segs, err);
    qn_mem_put(env->alloc, segs);
    return qn_err_in_path(err, rc, f->file.path);
}

qn_code qn_stats_file_open(qn_stats_file *f, const qn_env *env, const char *path, qn_err *err)
{
    qn_file file = QN_FILE_CLOSED;
    qn_stat st;
    *f = QN_STATS_FILE_CLOSED;
    QN_TRY(qn_file_open(&file, env->fs, env->alloc, path, QN_OPEN_READ, err));
    qn_code rc = qn_file_stat(&file, &st, err);
    if (rc == QN_OK && !st.is_regular)
        rc = qn_err_in_path(err, QN_FAIL(err, QN_E_INPUT, QN_NO_OFFSET, "is no regular file"), path);
    if (rc == QN_OK)
        rc = qn_stats_file_open_at(f, env, &file, st.n_bytes, err);
    qn_file_drop(&file);
    if (rc != QN_OK)
        qn_stats_file_close(f);
    return rc;
}

void qn_stats_file_close(qn_stats_file *f)
{
    if (f->env) {
        qn_file_drop(&f->file);
        qn_arena_release(&f->arena);
    }
    *f = QN_STATS_FILE_CLOSED;
}

const qn_stats_item *qn_stats_find(const qn_stats_file *f, const char *name, uint32_t expert)
{
    qn_arena ar;
    qn_arena_init(&ar, f->env->alloc);
    const char *key = qn_stats_key(&ar, name, expert, NULL);
    const uint32_t i = key ? qn_names_find(&f->names, key, key_of, f) : QN_NAMES_NONE;
    qn_arena_release(&ar);
    return i == QN_NAMES_NONE ? NULL : &f->items[i];
}

bool qn_stats_sensitivity(const qn_stats_file *f, const qn_stats_item *item, double *a)
{
    (void)f;
    if (!item->cost)
        return false;
    *a = item->cost->kl > 0 ? item->cost->kl / item->cost->noise : 0;
    return true;
}

/* ---- vectors ---- */

static qn_code bad_payload(const qn_stats_file *f, const qn_stats_input *in, uint64_t off, const char *what, qn_err *err)
{
    return qn_err_in_tensor(err, qn_err_in_path(err, QN_FAIL(err, QN_E_INPUT, off, "%s", what), f->file.path),
                            in->names[0].name);
}

/* n doubles at p; `least`: none may be below. */
static bool take_f64s(double *dst, const uint8_t **p, uint64_t n, double least)
{
    bool good = true;
    for (uint64_t i = 0; i < n; i++) {
        const uint64_t bits = qn_load64(*p + 8 * i);
        memcpy(&dst[i], &bits, 8);
        good = good && isfinite(dst[i]) && dst[i] >= least;
    }
    *p += 8 * n;
    return good;
}

static bool take_f32s(float *dst, const uint8_t **p, uint64_t n)
{
    bool good = true;
    for (uint64_t i = 0; i < n; i++) {
        dst[i] = qn_bits_f32(qn_load32(*p + 4 * i));
        good = good && isfinite(dst[i]);
    }
    *p += 4 * n;
    return good;
}

static bool take_vectors(const qn_stats_input *in, qn_stats_vectors *v, const uint8_t *p, double *d)
{
    const uint64_t n = in->n;
    bool good = take_f64s(v->sum_sq = d, &p, n, 0);
    d += n;
    if (in->parts & QN_STATS_HAS_SUMS) {
        good = take_f64s(v->sum = d, &p, n, -DBL_MAX) && good;
        good = take_f64s(v->sum_abs = d + n, &p, n, 0) && good;
        d += 2 * n;
    }
    if (in->parts & QN_STATS_HAS_EXTREMES) {
        v->min = (float *)d;
        v->max = v->min + n;
        good = take_f32s(v->min, &p, n) && good;
        good = take_f32s(v->max, &p, n) && good;
        d += n;
    }
    for (uint32_t k = 0; k < in->n_names; k++) {
        const uint64_t m = in->names[k].n_outputs;
        v->outputs[k] = m ? d : NULL;
        if (m)
            good = take_f64s(d, &p, m, 0) && good;
        d += m;
    }
    return good;
}

/* One allocation: pointers, the numbers, then the bytes of the file. */
qn_code qn_stats_vectors_read(const qn_stats_file *f, uint32_t input, qn_stats_vectors *v, qn_err *err)
{
    const qn_stats_input *in = &f->inputs[input];
    uint64_t n_bytes = 0;
    *v = (qn_stats_vectors){0};
    (void)qn_stats_vectors_bytes(in, &n_bytes); /* held when the file was opened */
    const uint64_t n_pointers = (8ull * in->n_names + 63) & ~63ull;
    uint8_t *mem = qn_mem_get(f->env->alloc, n_pointers + 2 * n_bytes, err);
    if (!mem)
        return QN_E_MEMORY;
    v->mem = mem;
    v->outputs = (double **)(void *)mem;
    double *numbers = (double *)(void *)(mem + n_pointers);
    uint8_t *raw = mem + n_pointers + n_bytes;
    qn_code rc = qn_file_read(&f->file, raw, n_bytes, in->off, err);
    if (rc == QN_OK) {
        const qn_digest d = qn_hash128(raw, (size_t)n_bytes);
        if (!qn_digest_equal(&d, &in->vectors_digest))
            rc = bad_payload(f, in, in->off, "vectors: checksum does not fit", err);
        else if (!take_vectors(in, v, raw, numbers))
            rc = bad_payload(f, in, in->off, "vectors: a value is not finite, or a sum of squares negative", err);
    }
    if (rc != QN_OK)
        qn_stats_vectors_release(f, v);
    return rc;
}

void qn_stats_vectors_release(const qn_stats_file *f, qn_stats_vectors *v)
{
    qn_mem_put(f->env->alloc, v->mem);
    *v = (qn_stats_vectors){0};
}

/* ---- H ---- */

/* Bytes of a payload, in order, through a buffer and the hasher. */
struct stream {
    const qn_stats_file *f;
    qn_hasher hash;
    uint8_t *buf;
    uint64_t off, end, at, n; /* next byte and end in the file; next byte and bytes in buf */
};

static qn_code refill(struct stream *s, qn_err *err)
{
    s->n = qn_min_u64(BUF_BYTES, s->end - s->off);
    s->at = 0;
    QN_TRY(qn_env_check(s->f->env, err));
    QN_TRY(qn_file_read(&s->f->file, s->buf, s->n, s->off, err));
    qn_hasher_add(&s->hash, s->buf, (size_t)s->n);
    s->off += s->n;
    return QN_OK;
}

/* BUF_BYTES and payloads are multiples of 4, so no value is cut. */
static qn_code stream_f32s(struct stream *s, float *dst, uint64_t n, bool *good, qn_err *err)
{
    while (n > 0) {
        if (s->at == s->n)
            QN_TRY(refill(s, err));
        const uint64_t some = qn_min_u64(n, (s->n - s->at) / 4);
        const uint8_t *p = s->buf + s->at;
        *good = take_f32s(dst, &p, some) && *good;
        s->at += 4 * some;
        dst += some;
        n -= some;
    }
    return QN_OK;
}

static qn_code walk(struct stream *s, const qn_stats_input *in, float *row,
                    qn_code (*each)(void *ctx, uint32_t i, const float *row, qn_err *err), void *ctx, qn_err *err)
{
    bool good = true;
    const uint64_t off = s->off;
    for (uint32_t i = 0; i < in->n; i++) {
        QN_TRY(stream_f32s(s, row, in->n - i, &good, err));
        good = good && row[0] >= 0;
        QN_TRY(each(ctx, i, row, err));
    }
    while (s->off < s->end) /* padding that the buffer did not reach */
        QN_TRY(refill(s, err));
    const qn_digest d = qn_hasher_digest(&s->hash);
    if (!qn_digest_equal(&d, &in->h_digest))
        return bad_payload(s->f, in, off, "H: checksum does not fit", err);
    return good ? QN_OK : bad_payload(s->f, in, off, "H: a value is not finite, or one of the diagonal negative", err);
}

qn_code qn_stats_h_walk(const qn_stats_file *f, uint32_t input,
                        qn_code (*each)(void *ctx, uint32_t i, const float *row, qn_err *err), void *ctx, qn_err *err)
{
    const qn_stats_input *in = &f->inputs[input];
    uint64_t n_vectors = 0, n_h = 0;
    struct stream s = {.f = f};
    if (!(in->parts & QN_STATS_HAS_H))
        return qn_err_in_tensor(err, qn_err_in_path(err, QN_FAIL(err, QN_E_UNSUPPORTED, QN_NO_OFFSET,
                                                                 "only the diagonal of H was measured"), f->file.path),
                                in->names[0].name);
    (void)qn_stats_vectors_bytes(in, &n_vectors);
    (void)qn_stats_h_bytes(in, &n_h);
    s.off = in->off + n_vectors;
    s.end = s.off + n_h;
    QN_TRY(qn_hasher_open(&s.hash, err));
    s.buf = qn_mem_get(f->env->alloc, BUF_BYTES, err);
    float *row = qn_mem_get(f->env->alloc, 4ull * in->n, err);
    const qn_code rc = s.buf && row ? walk(&s, in, row, each, ctx, err) : QN_E_MEMORY;
    qn_hasher_close(&s.hash);
    qn_mem_put(f->env->alloc, s.buf);
    qn_mem_put(f->env->alloc, row);
    return rc;
}

struct matrix {
    double *d;
    float *f;
    uint64_t ld, n;
};

static qn_code put_f64(void *ctx, uint32_t i, const float *row, qn_err *err)
{
    const struct matrix *m = ctx;
    (void)err;
    for (uint64_t j = i; j < m->n; j++)
        m->d[i * m->ld + j] = m->d[j * m->ld + i] = (double)row[j - i];
    return QN_OK;
}

static qn_code put_f32(void *ctx, uint32_t i, const float *row, qn_err *err)
{
    const struct matrix *m = ctx;
    (void)err;
    for (uint64_t j = i; j < m->n; j++)
        m->f[i * m->ld + j] = m->f[j * m->ld + i] = row[j - i];
    return QN_OK;
}

qn_code qn_stats_h_read_f64(const qn_stats_file *f, uint32_t input, double *h, uint64_t ld, qn_err *err)
{
    struct matrix m = {.d = h, .ld = ld, .n = f->inputs[input].n};
    return qn_stats_h_walk(f, input, put_f64, &m, err);
}

qn_code qn_stats_h_read_f32(const qn_stats_file *f, uint32_t input, float *h, uint64_t ld, qn_err *err)
{
    struct matrix m = {.f = h, .ld = ld, .n = f->inputs[input].n};
    return qn_stats_h_walk(f, input, put_f32, &m, err);
}

static qn_code ignore_row(void *ctx, uint32_t i, const float *row, qn_err *err)
{
    (void)ctx;
    (void)i;
    (void)row;
    (void)err;
    return QN_OK;
}

qn_code qn_stats_check(const qn_stats_file *f, qn_err *err)
{
    for (uint32_t i = 0; i < f->n_inputs; i++) {
        qn_stats_vectors v;
        QN_TRY(qn_stats_vectors_read(f, i, &v, err));
        qn_stats_vectors_release(f, &v);
        if (f->inputs[i].parts & QN_STATS_HAS_H)
            QN_TRY(qn_stats_h_walk(f, i, ignore_row, NULL, err));
    }
    return QN_OK;
}

bool qn_stats_is_starved(const qn_stats_file *f, const qn_stats_item *item, uint64_t rows)
{
    const char *at = strstr(item->name, ".experts.");
    const bool expert = item->expert != QN_STATS_NO_EXPERT || (at && at[9] >= '0' && at[9] <= '9');
    return expert && f->inputs[item->input].count < rows;
}
