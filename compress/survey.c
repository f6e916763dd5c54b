/* survey.c: see survey.h. One task per chunk, cut as the packer cuts; commits merge in chunk order. */
#include "compress/survey.h"
#include "base/err.h"
#include "base/num.h"
#include "base/threads.h"
#include "compress/chunks.h"
#include "compress/dedup.h"
#include <string.h>

enum {
    SCRATCH_CHUNKS = 10, /* memory of one worker in largest chunks, as when packing            */
    SLIVER_MIN = 8 << 10, SLIVER_MAX = 64 << 10 /* a slow level looks at no less of a tensor    */
};

/* About a second of work on one core each, by the speed of the encoders. */
static const uint64_t default_sample[QN_LEVELS] = {0, UINT64_C(512) << 20, UINT64_C(256) << 20, 8 << 20};

struct slot {
    uint8_t *raw, *out;
    qn_arena scratch;
    qn_tally tally;
    qn_digest digest;
    uint64_t tried[QN_LEVELS], stored[QN_LEVELS]; /* bytes of this chunk that a level encoded, and what came out */
};

struct survey {
    const qn_env *env;
    qn_source *src;
    const qn_survey_options *opt;
    qn_survey *out;
    qn_arena arena;
    qn_index ix; /* its objects are the tensors of the source */
    qn_ekern ekern;
    qn_kern kern;
    struct slot *slots;
    unsigned n_slots;
    uint64_t *first_task; /* of row i; n_rows + 1 of them */
    uint64_t max_bytes, done_bytes;
    /* the row being merged */
    uint64_t row;
    qn_tally *tally;
    qn_hasher hasher;
    uint64_t tried[QN_LEVELS], stored[QN_LEVELS];
    qn_dedup dedup;
};

static const qn_index_object *tensor_of(const struct survey *s, uint64_t row)
{
    return &s->ix.objects[s->out->rows[row].tensor];
}

/* Last row that begins at or before the task; rows without chunks share their first task with the next. */
static uint64_t row_of(const struct survey *s, uint64_t task)
{
    uint64_t lo = 0, hi = s->out->n_rows;
    while (hi - lo > 1) {
        const uint64_t mid = lo + (hi - lo) / 2;
        if (s->first_task[mid] <= task)
            lo = mid;
        else
            hi = mid;
    }
    return lo;
}

/* How many units of chunk i a level encodes: all of it, a few rows, or 0. */
static uint64_t sample_units(const struct survey *s, uint64_t row, qn_level level, uint64_t i, const qn_block *b)
{
    const qn_index_object *o = tensor_of(s, row);
    const uint64_t unit = qn_unit_bytes(b->dtype), chunk = (uint64_t)o->chunk_units * unit;
    const uint64_t n_chunks = s->first_task[row + 1] - s->first_task[row];
    const uint64_t budget = s->opt->sample_bytes[level] ? s->opt->sample_bytes[level] : default_sample[level];
    uint64_t least = qn_min_u64(qn_max_u64(budget / s->out->n_rows, SLIVER_MIN), SLIVER_MAX);
    if (budget >= s->out->tensor_bytes)
        return b->n;
    if (level != QN_LEVEL_MAX && !s->opt->sample_bytes[level])
        least = chunk;
    const double part = (double)o->n_bytes / (double)s->out->tensor_bytes;
    const uint64_t share = qn_max_u64(least, (uint64_t)((double)budget * part));
    if (share >= o->n_bytes)
        return b->n;
    if (share >= chunk) {
        const uint64_t k = qn_min_u64(share / chunk, n_chunks);
        return i * k / n_chunks != (i + 1) * k / n_chunks ? b->n : 0;
    }
    if (i != n_chunks / 2)
        return 0;
    const uint64_t units = qn_max_u64(1, share / unit);
    return qn_min_u64(b->n, units > b->cols ? units / b->cols * b->cols : units);
}

static qn_code try_level(struct survey *s, struct slot *w, uint64_t row, qn_level level, uint64_t i, qn_err *err)
{
    qn_block b = qn_index_block(tensor_of(s, row), i);
    const uint64_t units = sample_units(s, row, level, i, &b);
    const qn_enc_ctx cx = {.ekern = &s->ekern, .kern = &s->kern, .scratch = &w->scratch, .level = level};
    unsigned codec;
    size_t n;
    w->tried[level] = units * qn_unit_bytes(b.dtype);
    w->stored[level] = 0;
    if (units == 0)
        return QN_OK;
    b.n = (uint32_t)units;
    b.cols = (uint32_t)qn_min_u64(b.cols, units);
    qn_arena_reset(&w->scratch);
    QN_TRY(qn_encode_best(&cx, &b, w->raw, w->out, (size_t)w->tried[level], &codec, &n, err));
    w->stored[level] = n;
    return QN_OK;
}

static qn_code look(struct survey *s, struct slot *w, uint64_t row, uint64_t i, qn_err *err)
{
    const qn_index_object *o = tensor_of(s, row);
    const qn_block b = qn_index_block(o, i);
    const uint64_t unit = qn_unit_bytes(b.dtype), n = b.n * unit;
    QN_TRY(qn_source_tensor_read(s->src, s->out->rows[row].tensor, i * o->chunk_units * unit, n, w->raw, err));
    w->digest = qn_hash128(w->raw, (size_t)n);
    qn_tally_begin(&w->tally, b.dtype);
    QN_TRY(qn_tally_piece(&w->tally, w->raw, n, err));
    for (qn_level l = QN_LEVEL_FAST; l <= QN_LEVEL_MAX; l++)
        if (s->opt->level[l])
            QN_TRY(try_level(s, w, row, l, i, err));
    return QN_OK;
}

static qn_code work(void *ctx, uint64_t task, unsigned slot, qn_err *err)
{
    struct survey *s = ctx;
    const uint64_t row = row_of(s, task);
    QN_TRY(qn_env_check(s->env, err));
    const qn_code rc = look(s, &s->slots[slot], row, task - s->first_task[row], err);
    return qn_err_in_path(err, qn_err_in_tensor(err, rc, tensor_of(s, row)->name), s->src->path);
}

static void begin_row(struct survey *s)
{
    if (s->row >= s->out->n_rows)
        return;
    const qn_index_object *o = tensor_of(s, s->row);
    const uint64_t facts[2] = {o->dtype, o->rank};
    qn_tally_begin(s->tally, (qn_dtype)o->dtype);
    memset(s->tried, 0, sizeof s->tried);
    memset(s->stored, 0, sizeof s->stored);
    qn_hasher_reset(&s->hasher);
    qn_hasher_add(&s->hasher, facts, sizeof facts);
    qn_hasher_add(&s->hasher, o->dims, o->rank * sizeof *o->dims);
}

static void end_row(struct survey *s)
{
    qn_survey *out = s->out;
    qn_survey_row *r = &out->rows[s->row];
    const uint64_t n_bytes = tensor_of(s, s->row)->n_bytes;
    qn_tally_finish(s->tally, &r->stats);
    r->duplicate_of = UINT64_MAX;
    for (unsigned l = QN_LEVEL_FAST; l < QN_LEVELS; l++) {
        r->level_exact[l] = s->opt->level[l] && s->tried[l] == n_bytes;
        r->level_bytes[l] = s->tried[l] == n_bytes ? s->stored[l]
                            : s->tried[l] ? (uint64_t)((double)s->stored[l] / (double)s->tried[l] * (double)n_bytes)
                                          : 0;
    }
    if (n_bytes) {
        const qn_digest digest = qn_hasher_digest(&s->hasher);
        r->duplicate_of = qn_dedup_find(&s->dedup, &digest);
        qn_dedup_add(&s->dedup, &digest, s->row);
    }
    if (r->duplicate_of != UINT64_MAX) {
        out->n_duplicates++;
        out->duplicate_bytes += n_bytes;
        return;
    }
    out->bound_bytes += r->stats.bound_bits * (double)r->stats.n_values / 8;
    for (unsigned l = QN_LEVEL_FAST; l < QN_LEVELS; l++) {
        out->level_bytes[l] += r->level_bytes[l];
        out->level_exact[l] = out->level_exact[l] && r->level_exact[l];
    }
}

static void advance_to(struct survey *s, uint64_t row)
{
    while (s->row < row) {
        end_row(s);
        s->row++;
        begin_row(s);
    }
}

static qn_code commit(void *ctx, uint64_t task, unsigned slot, qn_err *err)
{
    struct survey *s = ctx;
    const struct slot *w = &s->slots[slot];
    (void)err;
    advance_to(s, row_of(s, task));
    qn_tally_merge(s->tally, &w->tally);
    qn_hasher_add(&s->hasher, w->digest.b, sizeof w->digest.b);
    for (unsigned l = QN_LEVEL_FAST; l < QN_LEVELS; l++) {
        s->tried[l] += w->tried[l];
        s->stored[l] += w->stored[l];
    }
    const qn_block b = qn_index_block(tensor_of(s, s->row), task - s->first_task[s->row]);
    s->done_bytes += (uint64_t)b.n * qn_unit_bytes(b.dtype);
    if (s->env->progress)
        s->env->progress(s->env->progress_ctx, "surveying", s->done_bytes, s->out->tensor_bytes);
    return QN_OK;
}

static qn_code list_rows(struct survey *s, qn_err *err)
{
    const uint64_t most = s->src->n_tensors;
    s->out->rows = qn_mem_zeros(s->env->alloc, most, sizeof *s->out->rows, err);
    s->first_task = qn_arena_get(&s->arena, (most + 1) * sizeof *s->first_task, 8, err);
    if (!s->out->rows || !s->first_task)
        return QN_E_MEMORY;
    uint64_t n = 0, task = 0;
    s->max_bytes = 1;
    for (uint64_t i = 0; i < s->ix.n_objects; i++) {
        const qn_index_object *o = &s->ix.objects[i];
        if (s->opt->want && !s->opt->want(s->opt->want_ctx, o->name))
            continue;
        s->out->rows[n].tensor = i;
        s->first_task[n++] = task;
        task += qn_index_n_chunks(&s->ix, i);
        s->out->tensor_bytes += o->n_bytes;
        s->max_bytes = qn_max_u64(s->max_bytes, (uint64_t)o->chunk_units * qn_unit_bytes((qn_dtype)o->dtype));
    }
    s->first_task[n] = task;
    s->out->n_rows = n;
    for (unsigned l = QN_LEVEL_FAST; l < QN_LEVELS; l++)
        s->out->level_exact[l] = s->opt->level[l];
    return QN_OK;
}

static uint64_t table_memory(const struct survey *s)
{
    return (8u << 20) + s->ix.n_objects * (sizeof(qn_index_object) + sizeof(qn_object) + 96) +
           s->src->n_tensors * (sizeof(qn_survey_row) + 64);
}

static qn_code slots_open(struct survey *s, qn_err *err)
{
    const uint64_t n_tasks = s->first_task[s->out->n_rows], limit = s->env->memory_bytes;
    s->n_slots = (unsigned)qn_min_u64(s->env->n_threads, qn_max_u64(1, n_tasks));
    const uint64_t each = SCRATCH_CHUNKS * s->max_bytes, tables = table_memory(s);
    if (limit && limit < tables + each)
        return QN_FAIL(err, QN_E_MEMORY, QN_NO_OFFSET, "memory limit of %llu MiB: at least %llu MiB are needed",
                       (unsigned long long)(limit >> 20), (unsigned long long)((tables + each) >> 20) + 1);
    if (limit)
        s->n_slots = (unsigned)qn_min_u64(s->n_slots, (limit - tables) / each);
    s->slots = qn_mem_zeros(s->env->alloc, s->n_slots, sizeof *s->slots, err);
    s->tally = qn_mem_zeros(s->env->alloc, 1, sizeof *s->tally, err);
    if (!s->slots || !s->tally)
        return QN_E_MEMORY;
    for (unsigned i = 0; i < s->n_slots; i++) {
        qn_arena_init(&s->slots[i].scratch, s->env->alloc);
        s->slots[i].raw = qn_mem_get(s->env->alloc, s->max_bytes, err);
        s->slots[i].out = qn_mem_get(s->env->alloc, s->max_bytes, err);
        if (!s->slots[i].raw || !s->slots[i].out)
            return QN_E_MEMORY;
    }
    return QN_OK;
}

static void release(struct survey *s)
{
    for (unsigned i = 0; s->slots && i < s->n_slots; i++) {
        qn_mem_put(s->env->alloc, s->slots[i].raw);
        qn_mem_put(s->env->alloc, s->slots[i].out);
        qn_arena_release(&s->slots[i].scratch);
    }
    qn_mem_put(s->env->alloc, s->slots);
    qn_mem_put(s->env->alloc, s->tally);
    qn_dedup_release(&s->dedup);
    qn_hasher_close(&s->hasher);
    qn_arena_release(&s->arena);
}

static qn_code run(struct survey *s, qn_err *err)
{
    const qn_job job = {.work = work, .commit = commit, .ctx = s};
    QN_TRY(qn_chunks_plan_tensors(&s->ix, &s->arena, s->src, err));
    QN_TRY(list_rows(s, err));
    QN_TRY(slots_open(s, err));
    QN_TRY(qn_hasher_open(&s->hasher, err));
    QN_TRY(qn_dedup_open(&s->dedup, s->env->alloc, s->out->n_rows, err));
    begin_row(s);
    QN_TRY(qn_run(s->env, &job, s->first_task[s->out->n_rows], s->n_slots, err));
    advance_to(s, s->out->n_rows);
    return QN_OK;
}

qn_code qn_survey_run(const qn_env *env, qn_source *src, const qn_survey_options *opt, qn_survey *out, qn_err *err)
{
    struct survey s = {.env = env, .src = src, .opt = opt, .out = out};
    *out = (qn_survey){0};
    qn_arena_init(&s.arena, env->alloc);
    qn_kern_init(&s.kern, env->cpu);
    qn_ekern_init(&s.ekern, env->cpu);
    const qn_code rc = run(&s, err);
    release(&s);
    if (rc != QN_OK)
        qn_survey_release(env, out);
    return rc;
}

void qn_survey_release(const qn_env *env, qn_survey *s)
{
    qn_mem_put(env->alloc, s->rows);
    *s = (qn_survey){0};
}
