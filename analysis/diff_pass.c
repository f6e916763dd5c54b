/* diff_pass.c: the two passes of a comparison; see diff.c. */
#include "analysis/diff_impl.h"
#include "base/err.h"
#include "base/half.h"
#include "base/num.h"
#include "base/threads.h"
#include <string.h>

struct slot {
    uint8_t *a, *b;
    double *wa, *wb;
    qn_errsum e;
    uint64_t n_differing, first_differing; /* positions are of values within the tensor */
};

struct pass {
    struct diff *d;
    bool measure;
    struct slot *slots;
    unsigned n_slots;
    uint64_t n_tasks, done_bytes, total_bytes;
};

unsigned qn_value_bits(qn_dtype t)
{
    switch (t) {
    case QN_BYTES:
    case QN_F6_E2M3:
    case QN_F6_E3M2:
        return 0;
    default:
        return t == QN_C64 ? 32 : qn_dtype_bits(t);
    }
}

unsigned qn_values_per_element(qn_dtype t)
{
    return t == QN_C64 ? 2 : 1;
}

static bool in_pass(const struct pass *p, const struct item *item)
{
    if (!p->measure)
        return !item->is_tensor || p->d->out->rows[item->row].status == QN_DIFF_EQUAL;
    return item->is_tensor && p->d->out->rows[item->row].status != QN_DIFF_EQUAL;
}

/* The item a task belongs to: the last one that begins at or before it and has a task at all. */
static struct item *item_of(const struct pass *p, uint64_t task)
{
    uint64_t lo = 0, hi = p->d->n_items;
    while (hi - lo > 1) {
        const uint64_t mid = lo + (hi - lo) / 2;
        if (p->d->items[mid].first_task <= task)
            lo = mid;
        else
            hi = mid;
    }
    return &p->d->items[lo];
}

/* n bytes of a file, across its objects. */
static qn_code read_file_range(qn_source *s, uint64_t file, uint64_t off, uint64_t n, uint8_t *dst, qn_err *err)
{
    const qn_source_file *f = &s->files[file];
    for (uint64_t i = f->first_object; i < f->first_object + f->n_objects && n > 0; i++) {
        const qn_object *o = &s->objects[i];
        if (off >= o->off + o->n_bytes)
            continue;
        const uint64_t m = qn_min_u64(n, o->off + o->n_bytes - off);
        QN_TRY(qn_source_read(s, i, off - o->off, m, dst, err));
        off += m;
        dst += m;
        n -= m;
    }
    return n == 0 ? QN_OK : QN_BUG(err, "file '%s' is not covered", f->path);
}

static qn_code read_side(qn_source *s, const struct item *item, uint64_t which, uint64_t base, uint64_t off, uint64_t n,
                         uint8_t *dst, qn_err *err)
{
    const qn_code rc = item->is_tensor ? qn_source_read(s, which, off, n, dst, err)
                                       : read_file_range(s, which, base + off, n, dst, err);
    return qn_err_in_path(err, rc, s->path);
}

/* Bits of B's side that belong to n bytes of A's side. */
static uint64_t b_bytes_of(const struct pass *p, const struct item *item, uint64_t n)
{
    if (!item->is_tensor)
        return n;
    const unsigned a = qn_dtype_bits((qn_dtype)p->d->a->objects[item->a].dtype);
    const unsigned b = qn_dtype_bits((qn_dtype)p->d->b->objects[item->b].dtype);
    return n * 8 / a * b / 8;
}

static void note(struct slot *s, uint64_t position)
{
    if (s->n_differing++ == 0)
        s->first_differing = position;
}

static bool unequal(const uint8_t *a, const uint8_t *b, unsigned size)
{
    switch (size) {
    case 2:
        return qn_load16(a) != qn_load16(b);
    case 4:
        return qn_load32(a) != qn_load32(b);
    case 8:
        return qn_load64(a) != qn_load64(b);
    default:
        return *a != *b;
    }
}

/* Equal dtypes: values whose bits differ. `first` is the position of the piece's first value. */
static void count_bits(struct slot *s, qn_dtype t, uint64_t n_bytes, uint64_t first)
{
    const unsigned bits = qn_value_bits(t), size = bits >= 8 ? bits / 8 : 1;
    for (uint64_t i = 0; i < n_bytes; i += size) {
        if (!unequal(s->a + i, s->b + i, size))
            continue;
        if (bits == 4) {
            const unsigned x = s->a[i] ^ s->b[i];
            if (x & 0x0f)
                note(s, first + 2 * i);
            if (x & 0xf0)
                note(s, first + 2 * i + 1);
        } else {
            note(s, first + i / size);
        }
    }
}

/* Other dtypes: values that are not the same number; any NaN is as good as another. */
static void count_numbers(struct slot *s, uint64_t n, uint64_t first)
{
    for (uint64_t i = 0; i < n; i++) {
        const double a = s->wa[i], b = s->wb[i];
        if (!(a >= b && a <= b) && !(a != a && b != b))
            note(s, first + i);
    }
}

static qn_code measure(const struct pass *p, struct slot *s, const struct item *item, uint64_t off, uint64_t n_bytes,
                       qn_err *err)
{
    const qn_dtype ta = (qn_dtype)p->d->a->objects[item->a].dtype, tb = (qn_dtype)p->d->b->objects[item->b].dtype;
    const unsigned bits_a = qn_value_bits(ta), bits_b = qn_value_bits(tb), per = qn_values_per_element(ta);
    s->e = (qn_errsum){0};
    s->n_differing = 0;
    if (ta == tb)
        count_bits(s, ta, n_bytes, bits_a ? off * 8 / bits_a : off);
    if (bits_a == 0)
        return QN_OK;
    const uint64_t n = n_bytes * 8 / bits_a, first = off * 8 / bits_a;
    for (uint64_t i = 0; i < n; i += QN_ERRSUM_BLOCK) {
        const uint64_t m = qn_min_u64(QN_ERRSUM_BLOCK, n - i);
        QN_TRY(qn_widen(ta, s->a + i * bits_a / 8, m / per, s->wa, err));
        QN_TRY(qn_widen(tb, s->b + i * bits_b / 8, m / per, s->wb, err));
        if (ta != tb)
            count_numbers(s, m, first + i);
        qn_errsum_add(&s->e, s->wa, s->wb, m, first + i);
    }
    return QN_OK;
}

static qn_code work(void *ctx, uint64_t task, unsigned slot, qn_err *err)
{
    struct pass *p = ctx;
    struct slot *s = &p->slots[slot];
    struct item *item = item_of(p, task);
    const uint64_t off = (task - item->first_task) * item->piece_bytes;
    const uint64_t n = qn_min_u64(item->piece_bytes, item->n_bytes - off);
    QN_TRY(qn_env_check(p->d->env, err));
    if (!p->measure && atomic_load_explicit(&item->differs, memory_order_relaxed))
        return QN_OK; /* decided already: whether this piece differs too changes nothing */
    QN_TRY(read_side(p->d->a, item, item->a, item->a_off, off, n, s->a, err));
    QN_TRY(read_side(p->d->b, item, item->b, item->b_off, b_bytes_of(p, item, off), b_bytes_of(p, item, n), s->b, err));
    if (p->measure)
        return measure(p, s, item, off, n, err);
    if (memcmp(s->a, s->b, (size_t)n) != 0)
        atomic_store_explicit(&item->differs, true, memory_order_relaxed);
    return QN_OK;
}

static qn_code commit(void *ctx, uint64_t task, unsigned slot, qn_err *err)
{
    struct pass *p = ctx;
    const struct slot *s = &p->slots[slot];
    const struct item *item = item_of(p, task);
    const uint64_t off = (task - item->first_task) * item->piece_bytes;
    (void)err;
    p->done_bytes += qn_min_u64(item->piece_bytes, item->n_bytes - off);
    if (p->d->env->progress)
        p->d->env->progress(p->d->env->progress_ctx, p->measure ? "measuring" : "comparing", p->done_bytes,
                            p->total_bytes);
    if (!p->measure)
        return QN_OK;
    qn_diff_row *r = &p->d->out->rows[item->row];
    qn_errsum_merge(&r->e, &s->e);
    if (s->n_differing && r->n_differing == 0)
        r->first_differing = s->first_differing / qn_values_per_element((qn_dtype)p->d->a->objects[item->a].dtype);
    r->n_differing += s->n_differing;
    return QN_OK;
}

/* Numbers the pieces of this pass's items; the others get none. Returns bytes of one slot's buffers through need. */
static void plan(struct pass *p, uint64_t *need_a, uint64_t *need_b)
{
    *need_a = *need_b = 1;
    p->n_tasks = p->total_bytes = 0;
    for (uint64_t i = 0; i < p->d->n_items; i++) {
        struct item *item = &p->d->items[i];
        item->first_task = p->n_tasks;
        if (item->n_bytes == 0 || !in_pass(p, item))
            continue;
        const uint64_t piece = qn_min_u64(item->piece_bytes, item->n_bytes);
        p->n_tasks += qn_ceil_div(item->n_bytes, item->piece_bytes);
        p->total_bytes += item->n_bytes;
        *need_a = qn_max_u64(*need_a, piece);
        *need_b = qn_max_u64(*need_b, b_bytes_of(p, item, piece));
    }
}

static qn_code slots_open(struct pass *p, uint64_t need_a, uint64_t need_b, qn_err *err)
{
    const qn_alloc *alloc = p->d->env->alloc;
    const uint64_t wide = QN_ERRSUM_BLOCK * sizeof(double), each = need_a + need_b + 2 * wide;
    p->n_slots = (unsigned)qn_min_u64(p->d->env->n_threads, qn_max_u64(1, p->n_tasks));
    if (p->d->env->memory_bytes)
        p->n_slots = (unsigned)qn_max_u64(1, qn_min_u64(p->n_slots, p->d->env->memory_bytes / each));
    p->slots = qn_mem_zeros(alloc, p->n_slots, sizeof *p->slots, err);
    if (!p->slots)
        return QN_E_MEMORY;
    for (unsigned i = 0; i < p->n_slots; i++) {
        struct slot *s = &p->slots[i];
        s->a = qn_mem_get(alloc, need_a, err);
        s->b = qn_mem_get(alloc, need_b, err);
        s->wa = qn_mem_get(alloc, wide, err);
        s->wb = qn_mem_get(alloc, wide, err);
        if (!s->a || !s->b || !s->wa || !s->wb)
            return QN_E_MEMORY;
    }
    return QN_OK;
}

static void slots_release(struct pass *p)
{
    for (unsigned i = 0; p->slots && i < p->n_slots; i++) {
        qn_mem_put(p->d->env->alloc, p->slots[i].a);
        qn_mem_put(p->d->env->alloc, p->slots[i].b);
        qn_mem_put(p->d->env->alloc, p->slots[i].wa);
        qn_mem_put(p->d->env->alloc, p->slots[i].wb);
    }
    qn_mem_put(p->d->env->alloc, p->slots);
}

static qn_code one_pass(struct diff *d, bool measuring, qn_err *err)
{
    struct pass p = {.d = d, .measure = measuring};
    const qn_job job = {.work = work, .commit = commit, .ctx = &p};
    uint64_t need_a, need_b;
    plan(&p, &need_a, &need_b);
    qn_code rc = slots_open(&p, need_a, need_b, err);
    if (rc == QN_OK)
        rc = qn_run(d->env, &job, p.n_tasks, p.n_slots, err);
    slots_release(&p);
    return rc;
}

qn_code qn_diff_passes(struct diff *d, qn_err *err)
{
    QN_TRY(one_pass(d, false, err));
    for (uint64_t i = 0; i < d->n_items; i++) {
        struct item *item = &d->items[i];
        if (!atomic_load_explicit(&item->differs, memory_order_relaxed))
            continue;
        if (!item->is_tensor) {
            d->out->files[item->row].status = item->if_differs;
            continue;
        }
        qn_diff_row *r = &d->out->rows[item->row];
        r->status = QN_DIFF_VALUES;
        r->measured = qn_value_bits((qn_dtype)d->a->objects[item->a].dtype) != 0;
    }
    return one_pass(d, true, err);
}
