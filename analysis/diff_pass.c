/* diff_pass.c: the passes of a comparison; see diff.c.
 *
 * Items are cut into pieces that are worked on in parallel. BEGIN compares the first piece of every item. REST compares the other
 * pieces of the items that are equal so far. MEASURE looks at all pieces of the tensors that are not equal. So equal
 * checkpoints are compared as fast as they can be read, different ones are mostly read once, and which bytes are read
 * (hence which damage is met) does not depend on timing. */
#include "analysis/diff_impl.h"
#include "base/err.h"
#include "base/half.h"
#include "base/num.h"
#include "base/threads.h"
#include <string.h>

enum kind { BEGIN, REST, MEASURE };

struct slot {
    uint8_t *a, *b;
    bool differs; /* BEGIN, REST */
    double *wa, *wb;
    qn_errsum e;
    uint64_t n_differing, first_differing; /* positions are of values within the tensor */
};

struct pass {
    struct diff *d;
    enum kind kind;
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

/* Pieces of an item that a pass looks at, and the first of them. */
static uint64_t pieces_of(const struct pass *p, const struct item *item, uint64_t *first)
{
    const bool comparable = !item->is_tensor || p->d->out->rows[item->row].status == QN_DIFF_EQUAL;
    const uint64_t n = item->n_bytes ? qn_ceil_div(item->n_bytes, item->piece_bytes) : 0;
    *first = p->kind == REST;
    if (p->kind == MEASURE)
        return comparable ? 0 : n;
    if (!comparable || item->differs || n == 0)
        return 0;
    return p->kind == BEGIN ? 1 : n - 1;
}

/* Where a task's piece lies in its item. */
static uint64_t piece_of(const struct pass *p, const struct item *item, uint64_t task, uint64_t *off)
{
    *off = (task - item->first_task + (p->kind == REST)) * item->piece_bytes;
    return qn_min_u64(item->piece_bytes, item->n_bytes - *off);
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
    const qn_code rc = item->is_tensor ? qn_source_tensor_read(s, which, off, n, dst, err)
                                       : read_file_range(s, which, base + off, n, dst, err);
    return qn_err_in_path(err, rc, s->path);
}

/* Bits of B's side that belong to n bytes of A's side. */
static uint64_t b_bytes_of(const struct pass *p, const struct item *item, uint64_t n)
{
    if (!item->is_tensor)
        return n;
    const unsigned a = qn_dtype_bits((qn_dtype)p->d->a->tensors[item->a].dtype);
    const unsigned b = qn_dtype_bits((qn_dtype)p->d->b->tensors[item->b].dtype);
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
    const qn_dtype ta = (qn_dtype)p->d->a->tensors[item->a].dtype, tb = (qn_dtype)p->d->b->tensors[item->b].dtype;
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
    const struct item *item = item_of(p, task);
    uint64_t off;
    const uint64_t n = piece_of(p, item, task, &off);
    QN_TRY(qn_env_check(p->d->env, err));
    QN_TRY(read_side(p->d->a, item, item->a, item->a_off, off, n, s->a, err));
    QN_TRY(read_side(p->d->b, item, item->b, item->b_off, b_bytes_of(p, item, off), b_bytes_of(p, item, n), s->b, err));
    if (p->kind == MEASURE)
        return measure(p, s, item, off, n, err);
    s->differs = memcmp(s->a, s->b, (size_t)n) != 0;
    return QN_OK;
}

static qn_code commit(void *ctx, uint64_t task, unsigned slot, qn_err *err)
{
    struct pass *p = ctx;
    const struct slot *s = &p->slots[slot];
    struct item *item = item_of(p, task);
    uint64_t off;
    (void)err;
    p->done_bytes += piece_of(p, item, task, &off);
    if (p->d->env->progress)
        p->d->env->progress(p->d->env->progress_ctx, p->kind == MEASURE ? "measuring" : "comparing", p->done_bytes,
                            p->total_bytes);
    if (p->kind != MEASURE) {
        item->differs = item->differs || s->differs;
        return QN_OK;
    }
    qn_diff_row *r = &p->d->out->rows[item->row];
    qn_errsum_merge(&r->e, &s->e);
    if (s->n_differing && r->n_differing == 0)
        r->first_differing = s->first_differing / qn_values_per_element((qn_dtype)p->d->a->tensors[item->a].dtype);
    r->n_differing += s->n_differing;
    return QN_OK;
}

/* Numbers the tasks of this pass; need_*: bytes of one slot's buffers. */
static void plan(struct pass *p, uint64_t *need_a, uint64_t *need_b)
{
    *need_a = *need_b = 1;
    p->n_tasks = p->total_bytes = 0;
    for (uint64_t i = 0; i < p->d->n_items; i++) {
        struct item *item = &p->d->items[i];
        uint64_t first;
        const uint64_t n = pieces_of(p, item, &first), piece = qn_min_u64(item->piece_bytes, item->n_bytes);
        item->first_task = p->n_tasks;
        if (n == 0)
            continue;
        p->n_tasks += n;
        p->total_bytes += qn_min_u64(n * piece, item->n_bytes - first * piece);
        *need_a = qn_max_u64(*need_a, piece);
        *need_b = qn_max_u64(*need_b, b_bytes_of(p, item, piece));
    }
}

/* What the sources and the comparison itself hold, roughly. */
static uint64_t table_memory(const struct diff *d)
{
    return (8u << 20) + (d->a->n_objects + d->b->n_objects) * (sizeof(qn_object) + 128) +
           (d->a->n_tensors + d->b->n_tensors) * (sizeof(qn_source_tensor) + sizeof(qn_diff_row) + 64) +
           d->n_items * sizeof(struct item);
}

static qn_code slots_open(struct pass *p, uint64_t need_a, uint64_t need_b, qn_err *err)
{
    const qn_alloc *alloc = p->d->env->alloc;
    const uint64_t wide = QN_ERRSUM_BLOCK * sizeof(double), each = need_a + need_b + 2 * wide;
    p->n_slots = (unsigned)qn_min_u64(p->d->env->n_threads, qn_max_u64(1, p->n_tasks));
    const uint64_t limit = p->d->env->memory_bytes, tables = table_memory(p->d);
    if (limit && limit < tables + each)
        return QN_FAIL(err, QN_E_MEMORY, QN_NO_OFFSET, "memory limit of %llu MiB: at least %llu MiB are needed",
                       (unsigned long long)(limit >> 20), (unsigned long long)((tables + each) >> 20) + 1);
    if (limit)
        p->n_slots = (unsigned)qn_min_u64(p->n_slots, (limit - tables) / each);
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

static qn_code one_pass(struct diff *d, enum kind kind, qn_err *err)
{
    struct pass p = {.d = d, .kind = kind};
    const qn_job job = {.work = work, .commit = commit, .ctx = &p};
    uint64_t need_a, need_b;
    plan(&p, &need_a, &need_b);
    if (p.n_tasks == 0)
        return QN_OK;
    qn_code rc = slots_open(&p, need_a, need_b, err);
    if (rc == QN_OK)
        rc = qn_run(d->env, &job, p.n_tasks, p.n_slots, err);
    slots_release(&p);
    return rc;
}

qn_code qn_diff_passes(struct diff *d, qn_err *err)
{
    QN_TRY(one_pass(d, BEGIN, err));
    QN_TRY(one_pass(d, REST, err));
    for (uint64_t i = 0; i < d->n_items; i++) {
        const struct item *item = &d->items[i];
        if (!item->differs)
            continue;
        if (!item->is_tensor) {
            d->out->files[item->row].status = item->if_differs;
            continue;
        }
        qn_diff_row *r = &d->out->rows[item->row];
        r->status = QN_DIFF_VALUES;
        r->measured = qn_value_bits((qn_dtype)d->a->tensors[item->a].dtype) != 0;
    }
    return one_pass(d, MEASURE, err);
}
