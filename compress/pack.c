/* pack.c: source → .quern. See pack.h for what is promised.
 *
 * One task per chunk. Workers read, encode, decode again and compare; commits happen in chunk order, one at a time: they
 * decide on sharing, append the payload and extend the digests. So the bytes of the output depend on
 * the source and the options only.
 * What happens to the file around it is output.c's. */
#include "compress/pack.h"
#include "base/err.h"
#include "base/num.h"
#include "base/threads.h"
#include "compress/chunks.h"
#include "compress/dedup.h"
#include "compress/inputs.h"
#include "compress/lossy.h"
#include "compress/output.h"
#include "compress/pack_memory.h"
#include "compress/place.h"
#include "compress/walk.h"
#include "formats/quern/write.h"
#include <string.h>

enum {
    CHECKPOINT_BYTES = 64 << 20, /* default of checkpoint_bytes                                  */
    CHECKPOINT_RECORDS = 1 << 16, /* … and at most this many chunks: shared ones take no payload */
    SAMPLE_BYTES = 256 << 20     /* a dry run on more than this looks at a sample               */
};

struct slot {
    uint8_t *raw, *out, *check, *base;
    qn_arena scratch;
    size_t n_out;
    unsigned codec;
    qn_digest digest;
    uint64_t hash;
};

struct pack {
    const qn_env *env;
    qn_source *src;
    const qn_pack_options *opt;
    qn_arena arena;
    qn_index ix;
    qn_ekern ekern;
    qn_kern kern;
    struct slot *slots;
    unsigned n_slots;
    uint64_t max_bytes; /* largest chunk */
    uint64_t stride;    /* 1; more when a dry run samples */
    qn_dedup dedup;
    qn_walk walk;
    qn_quern_writer writer;
    qn_inputs inputs;
    qn_output out;
    uint64_t synced_at;
    uint64_t done_bytes, sampled_bytes, sampled_stored;
    qn_pack_report *report;
};

static uint64_t chunk_bytes(const struct pack *p, uint64_t object, uint64_t i, qn_block *b)
{
    *b = qn_index_block(&p->ix.objects[object], i);
    return (uint64_t)b->n * qn_unit_bytes(b->dtype);
}

static uint64_t chunk_off(const struct pack *p, uint64_t object, uint64_t i)
{
    const qn_index_object *o = &p->ix.objects[object];
    return i * o->chunk_units * qn_unit_bytes((qn_dtype)o->dtype);
}

/* The same block of the base checkpoint, when it has a tensor that fits. */
static qn_code read_base(struct pack *p, struct slot *s, uint64_t object, uint64_t off, uint64_t n, bool *have,
                         qn_err *err)
{
    const qn_index_object *o = &p->ix.objects[object];
    *have = false;
    if (!p->opt->base || !o->is_tensor)
        return QN_OK;
    const uint64_t b = qn_source_find(p->opt->base, o->name);
    if (b == UINT64_MAX)
        return QN_OK;
    const qn_object *t = &p->opt->base->objects[b];
    if (t->dtype != o->dtype || t->rank != o->rank || memcmp(t->dims, o->dims, o->rank * sizeof *o->dims) != 0)
        return QN_OK;
    *have = true;
    return qn_source_read(p->opt->base, b, off, n, s->base, err);
}

static bool is_lossy(const struct pack *p, uint64_t object)
{
    return p->opt->lossy && qn_lossy_has(p->opt->lossy, object);
}

static uint32_t lossy_units(const void *ctx, uint64_t object)
{
    const qn_lossy *l = ctx;
    return qn_lossy_has(l, object) ? qn_lossy_chunk_units(l, object) : 0;
}

static qn_code plan_chunks(qn_index *ix, qn_arena *arena, const qn_source *src, const qn_pack_options *opt, qn_err *err)
{
    return qn_chunks_plan_cut(ix, arena, src, opt->lossy ? lossy_units : NULL, opt->lossy, err);
}

/* Approximates the chunk in s->raw: afterwards s->raw is what the payload decodes to. *done false: the codec does not fit. */
static qn_code approximate(struct pack *p, struct slot *s, uint64_t object, uint64_t i, uint64_t n, bool *done, qn_err *err)
{
    qn_arena_reset(&s->scratch);
    QN_TRY(qn_lossy_chunk(p->opt->lossy, object, i, s->raw, n, s->check, s->out, (size_t)n, &s->codec, &s->n_out, &s->scratch,
                          err));
    *done = s->n_out > 0;
    if (*done) {
        uint8_t *swap = s->raw;
        s->raw = s->check;
        s->check = swap;
    }
    return QN_OK;
}

/* The payload in s->out decodes to s->raw. */
static qn_code check_encoded(struct pack *p, struct slot *s, const qn_block *b, uint64_t n, const uint8_t *base, qn_err *err)
{
    qn_arena_reset(&s->scratch);
    const qn_dec_ctx dcx = {.kern = &p->kern, .scratch = &s->scratch, .base = base};
    qn_err inner;
    qn_err_clear(&inner);
    if (qn_codec_decode(&dcx, s->codec, b, s->out, s->n_out, s->check, &inner) != QN_OK) {
        if (inner.code == QN_E_MEMORY)
            return QN_FAIL(err, QN_E_MEMORY, QN_NO_OFFSET, "%s", inner.text);
        return QN_BUG(err, "codec %s does not decode what it encoded: %s", qn_codec_tab[s->codec].name, inner.text);
    }
    if (memcmp(s->raw, s->check, (size_t)n) != 0)
        return QN_BUG(err, "codec %s decodes to other bytes than it encoded", qn_codec_tab[s->codec].name);
    return QN_OK;
}

static qn_code encode_and_check(struct pack *p, struct slot *s, const qn_block *b, uint64_t n, bool have_base,
                                qn_err *err)
{
    const uint8_t *base = have_base ? s->base : NULL;
    const qn_enc_ctx ecx = {.ekern = &p->ekern, .kern = &p->kern, .scratch = &s->scratch, .base = base,
                            .level = p->opt->level};
    qn_arena_reset(&s->scratch);
    QN_TRY(qn_encode_best(&ecx, b, s->raw, s->out, (size_t)n, &s->codec, &s->n_out, err));
    return check_encoded(p, s, b, n, base, err);
}

static qn_code read_resumed(struct pack *p, struct slot *s, uint64_t chunk, qn_err *err)
{
    const qn_journal_record *r = &p->out.resumed[chunk];
    QN_TRY(qn_file_read(&p->out.partial, s->out, r->chunk.stored_bytes, r->chunk.off, err));
    if (qn_hash64(s->out, r->chunk.stored_bytes) != r->chunk.hash)
        return qn_err_in_path(err, QN_FAIL(err, QN_E_VERIFY, r->chunk.off, "the unfinished result is damaged and is thrown "
                                                                           "away: run the command again"),
                              p->out.partial_path);
    return QN_OK;
}

/* A chunk that an earlier run has finished: the source must still be what it was, the payload must be intact. */
static qn_code check_resumed(struct pack *p, struct slot *s, uint64_t chunk, qn_err *err)
{
    const qn_journal_record *r = &p->out.resumed[chunk];
    if (!qn_digest_equal(&r->raw, &s->digest))
        return QN_FAIL(err, QN_E_USAGE, QN_NO_OFFSET,
                       "changed since the unfinished run began: give --restart to begin again");
    return r->chunk.codec == QN_CODEC_SHARED ? QN_OK : read_resumed(p, s, chunk, err);
}

/* The same of an approximated chunk. That the model is the same was compared by its digest, as part of the journal's key; what
 * the payload decodes to takes the place of the source's bytes. */
static qn_code check_resumed_lossy(struct pack *p, struct slot *s, uint64_t chunk, const qn_block *b, uint64_t n, qn_err *err)
{
    const qn_index_chunk *c = &p->out.resumed[chunk].chunk;
    QN_TRY(read_resumed(p, s, chunk, err));
    qn_arena_reset(&s->scratch);
    const qn_dec_ctx dcx = {.kern = &p->kern, .scratch = &s->scratch};
    QN_TRY(qn_codec_decode(&dcx, c->codec, b, s->out, c->stored_bytes, s->raw, err));
    s->digest = qn_hash128(s->raw, (size_t)n);
    if (qn_digest_equal(&p->out.resumed[chunk].raw, &s->digest))
        return QN_OK;
    return QN_FAIL(err, QN_E_VERIFY, QN_NO_OFFSET, "the unfinished result is damaged: give --restart to begin again");
}

/* A difference is worth something only against the bytes that it was taken from. */
static qn_code check_resumed_base(struct pack *p, struct slot *s, uint64_t chunk, const qn_block *b, uint64_t n,
                                  bool have_base, qn_err *err)
{
    const qn_index_chunk *c = &p->out.resumed[chunk].chunk;
    if (!have_base || c->codec == QN_CODEC_SHARED)
        return QN_OK;
    qn_arena_reset(&s->scratch);
    const qn_dec_ctx dcx = {.kern = &p->kern, .scratch = &s->scratch, .base = s->base};
    if (qn_codec_decode(&dcx, c->codec, b, s->out, c->stored_bytes, s->check, NULL) == QN_OK &&
        memcmp(s->raw, s->check, (size_t)n) == 0)
        return QN_OK;
    return QN_FAIL(err, QN_E_USAGE, QN_NO_OFFSET,
                   "the base has changed since the unfinished run began: give --restart to begin again");
}

static qn_code do_chunk(struct pack *p, struct slot *s, uint64_t chunk, uint64_t object, uint64_t off, uint64_t n,
                        const qn_block *b, qn_err *err)
{
    bool have_base = false, done = false;
    QN_TRY(qn_env_check(p->env, err));
    if (chunk < p->out.n_resumed && qn_codec_is_lossy(p->out.resumed[chunk].chunk.codec))
        return check_resumed_lossy(p, s, chunk, b, n, err);
    QN_TRY(qn_source_read(p->src, object, off, n, s->raw, err));
    s->digest = qn_hash128(s->raw, (size_t)n);
    QN_TRY(read_base(p, s, object, off, n, &have_base, err));
    if (chunk < p->out.n_resumed) {
        QN_TRY(check_resumed(p, s, chunk, err));
        return check_resumed_base(p, s, chunk, b, n, have_base, err);
    }
    if (is_lossy(p, object))
        QN_TRY(approximate(p, s, object, off / qn_max_u64(1, (uint64_t)p->ix.objects[object].chunk_units * qn_unit_bytes(b->dtype)), n,
                           &done, err));
    if (done) {
        s->digest = qn_hash128(s->raw, (size_t)n);
        QN_TRY(check_encoded(p, s, b, n, NULL, err));
    } else {
        QN_TRY(encode_and_check(p, s, b, n, have_base, err));
    }
    s->hash = qn_hash64(s->out, s->n_out);
    return QN_OK;
}

static qn_code work(void *ctx, uint64_t task, unsigned slot, qn_err *err)
{
    struct pack *p = ctx;
    uint64_t object, i;
    qn_block b;
    const uint64_t chunk = task * p->stride;
    qn_chunks_locate(&p->ix, chunk, &object, &i);
    const qn_index_object *o = &p->ix.objects[object];
    const uint64_t n = chunk_bytes(p, object, i, &b);
    const qn_code rc = do_chunk(p, &p->slots[slot], chunk, object, chunk_off(p, object, i), n, &b, err);
    return qn_err_in_path(err, qn_err_in_tensor(err, rc, o->is_tensor ? o->name : NULL), p->src->path);
}

/* Is there an earlier chunk with these very bytes, of the same geometry? Reads it back to be sure. */
static qn_code find_shared(struct pack *p, struct slot *s, uint64_t chunk, const qn_block *b, uint64_t n, uint64_t *twin,
                           qn_err *err)
{
    *twin = qn_dedup_find(&p->dedup, &s->digest);
    if (*twin == UINT64_MAX || *twin == chunk)
        return *twin = UINT64_MAX, QN_OK;
    uint64_t object, i;
    qn_block tb;
    qn_chunks_locate(&p->ix, *twin, &object, &i);
    if (chunk_bytes(p, object, i, &tb) != n || tb.dtype != b->dtype || tb.cols != b->cols)
        return *twin = UINT64_MAX, QN_OK;
    QN_TRY(qn_source_read(p->src, object, chunk_off(p, object, i), n, s->check, err));
    if (memcmp(s->check, s->raw, (size_t)n) != 0)
        *twin = UINT64_MAX;
    return QN_OK;
}

static qn_code checkpoint(struct pack *p, qn_err *err)
{
    QN_TRY(qn_quern_writer_flush(&p->writer, err));
    QN_TRY(qn_output_checkpoint(&p->out, err));
    p->synced_at = p->writer.at;
    return QN_OK;
}

static qn_code append_chunk(struct pack *p, struct slot *s, uint64_t chunk, uint64_t object, const qn_block *b,
                            uint64_t n, qn_err *err)
{
    qn_index_chunk *c = &p->ix.chunks[chunk];
    qn_pack_row *row = &p->report->rows[object];
    uint64_t twin = UINT64_MAX;
    const bool lossy = qn_codec_is_lossy(s->codec); /* found again by comparing with the source, which it is not */
    if (!lossy)
        QN_TRY(find_shared(p, s, chunk, b, n, &twin, err));
    if (twin != UINT64_MAX) {
        *c = (qn_index_chunk){.off = twin, .codec = QN_CODEC_SHARED};
    } else {
        *c = (qn_index_chunk){.hash = s->hash, .stored_bytes = (uint32_t)s->n_out, .codec = (uint8_t)s->codec};
        QN_TRY(qn_quern_writer_add(&p->writer, s->out, c->stored_bytes, &c->off, err));
        if (!lossy)
            qn_dedup_add(&p->dedup, &s->digest, chunk);
        row->raw_by_codec[s->codec] += n;
        row->stored_by_codec[s->codec] += s->n_out;
    }
    if (p->opt->dry_run)
        return QN_OK;
    QN_TRY(qn_journal_add(&p->out.journal, &(qn_journal_record){.raw = s->digest, .chunk = *c}, err));
    const uint64_t every = p->opt->checkpoint_bytes ? p->opt->checkpoint_bytes : CHECKPOINT_BYTES;
    if (p->writer.at - p->synced_at >= every || p->out.journal.n_pending >= CHECKPOINT_RECORDS)
        return checkpoint(p, err);
    return QN_OK;
}

static qn_code adopt_chunk(struct pack *p, struct slot *s, uint64_t chunk, uint64_t object, uint64_t n)
{
    p->ix.chunks[chunk] = p->out.resumed[chunk].chunk;
    p->report->n_resumed++;
    if (p->ix.chunks[chunk].codec != QN_CODEC_SHARED) {
        if (!qn_codec_is_lossy(p->ix.chunks[chunk].codec))
            qn_dedup_add(&p->dedup, &s->digest, chunk);
        p->report->rows[object].raw_by_codec[p->ix.chunks[chunk].codec] += n;
        p->report->rows[object].stored_by_codec[p->ix.chunks[chunk].codec] += p->ix.chunks[chunk].stored_bytes;
    }
    return QN_OK;
}

/* Remembers whose chunk this one shares; one object only, or none. */
static void note_twin(const struct pack *p, qn_pack_row *row, uint64_t twin)
{
    const uint64_t owner = qn_index_object_of(&p->ix, twin);
    if (row->n_shared == 0)
        row->same_as = owner;
    else if (row->same_as != owner)
        row->same_as = UINT64_MAX;
}

static qn_code commit(void *ctx, uint64_t task, unsigned slot, qn_err *err)
{
    struct pack *p = ctx;
    struct slot *s = &p->slots[slot];
    const uint64_t chunk = task * p->stride;
    uint64_t object, i;
    qn_block b;
    qn_chunks_locate(&p->ix, chunk, &object, &i);
    const uint64_t n = chunk_bytes(p, object, i, &b);
    if (chunk < p->out.n_resumed)
        QN_TRY(adopt_chunk(p, s, chunk, object, n));
    else
        QN_TRY(append_chunk(p, s, chunk, object, &b, n, err));
    const qn_index_chunk *c = &p->ix.chunks[chunk];
    qn_pack_row *row = &p->report->rows[object];
    if (c->codec == QN_CODEC_SHARED)
        note_twin(p, row, c->off);
    row->n_chunks++;
    row->stored_bytes += c->stored_bytes;
    row->n_shared += c->codec == QN_CODEC_SHARED;
    p->report->n_shared += c->codec == QN_CODEC_SHARED;
    p->sampled_bytes += n;
    p->sampled_stored += c->stored_bytes;
    p->done_bytes += n * p->stride;
    if (p->env->progress)
        p->env->progress(p->env->progress_ctx, p->opt->dry_run ? "planning" : "compressing",
                         qn_min_u64(p->done_bytes, p->report->source_bytes), p->report->source_bytes);
    return qn_walk_chunk(&p->walk, object, &s->digest, err);
}

static qn_code object_done(void *ctx, uint64_t object, const qn_digest *digest, qn_err *err)
{
    struct pack *p = ctx;
    (void)err;
    p->ix.objects[object].digest = *digest;
    return QN_OK;
}

static qn_code slots_open(struct pack *p, qn_err *err)
{
    const qn_alloc *a = p->env->alloc;
    p->slots = qn_mem_zeros(a, p->n_slots, sizeof *p->slots, err);
    if (!p->slots)
        return QN_E_MEMORY;
    for (unsigned i = 0; i < p->n_slots; i++) {
        struct slot *s = &p->slots[i];
        qn_arena_init(&s->scratch, a);
        s->raw = qn_mem_get(a, p->max_bytes, err);
        s->out = qn_mem_get(a, p->max_bytes, err);
        s->check = qn_mem_get(a, p->max_bytes, err);
        s->base = p->opt->base ? qn_mem_get(a, p->max_bytes, err) : NULL;
        if (!s->raw || !s->out || !s->check || (p->opt->base && !s->base))
            return QN_E_MEMORY;
    }
    return QN_OK;
}

static void slots_release(struct pack *p)
{
    const qn_alloc *a = p->env->alloc;
    for (unsigned i = 0; p->slots && i < p->n_slots; i++) {
        qn_mem_put(a, p->slots[i].raw);
        qn_mem_put(a, p->slots[i].out);
        qn_mem_put(a, p->slots[i].check);
        qn_mem_put(a, p->slots[i].base);
        qn_arena_release(&p->slots[i].scratch);
    }
    qn_mem_put(a, p->slots);
    p->slots = NULL;
}

/* As many workers as threads and the memory limit allow. */
static qn_code plan_memory(struct pack *p, qn_err *err)
{
    p->max_bytes = qn_chunks_max_bytes(&p->ix);
    return qn_chunks_workers(p->env, p->ix.n_chunks, qn_pack_table_memory(&p->ix, p->opt),
                             qn_pack_slot_memory(p->opt, p->max_bytes), &p->n_slots, err);
}

uint64_t qn_pack_memory(const qn_env *env, const qn_source *src, const qn_pack_options *opt)
{
    uint64_t memory = 0;
    qn_arena arena;
    qn_index ix;
    qn_arena_init(&arena, env->alloc);
    if (plan_chunks(&ix, &arena, src, opt, NULL) == QN_OK)
        memory = qn_pack_table_memory(&ix, opt) +
                 qn_min_u64(env->n_threads, qn_max_u64(1, ix.n_chunks)) * qn_pack_slot_memory(opt, qn_chunks_max_bytes(&ix));
    qn_arena_release(&arena);
    return env->memory_bytes ? qn_min_u64(memory, env->memory_bytes) : memory;
}

static qn_code make_key(struct pack *p, qn_journal_key *key, qn_err *err)
{
    *key = (qn_journal_key){.level = (uint32_t)p->opt->level, .source = qn_chunks_digest(&p->ix)};
    const size_t n = strlen(qn_version());
    memcpy(key->version, qn_version(), n < sizeof key->version ? n : sizeof key->version);
    if (p->opt->lossy)
        key->lossy = qn_lossy_settings(p->opt->lossy);
    if (!p->opt->base)
        return QN_OK;
    qn_arena arena;
    qn_index base;
    qn_arena_init(&arena, p->env->alloc);
    const qn_code rc = qn_chunks_plan(&base, &arena, p->opt->base, err);
    if (rc == QN_OK)
        key->base = qn_chunks_digest(&base);
    qn_arena_release(&arena);
    return rc;
}

static const char *level_name(qn_level level)
{
    return level == QN_LEVEL_FAST ? "lossless=fast" : level == QN_LEVEL_DENSE ? "lossless=dense" : "lossless=max";
}

/* Provenance: no dates, no paths, nothing that differs between two runs on the same input. */
static qn_code set_properties(struct pack *p, const qn_journal_key *key, qn_err *err)
{
    qn_digest source = key->source;
    char hex[33], creator[64];
    for (uint64_t i = 0; i < p->ix.n_objects; i++) {
        uint8_t both[32];
        memcpy(both, source.b, 16);
        memcpy(both + 16, p->ix.objects[i].digest.b, 16);
        source = qn_hash128(both, sizeof both);
    }
    const char **v = qn_arena_get(&p->arena, 14 * sizeof *v, 8, err);
    if (!v)
        return QN_E_MEMORY;
    uint64_t n = 0;
    if (p->opt->base) {
        qn_digest_hex(&key->base, hex);
        v[n++] = "base";
        v[n++] = qn_arena_str(&p->arena, hex, 32, err);
    }
    memcpy(creator, "quern ", 6);
    const size_t len = strlen(qn_version()) < 48 ? strlen(qn_version()) : 48;
    memcpy(creator + 6, qn_version(), len);
    v[n++] = "creator";
    v[n++] = qn_arena_str(&p->arena, creator, len + 6, err);
    if (p->opt->lossy) {
        const qn_digest model = qn_lossy_model(p->opt->lossy);
        qn_digest_hex(&model, hex);
        v[n++] = "lossy";
        v[n++] = qn_lossy_recipe(p->opt->lossy);
        v[n++] = "model";
        v[n++] = qn_arena_str(&p->arena, hex, 32, err);
    }
    v[n++] = "recipe";
    v[n++] = level_name(p->opt->level);
    qn_digest_hex(&source, hex);
    v[n++] = "source";
    v[n++] = qn_arena_str(&p->arena, hex, 32, err);
    const qn_digest stats = p->opt->lossy ? qn_lossy_statistics(p->opt->lossy) : (qn_digest){{0}};
    if (!qn_digest_equal(&stats, &(qn_digest){{0}})) {
        qn_digest_hex(&stats, hex);
        v[n++] = "statistics";
        v[n++] = qn_arena_str(&p->arena, hex, 32, err);
    }
    for (uint64_t i = 0; i < n; i++)
        if (!v[i])
            return QN_E_MEMORY;
    p->ix.props = v;
    p->ix.n_props = n / 2;
    return QN_OK;
}

static qn_code run(struct pack *p, const qn_journal_key *key, qn_err *err)
{
    QN_TRY(qn_dedup_open(&p->dedup, p->env->alloc, p->ix.n_chunks, err));
    QN_TRY(qn_walk_open(&p->walk, &p->ix, object_done, p, err));
    QN_TRY(slots_open(p, err));
    const qn_job job = {.work = work, .commit = commit, .ctx = p};
    const uint64_t n_tasks = qn_ceil_div(p->ix.n_chunks, p->stride);
    QN_TRY(qn_run(p->env, &job, n_tasks, p->n_slots, err));
    if (p->stride > 1)
        return QN_OK;
    QN_TRY(qn_walk_end(&p->walk, err));
    QN_TRY(set_properties(p, key, err));
    return qn_quern_writer_finish(&p->writer, &p->ix, err);
}

static qn_code report_open(struct pack *p, qn_err *err)
{
    qn_pack_report *r = p->report;
    *r = (qn_pack_report){.n_chunks = p->ix.n_chunks, .n_rows = p->ix.n_objects, .n_threads = p->n_slots};
    for (uint64_t i = 0; i < p->ix.n_files; i++)
        r->source_bytes += p->ix.files[i].n_bytes;
    if (p->opt->dry_run && !p->opt->whole && r->source_bytes > SAMPLE_BYTES) {
        p->stride = qn_ceil_div(r->source_bytes, SAMPLE_BYTES);
        r->sampled = true;
    }
    r->rows = qn_mem_zeros(p->env->alloc, r->n_rows, sizeof *r->rows, err);
    if (!r->rows)
        return QN_E_MEMORY;
    for (uint64_t i = 0; i < r->n_rows; i++)
        r->rows[i] = (qn_pack_row){.object = i, .same_as = UINT64_MAX};
    return QN_OK;
}

void qn_pack_report_release(const qn_env *env, qn_pack_report *report)
{
    qn_mem_put(env->alloc, report->rows);
    *report = (qn_pack_report){0};
}

/* OUT itself may be an input (it is replaced at the end by a rename), what we write on the way may not. */
static qn_code note_inputs(struct pack *p, const char *out_path, qn_err *err)
{
    QN_TRY(qn_inputs_add(&p->inputs, p->env, p->src, err));
    if (p->opt->base)
        QN_TRY(qn_inputs_add(&p->inputs, p->env, p->opt->base, err));
    QN_TRY(qn_place_outside(p->src, out_path, err));
    QN_TRY(qn_inputs_refuse(&p->inputs, p->out.partial_path, err));
    return qn_inputs_refuse(&p->inputs, p->out.journal_path, err);
}

static void release_work(struct pack *p)
{
    qn_quern_writer_release(&p->writer);
    qn_walk_release(&p->walk);
    qn_dedup_release(&p->dedup);
    slots_release(p);
}

static qn_code pack(struct pack *p, const char *out_path, qn_err *err)
{
    qn_journal_key key;
    QN_TRY(plan_chunks(&p->ix, &p->arena, p->src, p->opt, err));
    QN_TRY(plan_memory(p, err));
    QN_TRY(report_open(p, err));
    QN_TRY(make_key(p, &key, err));
    if (out_path || !p->opt->dry_run) {
        QN_TRY(qn_output_check(&p->out, p->env, out_path, p->opt->overwrite, err));
        QN_TRY(note_inputs(p, out_path, err));
    }
    if (p->opt->dry_run) {
        QN_TRY(qn_quern_writer_open(&p->writer, p->env, NULL, 0, err));
        QN_TRY(run(p, &key, err));
        p->report->packed_bytes = p->writer.at;
        if (p->report->sampled && p->sampled_bytes)
            p->report->packed_bytes =
                (uint64_t)((double)p->report->source_bytes * (double)p->sampled_stored / (double)p->sampled_bytes);
        return QN_OK;
    }
    QN_TRY(qn_output_open(&p->out, &key, p->opt->restart, p->ix.n_chunks, p->max_bytes, err));
    QN_TRY(qn_quern_writer_open(&p->writer, p->env, &p->out.partial, p->out.end, err));
    p->synced_at = p->out.end;
    QN_TRY(run(p, &key, err));
    QN_TRY(qn_inputs_unchanged(&p->inputs, err));
    p->report->packed_bytes = p->writer.at;
    release_work(p); /* reading back needs the room */
    return qn_output_publish(&p->out, err);
}

qn_code qn_pack(const qn_env *env, qn_source *src, const char *out_path, const qn_pack_options *opt,
                qn_pack_report *report, qn_err *err)
{
    struct pack p = {.env = env, .src = src, .opt = opt, .report = report, .stride = 1, .out = QN_OUTPUT_CLOSED};
    qn_err why;
    *report = (qn_pack_report){0};
    qn_err_clear(&why);
    qn_arena_init(&p.arena, env->alloc);
    qn_kern_init(&p.kern, env->cpu);
    qn_ekern_init(&p.ekern, env->cpu);
    const qn_code rc = pack(&p, out_path, &why);
    /* a stop on request costs nothing; a flush that fails leaves the last checkpoint */
    if (rc == QN_E_CANCELLED && p.writer.buf && p.out.partial.fd >= 0)
        QN_IGNORE(checkpoint(&p, NULL));
    if (rc != QN_OK)
        qn_output_give_up(&p.out, &why);
    release_work(&p);
    qn_output_release(&p.out);
    qn_inputs_release(&p.inputs);
    qn_arena_release(&p.arena);
    if (rc != QN_OK) {
        qn_pack_report_release(env, report);
        if (err && err->code == QN_OK)
            *err = why;
    }
    return rc;
}
