/* index.c: header, index and footer of .qstats files; see format.h. All numbers little-endian; a string is a u32 length and
 * that many bytes. */
#include "analysis/stats/format.h"
#include "base/err.h"
#include "base/num.h"
#include "base/path.h"
#include <math.h>
#include <stdio.h>

enum {
    STRING_BYTES_MIN = 4,
    SOURCE_BYTES_MIN = 16 + 8 + STRING_BYTES_MIN,
    PROP_BYTES_MIN = 2 * STRING_BYTES_MIN,
    NAME_BYTES_MIN = STRING_BYTES_MIN + 1 + 4,
    INPUT_BYTES_MIN = 4 + 4 + 4 + 4 + 8 + 16 + 16 + NAME_BYTES_MIN,
    COST_BYTES = STRING_BYTES_MIN + 1 + 4 + 8 + 8 + 8,
    FLAG_COMPLETE = 1,
    FLAG_COSTS = 2
};

static bool padded(uint64_t n, uint64_t *out)
{
    bool ovf = false;
    *out = qn_align_up(n, QN_STATS_ALIGN, &ovf);
    return !ovf;
}

bool qn_stats_vectors_bytes(const qn_stats_input *in, uint64_t *n_bytes)
{
    uint64_t n = 8ull * in->n; /* n < 2^32, and so is each n_outputs and their number: sums stay far below 2^64 */
    if (in->parts & QN_STATS_HAS_SUMS)
        n += 16ull * in->n;
    if (in->parts & QN_STATS_HAS_EXTREMES)
        n += 8ull * in->n;
    for (uint32_t i = 0; i < in->n_names; i++)
        n += 8ull * in->names[i].n_outputs;
    return padded(n, n_bytes);
}

bool qn_stats_h_bytes(const qn_stats_input *in, uint64_t *n_bytes)
{
    const uint64_t n = in->n;
    *n_bytes = 0;
    return !(in->parts & QN_STATS_HAS_H) || padded(n % 2 ? (n + 1) / 2 * n * 4 : n / 2 * (n + 1) * 4, n_bytes);
}

char *qn_stats_key(qn_arena *arena, const char *name, uint32_t expert, qn_err *err)
{
    char tail[16] = "";
    const size_t n = strlen(name);
    if (expert != QN_STATS_NO_EXPERT) /* \xff: in no name, which is UTF-8 */
        (void)snprintf(tail, sizeof tail, "\xff%lu", (unsigned long)expert);
    char *key = qn_arena_get(arena, n + strlen(tail) + 1, 1, err);
    if (key) {
        memcpy(key, name, n);
        memcpy(key + n, tail, strlen(tail) + 1);
    }
    return key;
}

void qn_stats_header_put(uint8_t b[QN_STATS_HEADER_BYTES])
{
    memset(b, 0, QN_STATS_HEADER_BYTES);
    memcpy(b, QN_STATS_MAGIC, 8);
    qn_store16(b + 8, QN_STATS_MAJOR);
    qn_store16(b + 10, QN_STATS_MINOR);
    qn_store64(b + 56, qn_hash64(b, 56));
}

qn_code qn_stats_header_check(const uint8_t b[QN_STATS_HEADER_BYTES], qn_err *err)
{
    if (memcmp(b, QN_STATS_MAGIC, 8) != 0)
        return QN_FAIL(err, QN_E_INPUT, 0, "not a statistics file: begins with %02x %02x %02x %02x", b[0], b[1], b[2], b[3]);
    if (qn_load64(b + 56) != qn_hash64(b, 56))
        return QN_FAIL(err, QN_E_INPUT, 0, "header: checksum does not fit");
    if (qn_load16(b + 8) != QN_STATS_MAJOR)
        return QN_FAIL(err, QN_E_UNSUPPORTED, 8, "version %u.%u of the statistics format: %d is read", qn_load16(b + 8),
                       qn_load16(b + 10), QN_STATS_MAJOR);
    return QN_OK;
}

void qn_stats_footer_put(uint8_t b[QN_STATS_FOOTER_BYTES], const qn_stats_footer *f)
{
    memcpy(b, QN_STATS_FOOTER, 8);
    qn_store64(b + 8, f->index_off);
    qn_store64(b + 16, f->index_bytes);
    qn_store64(b + 24, f->prev_end);
    qn_store64(b + 32, f->end);
    memcpy(b + 40, f->digest.b, sizeof f->digest.b);
    qn_store64(b + 56, qn_hash64(b, 56));
}

bool qn_stats_footer_get(const uint8_t b[QN_STATS_FOOTER_BYTES], uint64_t end, qn_stats_footer *f)
{
    uint64_t stored;
    if (memcmp(b, QN_STATS_FOOTER, 8) != 0 || qn_load64(b + 56) != qn_hash64(b, 56))
        return false;
    *f = (qn_stats_footer){.index_off = qn_load64(b + 8), .index_bytes = qn_load64(b + 16), .prev_end = qn_load64(b + 24),
                           .end = qn_load64(b + 32)};
    memcpy(f->digest.b, b + 40, sizeof f->digest.b);
    return f->end == end && f->index_bytes <= QN_STATS_INDEX_MAX && f->prev_end >= QN_STATS_HEADER_BYTES &&
           f->prev_end % QN_STATS_ALIGN == 0 && f->index_off % QN_STATS_ALIGN == 0 && f->index_off >= f->prev_end &&
           f->index_off <= end && padded(f->index_bytes, &stored) &&
           stored + QN_STATS_FOOTER_BYTES == end - f->index_off;
}

/* Bytes in the making: a first pass counts them, a second writes. */
struct put {
    uint8_t *p; /* NULL: count */
    uint64_t n;
};

static void put_bytes(struct put *w, const void *src, uint64_t n)
{
    if (w->p && n)
        memcpy(w->p + w->n, src, (size_t)n);
    w->n += n;
}

static void put_u32(struct put *w, uint32_t v)
{
    uint8_t b[4];
    qn_store32(b, v);
    put_bytes(w, b, sizeof b);
}

static void put_u64(struct put *w, uint64_t v)
{
    uint8_t b[8];
    qn_store64(b, v);
    put_bytes(w, b, sizeof b);
}

static void put_string(struct put *w, const char *s)
{
    const size_t n = strlen(s);
    put_u32(w, (uint32_t)n);
    put_bytes(w, s, n);
}

static void put_meta(struct put *w, const qn_stats_index *ix)
{
    const qn_stats_meta *m = &ix->meta;
    put_bytes(w, m->model.b, 16);
    put_bytes(w, m->tokenizer.b, 16);
    put_bytes(w, m->settings.b, 16);
    put_u64(w, m->tokens);
    put_u64(w, m->sequences);
    put_u32(w, m->context);
    put_u32(w, (ix->complete ? FLAG_COMPLETE : 0u) | (ix->n_costs ? FLAG_COSTS : 0u));
    put_u32(w, m->n_sources);
    for (uint32_t i = 0; i < m->n_sources; i++) {
        put_bytes(w, m->sources[i].digest.b, 16);
        put_u64(w, m->sources[i].tokens);
        put_string(w, m->sources[i].label);
    }
    put_u32(w, m->n_props);
    for (uint32_t i = 0; i < m->n_props; i++) {
        put_string(w, m->props[i].key);
        put_string(w, m->props[i].value);
    }
}

static void put_f64(struct put *w, double v)
{
    uint64_t bits;
    memcpy(&bits, &v, 8);
    put_u64(w, bits);
}

static void put_costs(struct put *w, const qn_stats_index *ix)
{
    put_u32(w, ix->n_costs);
    for (uint32_t i = 0; i < ix->n_costs; i++) {
        put_string(w, ix->costs[i].name);
        put_u32(w, ix->costs[i].expert);
        put_u64(w, ix->costs[i].tokens);
        put_f64(w, ix->costs[i].noise);
        put_f64(w, ix->costs[i].kl);
    }
}

static void put_index(struct put *w, const qn_stats_index *ix)
{
    put_meta(w, ix);
    put_u32(w, ix->n_inputs);
    for (uint32_t i = 0; i < ix->n_inputs; i++) {
        const qn_stats_input *in = &ix->inputs[i];
        put_u32(w, in->n);
        put_u32(w, in->parts);
        put_u32(w, in->expert);
        put_u32(w, in->n_names);
        put_u64(w, in->count);
        put_bytes(w, in->vectors_digest.b, 16);
        put_bytes(w, in->h_digest.b, 16);
        for (uint32_t k = 0; k < in->n_names; k++) {
            put_string(w, in->names[k].name);
            put_u32(w, in->names[k].n_outputs);
        }
    }
    if (ix->n_costs)
        put_costs(w, ix);
}

qn_code qn_stats_index_write(const qn_stats_index *ix, const qn_alloc *alloc, uint8_t **out, uint64_t *n_bytes, qn_err *err)
{
    struct put w = {0};
    put_index(&w, ix);
    *n_bytes = w.n;
    if (w.n > QN_STATS_INDEX_MAX)
        return QN_FAIL(err, QN_E_UNSUPPORTED, QN_NO_OFFSET, "an index of %llu bytes: at most 2^30 are allowed",
                       (unsigned long long)w.n);
    w = (struct put){.p = qn_mem_get(alloc, w.n, err)};
    if (!w.p)
        return QN_E_MEMORY;
    put_index(&w, ix);
    *out = w.p;
    return QN_OK;
}

struct parse {
    qn_stats_index *ix;
    qn_arena *arena;
    qn_cur cur;
    uint64_t off; /* of the index in the file */
    bool has_costs;
    qn_err *err;
};

#define BAD(p, ...) QN_FAIL((p)->err, QN_E_INPUT, (p)->off + (p)->cur.at, "index: " __VA_ARGS__)

static qn_code take_digest(struct parse *p, qn_digest *d)
{
    const uint8_t *b = qn_cur_take(&p->cur, sizeof d->b);
    if (!b)
        return BAD(p, "ends early");
    memcpy(d->b, b, sizeof d->b);
    return QN_OK;
}

static qn_code take_string(struct parse *p, const char *what, bool may_be_empty, const char **out)
{
    const uint32_t n = qn_cur_u32(&p->cur);
    if (p->cur.failed || n > QN_STATS_NAME_MAX || n > qn_cur_left(&p->cur) || (n == 0 && !may_be_empty))
        return BAD(p, "%s of %lu bytes: %d to %d are allowed, %zu are left", what, (unsigned long)n, may_be_empty ? 0 : 1,
                   QN_STATS_NAME_MAX, qn_cur_left(&p->cur));
    const char *s = (const char *)qn_cur_take(&p->cur, n);
    if (!qn_utf8_is_valid(s, n) || memchr(s, 0, n))
        return BAD(p, "%s is not UTF-8 or has a NUL inside", what);
    *out = qn_arena_str(p->arena, s, n, p->err);
    return *out ? QN_OK : QN_E_MEMORY;
}

static qn_code take_count(struct parse *p, size_t least_bytes, const char *what, uint32_t *n)
{
    *n = qn_cur_u32(&p->cur);
    if (p->cur.failed || *n > qn_cur_left(&p->cur) / least_bytes)
        return BAD(p, "%lu %s: there is room for %zu", (unsigned long)*n, what, qn_cur_left(&p->cur) / least_bytes);
    return QN_OK;
}

static qn_code take_sources(struct parse *p, qn_stats_meta *m)
{
    QN_TRY(take_count(p, SOURCE_BYTES_MIN, "data sources", &m->n_sources));
    qn_stats_source *s = qn_arena_get(p->arena, m->n_sources * sizeof *s, 8, p->err);
    if (!s)
        return QN_E_MEMORY;
    for (uint32_t i = 0; i < m->n_sources; i++) {
        QN_TRY(take_digest(p, &s[i].digest));
        s[i].tokens = qn_cur_u64(&p->cur);
        QN_TRY(take_string(p, "label", true, &s[i].label));
    }
    m->sources = s;
    return QN_OK;
}

static qn_code take_props(struct parse *p, qn_stats_meta *m)
{
    QN_TRY(take_count(p, PROP_BYTES_MIN, "properties", &m->n_props));
    qn_stats_prop *v = qn_arena_get(p->arena, m->n_props * sizeof *v, 8, p->err);
    if (!v)
        return QN_E_MEMORY;
    for (uint32_t i = 0; i < m->n_props; i++) {
        QN_TRY(take_string(p, "key", false, &v[i].key));
        QN_TRY(take_string(p, "value", true, &v[i].value));
        if (i > 0 && strcmp(v[i - 1].key, v[i].key) >= 0)
            return BAD(p, "keys are not in ascending order");
    }
    m->props = v;
    return QN_OK;
}

static qn_code take_meta(struct parse *p)
{
    qn_stats_meta *m = &p->ix->meta;
    QN_TRY(take_digest(p, &m->model));
    QN_TRY(take_digest(p, &m->tokenizer));
    QN_TRY(take_digest(p, &m->settings));
    m->tokens = qn_cur_u64(&p->cur);
    m->sequences = qn_cur_u64(&p->cur);
    m->context = qn_cur_u32(&p->cur);
    const uint32_t flags = qn_cur_u32(&p->cur);
    if (p->cur.failed || flags > (FLAG_COMPLETE | FLAG_COSTS))
        return BAD(p, "flags 0x%lx: 0 to 3 are allowed", (unsigned long)flags);
    p->ix->complete = flags & FLAG_COMPLETE;
    p->has_costs = flags & FLAG_COSTS;
    QN_TRY(take_sources(p, m));
    return take_props(p, m);
}

static qn_code take_input(struct parse *p, qn_stats_input *in)
{
    static const qn_digest none;
    in->n = qn_cur_u32(&p->cur);
    in->parts = qn_cur_u32(&p->cur);
    in->expert = qn_cur_u32(&p->cur);
    const uint32_t n_names = qn_cur_u32(&p->cur);
    in->count = qn_cur_u64(&p->cur);
    if (p->cur.failed || in->n == 0 || in->n > QN_STATS_COLUMNS_MAX)
        return BAD(p, "input of %lu columns: 1 to 2^24 are allowed", (unsigned long)in->n);
    if (in->parts > (QN_STATS_HAS_H | QN_STATS_HAS_SUMS | QN_STATS_HAS_EXTREMES))
        return BAD(p, "parts 0x%lx: 0 to 7 are allowed", (unsigned long)in->parts);
    if (in->expert != QN_STATS_NO_EXPERT && in->expert > QN_STATS_EXPERT_MAX)
        return BAD(p, "expert %lu: below 2^24 are allowed", (unsigned long)in->expert);
    QN_TRY(take_digest(p, &in->vectors_digest));
    QN_TRY(take_digest(p, &in->h_digest));
    if (!(in->parts & QN_STATS_HAS_H) && !qn_digest_equal(&in->h_digest, &none))
        return BAD(p, "a digest of H where there is none");
    if (n_names == 0 || n_names > qn_cur_left(&p->cur) / NAME_BYTES_MIN)
        return BAD(p, "%lu names: 1 to %zu are allowed", (unsigned long)n_names, qn_cur_left(&p->cur) / NAME_BYTES_MIN);
    qn_stats_name *names = qn_arena_get(p->arena, n_names * sizeof *names, 8, p->err);
    if (!names)
        return QN_E_MEMORY;
    in->names = names;
    for (; in->n_names < n_names; in->n_names++) {
        QN_TRY(take_string(p, "tensor name", false, &names[in->n_names].name));
        names[in->n_names].n_outputs = qn_cur_u32(&p->cur);
        if (p->cur.failed || names[in->n_names].n_outputs > QN_STATS_COLUMNS_MAX)
            return BAD(p, "%lu outputs: up to 2^24 are allowed", (unsigned long)names[in->n_names].n_outputs);
    }
    return QN_OK;
}

static double take_f64(struct parse *p)
{
    const uint64_t bits = qn_cur_u64(&p->cur);
    double v;
    memcpy(&v, &bits, 8);
    return v;
}

static qn_code take_costs(struct parse *p)
{
    qn_stats_index *ix = p->ix;
    uint32_t n;
    QN_TRY(take_count(p, COST_BYTES, "sensitivities", &n));
    if (n == 0)
        return BAD(p, "no sensitivities where its flags say that there are some");
    ix->costs = qn_arena_get(p->arena, n * sizeof *ix->costs, 8, p->err);
    if (!ix->costs)
        return QN_E_MEMORY;
    for (; ix->n_costs < n; ix->n_costs++) {
        qn_stats_cost *c = &ix->costs[ix->n_costs];
        QN_TRY(take_string(p, "tensor name", false, &c->name));
        c->expert = qn_cur_u32(&p->cur);
        c->tokens = qn_cur_u64(&p->cur);
        c->noise = take_f64(p);
        c->kl = take_f64(p);
        if (p->cur.failed || (c->expert != QN_STATS_NO_EXPERT && c->expert > QN_STATS_EXPERT_MAX))
            return BAD(p, "expert %lu: below 2^24 are allowed", (unsigned long)c->expert);
        if (c->tokens == 0 || !isfinite(c->noise) || c->noise <= 0 || !isfinite(c->kl))
            return BAD(p, "a sensitivity of no tokens, without noise, or that is not finite");
    }
    return QN_OK;
}

qn_code qn_stats_index_parse(qn_stats_index *ix, qn_arena *arena, const uint8_t *bytes, uint64_t n_bytes, uint64_t off,
                             qn_err *err)
{
    struct parse p = {.ix = ix, .arena = arena, .cur = qn_cur_over(bytes, (size_t)n_bytes), .off = off, .err = err};
    uint32_t n;
    *ix = (qn_stats_index){0};
    QN_TRY(take_meta(&p));
    QN_TRY(take_count(&p, INPUT_BYTES_MIN, "inputs", &n));
    ix->inputs = qn_arena_get(arena, n * sizeof *ix->inputs, 8, err);
    if (!ix->inputs)
        return QN_E_MEMORY;
    for (; ix->n_inputs < n; ix->n_inputs++) {
        ix->inputs[ix->n_inputs] = (qn_stats_input){0};
        QN_TRY(take_input(&p, &ix->inputs[ix->n_inputs]));
    }
    if (p.has_costs)
        QN_TRY(take_costs(&p));
    if (qn_cur_left(&p.cur) != 0)
        return BAD(&p, "%zu bytes too long", qn_cur_left(&p.cur));
    return QN_OK;
}
