/* against.c: see against.h.
 *
 * First the lists are compared, which needs no reading; then each pair's bytes, cut as a .quern file cuts them, so that a
 * packed side decodes every chunk once. A blob (header, tokenizer, …) is compared with the same range of the other
 * side's file, whatever objects that falls into there. */
#include "compress/against.h"
#include "base/err.h"
#include "base/num.h"
#include "base/threads.h"
#include "compress/chunks.h"
#include <stdio.h>
#include <string.h>

struct pair {
    uint64_t left;        /* object */
    uint64_t right;       /* object for a tensor, file for a blob */
    uint64_t first_task;
    bool reported;
};

struct slot {
    uint8_t *left, *right;
    uint64_t n, off; /* the piece, within the object */
    uint64_t at;     /* first differing byte in it, n when equal */
};

struct against {
    const qn_env *env;
    qn_source *left, *right;
    qn_index ix; /* of the left side, for its pieces */
    qn_arena arena;
    struct pair *pairs;
    uint64_t n_pairs, n_tasks;
    struct slot *slots;
    unsigned n_slots;
    void (*differs)(void *ctx, const qn_err *what);
    void *ctx;
    qn_against_report *report;
    uint64_t total_bytes;
    qn_err first;
};

static void found(struct against *a, const char *path, const char *tensor, const qn_err *what)
{
    qn_err e = *what;
    (void)qn_err_in_tensor(&e, QN_E_DIFFERENT, tensor);
    (void)qn_err_in_path(&e, QN_E_DIFFERENT, path);
    if (a->report->n_different++ == 0)
        a->first = e;
    if (a->differs)
        a->differs(a->ctx, &e);
}

#define FOUND(a, path, tensor, off, ...)                            \
    do {                                                            \
        qn_err what_;                                               \
        qn_err_clear(&what_);                                       \
        (void)QN_FAIL(&what_, QN_E_DIFFERENT, (off), __VA_ARGS__);  \
        found((a), (path), (tensor), &what_);                       \
    } while (0)

static void shape_text(const qn_object *o, char *buf, size_t n_bytes)
{
    size_t n = (size_t)snprintf(buf, n_bytes, "%s (", qn_dtype_name((qn_dtype)o->dtype));
    for (unsigned i = 0; i < o->rank && n + 24 < n_bytes; i++)
        n += (size_t)snprintf(buf + n, n_bytes - n, "%s%llu", i ? ", " : "", (unsigned long long)o->dims[i]);
    snprintf(buf + n, n_bytes - n, ")");
}

static bool same_shape(const qn_object *a, const qn_object *b)
{
    return a->dtype == b->dtype && a->rank == b->rank && a->n_bytes == b->n_bytes &&
           (a->rank == 0 || memcmp(a->dims, b->dims, a->rank * sizeof *a->dims) == 0);
}

static void add_pair(struct against *a, uint64_t left, uint64_t right)
{
    a->pairs[a->n_pairs++] = (struct pair){.left = left, .right = right, .first_task = a->n_tasks};
    a->n_tasks += qn_index_n_chunks(&a->ix, left);
    a->total_bytes += a->left->objects[left].n_bytes;
}

static void pair_tensors(struct against *a)
{
    for (uint64_t i = 0; i < a->left->n_objects; i++) {
        const qn_object *o = &a->left->objects[i];
        if (o->kind != QN_OBJECT_TENSOR)
            continue;
        const uint64_t r = qn_source_find(a->right, o->name);
        if (r == UINT64_MAX) {
            FOUND(a, a->left->path, o->name, QN_NO_OFFSET, "is not in %s", a->right->path);
        } else if (!same_shape(o, &a->right->objects[r])) {
            char mine[128], theirs[128];
            shape_text(o, mine, sizeof mine);
            shape_text(&a->right->objects[r], theirs, sizeof theirs);
            FOUND(a, a->left->path, o->name, QN_NO_OFFSET, "is %s, in %s %s", mine, a->right->path, theirs);
        } else {
            a->report->n_tensors++;
            add_pair(a, i, r);
        }
    }
    for (uint64_t i = 0; i < a->right->n_objects; i++) {
        const qn_object *o = &a->right->objects[i];
        if (o->kind == QN_OBJECT_TENSOR && qn_source_find(a->left, o->name) == UINT64_MAX)
            FOUND(a, a->left->path, o->name, QN_NO_OFFSET, "is missing, %s has it", a->right->path);
    }
}

static void pair_file(struct against *a, uint64_t l, uint64_t r)
{
    const qn_source_file *f = &a->left->files[l], *g = &a->right->files[r];
    if (f->n_bytes != g->n_bytes) {
        FOUND(a, f->path, NULL, QN_NO_OFFSET, "has %llu bytes, in %s %llu", (unsigned long long)f->n_bytes, a->right->path,
              (unsigned long long)g->n_bytes);
        return;
    }
    a->report->n_files++;
    for (uint64_t i = f->first_object; i < f->first_object + f->n_objects; i++)
        if (a->left->objects[i].kind == QN_OBJECT_BLOB)
            add_pair(a, i, r);
}

/* Two single files are meant to be the same whatever they are called; the files of two folders go by name. Both lists
 * are sorted. */
static void pair_files(struct against *a)
{
    const qn_source *l = a->left, *r = a->right;
    uint64_t i = 0, j = 0;
    if (l->n_files == 1 && r->n_files == 1 && !(l->is_dir && r->is_dir)) {
        pair_file(a, 0, 0);
        return;
    }
    while (i < l->n_files || j < r->n_files) {
        const int order = i == l->n_files ? 1 : j == r->n_files ? -1 : strcmp(l->files[i].path, r->files[j].path);
        if (order < 0)
            FOUND(a, l->files[i].path, NULL, QN_NO_OFFSET, "is in %s, but not in %s", l->path, r->path);
        else if (order > 0)
            FOUND(a, r->files[j].path, NULL, QN_NO_OFFSET, "is in %s, but not in %s", r->path, l->path);
        else
            pair_file(a, i, j);
        i += order <= 0;
        j += order >= 0;
    }
}

/* n bytes at `off` of a file, across its objects. */
static qn_code read_file_range(qn_source *s, uint64_t file, uint64_t off, uint64_t n, uint8_t *dst, qn_err *err)
{
    const qn_source_file *f = &s->files[file];
    uint64_t lo = f->first_object, hi = f->first_object + f->n_objects; /* last object with .off ≤ off is in [lo, hi) */
    while (hi - lo > 1) {
        const uint64_t mid = lo + (hi - lo) / 2;
        if (s->objects[mid].off <= off)
            lo = mid;
        else
            hi = mid;
    }
    while (n > 0) {
        const qn_object *o = &s->objects[lo];
        const uint64_t within = off - o->off, k = qn_min_u64(n, o->n_bytes - within);
        QN_TRY(qn_source_read(s, lo, within, k, dst, err));
        dst += k;
        off += k;
        n -= k;
        lo++;
    }
    return QN_OK;
}

static struct pair *pair_of(const struct against *a, uint64_t task)
{
    uint64_t lo = 0, hi = a->n_pairs; /* pairs without a byte share a first_task: the last of them has the task */
    while (hi - lo > 1) {
        const uint64_t mid = lo + (hi - lo) / 2;
        if (a->pairs[mid].first_task <= task)
            lo = mid;
        else
            hi = mid;
    }
    return &a->pairs[lo];
}

static uint64_t first_difference(const uint8_t *x, const uint8_t *y, uint64_t n)
{
    uint64_t i = 0;
    if (memcmp(x, y, n) == 0)
        return n;
    while (x[i] == y[i])
        i++;
    return i;
}

static qn_code work(void *ctx, uint64_t task, unsigned slot, qn_err *err)
{
    struct against *a = ctx;
    struct slot *s = &a->slots[slot];
    const struct pair *p = pair_of(a, task);
    const qn_object *o = &a->left->objects[p->left];
    const qn_index_object *cut = &a->ix.objects[p->left];
    const uint64_t i = task - p->first_task, unit = qn_unit_bytes((qn_dtype)o->dtype);
    const qn_block b = qn_index_block(cut, i);
    QN_TRY(qn_env_check(a->env, err));
    s->n = (uint64_t)b.n * unit;
    s->off = i * cut->chunk_units * unit;
    QN_TRY(qn_err_in_path(err, qn_source_read(a->left, p->left, s->off, s->n, s->left, err), a->left->path));
    const qn_code rc = o->kind == QN_OBJECT_TENSOR
                           ? qn_source_read(a->right, p->right, s->off, s->n, s->right, err)
                           : read_file_range(a->right, p->right, o->off + s->off, s->n, s->right, err);
    s->at = rc == QN_OK ? first_difference(s->left, s->right, s->n) : 0;
    return qn_err_in_path(err, rc, a->right->path);
}

static void hex(const uint8_t *p, unsigned n, char out[20])
{
    for (unsigned i = 0; i < n; i++) /* little-endian: the last byte leads */
        snprintf(out + 2 * i, 3, "%02x", p[n - 1 - i]);
}

static void report_bytes(struct against *a, const struct pair *p, const struct slot *s)
{
    const qn_object *o = &a->left->objects[p->left];
    char mine[20], theirs[20];
    if (o->kind == QN_OBJECT_TENSOR) {
        const unsigned unit = qn_unit_bytes((qn_dtype)o->dtype);
        const uint64_t whole = s->at - s->at % unit;
        hex(s->left + whole, unit, mine);
        hex(s->right + whole, unit, theirs);
        FOUND(a, a->left->path, o->name, s->off + s->at, "element %llu is 0x%s, in %s 0x%s",
              (unsigned long long)((s->off + whole) / unit), mine, a->right->path, theirs);
    } else {
        hex(s->left + s->at, 1, mine);
        hex(s->right + s->at, 1, theirs);
        FOUND(a, a->left->files[o->file].path, NULL, o->off + s->off + s->at, "0x%s, in %s 0x%s", mine, a->right->path, theirs);
    }
}

static qn_code commit(void *ctx, uint64_t task, unsigned slot, qn_err *err)
{
    struct against *a = ctx;
    struct slot *s = &a->slots[slot];
    struct pair *p = pair_of(a, task);
    (void)err;
    a->report->n_bytes += s->n;
    if (s->at < s->n && !p->reported) {
        p->reported = true;
        report_bytes(a, p, s);
    }
    if (a->env->progress)
        a->env->progress(a->env->progress_ctx, "comparing", a->report->n_bytes, a->total_bytes);
    return QN_OK;
}

static qn_code compare(struct against *a, qn_err *err)
{
    const qn_alloc *alloc = a->env->alloc;
    const qn_job job = {.work = work, .commit = commit, .ctx = a};
    QN_TRY(qn_chunks_plan(&a->ix, &a->arena, a->left, err));
    a->pairs = qn_mem_get(alloc, (a->left->n_objects + 1) * sizeof *a->pairs, err);
    if (!a->pairs)
        return QN_E_MEMORY;
    pair_tensors(a);
    pair_files(a);
    const uint64_t max = qn_chunks_max_bytes(&a->ix);
    QN_TRY(qn_chunks_workers(a->env, a->n_tasks, 0, 2 * max + QN_READ_CHUNKS * 2 * max, &a->n_slots, err));
    a->slots = qn_mem_zeros(alloc, a->n_slots, sizeof *a->slots, err);
    if (!a->slots)
        return QN_E_MEMORY;
    for (unsigned i = 0; i < a->n_slots; i++) {
        a->slots[i].left = qn_mem_get(alloc, max, err);
        a->slots[i].right = qn_mem_get(alloc, max, err);
        if (!a->slots[i].left || !a->slots[i].right)
            return QN_E_MEMORY;
    }
    return qn_run(a->env, &job, a->n_tasks, a->n_slots, err);
}

qn_code qn_against(const qn_env *env, qn_source *left, qn_source *right, void (*differs)(void *ctx, const qn_err *what),
                   void *ctx, qn_against_report *report, qn_err *err)
{
    struct against a = {.env = env, .left = left, .right = right, .differs = differs, .ctx = ctx, .report = report};
    *report = (qn_against_report){0};
    qn_arena_init(&a.arena, env->alloc);
    qn_code rc = compare(&a, err);
    for (unsigned i = 0; a.slots && i < a.n_slots; i++) {
        qn_mem_put(env->alloc, a.slots[i].left);
        qn_mem_put(env->alloc, a.slots[i].right);
    }
    qn_mem_put(env->alloc, a.slots);
    qn_mem_put(env->alloc, a.pairs);
    qn_arena_release(&a.arena);
    if (rc == QN_OK && report->n_different) {
        if (err && err->code == QN_OK)
            *err = a.first;
        rc = QN_E_DIFFERENT;
    }
    return rc;
}
