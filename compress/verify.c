/* verify.c: see verify.h and qn_verify in pack.h. */
#include "compress/verify.h"
#include "base/err.h"
#include "base/num.h"
#include "base/threads.h"
#include "compress/chunks.h"
#include "compress/pack.h"
#include "compress/walk.h"
#include "formats/quern/source.h"

struct slot {
    qn_worker worker;
    uint8_t *raw;
    qn_digest digest;
    qn_code rc; /* damage found in this chunk */
    qn_err why;
};

struct verify {
    const qn_env *env;
    qn_reader *reader;
    const qn_index *ix;
    bool decode;
    struct slot *slots;
    unsigned n_slots;
    void (*bad)(void *ctx, const qn_err *what);
    void *bad_ctx;
    qn_walk walk;
    uint64_t damaged_object; /* its digest cannot match: reported already */
    uint64_t n_bad, done_bytes, total_bytes;
    qn_err first;
};

static qn_code check_payload(struct verify *v, struct slot *s, uint64_t object, uint64_t i, qn_err *err)
{
    const uint64_t chunk = v->ix->objects[object].first_chunk + i;
    QN_TRY(qn_reader_check_gap(v->reader, chunk, err));
    if (v->ix->chunks[chunk].codec == QN_CODEC_SHARED && !v->decode)
        return QN_OK;
    if (!v->decode)
        return qn_reader_check_payload(v->reader, &s->worker, object, i, err);
    QN_TRY(qn_reader_chunk(v->reader, &s->worker, object, i, s->raw, err));
    const qn_block b = qn_index_block(&v->ix->objects[object], i);
    s->digest = qn_hash128(s->raw, (size_t)b.n * qn_unit_bytes(b.dtype));
    return QN_OK;
}

static bool is_damage(qn_code rc)
{
    return rc == QN_E_INPUT || rc == QN_E_UNSUPPORTED;
}

static qn_code work(void *ctx, uint64_t task, unsigned slot, qn_err *err)
{
    struct verify *v = ctx;
    struct slot *s = &v->slots[slot];
    uint64_t object, i;
    QN_TRY(qn_env_check(v->env, err));
    qn_chunks_locate(v->ix, task, &object, &i);
    qn_err_clear(&s->why);
    s->rc = check_payload(v, s, object, i, &s->why);
    if (s->rc == QN_OK || is_damage(s->rc))
        return QN_OK; /* damage is reported at commit, in order */
    *err = s->why;
    return s->rc;
}

static qn_code report(struct verify *v, const qn_err *what, qn_err *err)
{
    if (v->n_bad++ == 0)
        v->first = *what;
    if (!v->bad) {
        if (err && err->code == QN_OK)
            *err = *what;
        return what->code;
    }
    v->bad(v->bad_ctx, what);
    return QN_OK;
}

static qn_code commit(void *ctx, uint64_t task, unsigned slot, qn_err *err)
{
    struct verify *v = ctx;
    struct slot *s = &v->slots[slot];
    uint64_t object, i;
    qn_chunks_locate(v->ix, task, &object, &i);
    const qn_block b = qn_index_block(&v->ix->objects[object], i);
    v->done_bytes += (uint64_t)b.n * qn_unit_bytes(b.dtype);
    if (v->env->progress)
        v->env->progress(v->env->progress_ctx, "verifying", v->done_bytes, v->total_bytes);
    if (v->decode)
        QN_TRY(qn_walk_to(&v->walk, object, err));
    if (s->rc != QN_OK) {
        v->damaged_object = object;
        QN_TRY(report(v, &s->why, err));
        s->digest = (qn_digest){{0}};
    }
    return v->decode ? qn_walk_chunk(&v->walk, object, &s->digest, err) : QN_OK;
}

static qn_code object_done(void *ctx, uint64_t object, const qn_digest *digest, qn_err *err)
{
    struct verify *v = ctx;
    const qn_index_object *o = &v->ix->objects[object];
    if (qn_digest_equal(digest, &o->digest) || object == v->damaged_object)
        return QN_OK;
    qn_err what;
    qn_err_clear(&what);
    (void)QN_FAIL(&what, QN_E_INPUT, QN_NO_OFFSET, "decoded bytes do not have the recorded digest");
    (void)qn_err_in_path(&what, QN_E_INPUT, qn_reader_path(v->reader));
    (void)qn_err_in_tensor(&what, QN_E_INPUT, o->is_tensor ? o->name : v->ix->files[o->file].path);
    return report(v, &what, err);
}

static qn_code slots_open(struct verify *v, qn_err *err)
{
    const uint64_t max = qn_chunks_max_bytes(v->ix);
    QN_TRY(qn_chunks_workers(v->env, v->ix->n_chunks, 0, (1 + QN_READ_CHUNKS) * max, &v->n_slots, err));
    v->slots = qn_mem_zeros(v->env->alloc, v->n_slots, sizeof *v->slots, err);
    if (!v->slots)
        return QN_E_MEMORY;
    for (unsigned i = 0; i < v->n_slots; i++)
        qn_worker_init(&v->slots[i].worker, v->env->alloc);
    for (unsigned i = 0; i < v->n_slots && v->decode; i++) {
        v->slots[i].raw = qn_mem_get(v->env->alloc, max, err);
        if (!v->slots[i].raw)
            return QN_E_MEMORY;
    }
    return QN_OK;
}

static qn_code verify(struct verify *v, qn_err *err)
{
    v->ix = qn_reader_index(v->reader);
    v->damaged_object = UINT64_MAX;
    for (uint64_t f = 0; f < v->ix->n_files; f++)
        v->total_bytes += v->ix->files[f].n_bytes;
    qn_code rc = slots_open(v, err);
    if (rc == QN_OK)
        rc = qn_walk_open(&v->walk, v->ix, object_done, v, err);
    const qn_job job = {.work = work, .commit = commit, .ctx = v};
    if (rc == QN_OK)
        rc = qn_run(v->env, &job, v->ix->n_chunks, v->n_slots, err);
    if (rc == QN_OK && v->decode)
        rc = qn_walk_end(&v->walk, err);
    qn_walk_release(&v->walk);
    for (unsigned i = 0; v->slots && i < v->n_slots; i++) {
        qn_worker_release(&v->slots[i].worker);
        qn_mem_put(v->env->alloc, v->slots[i].raw);
    }
    qn_mem_put(v->env->alloc, v->slots);
    if (rc == QN_OK && v->n_bad) {
        if (err && err->code == QN_OK)
            *err = v->first;
        rc = QN_E_INPUT;
    }
    return rc;
}

qn_code qn_verify(const qn_env *env, qn_source *packed, void (*bad)(void *ctx, const qn_err *what), void *bad_ctx,
                  qn_err *err)
{
    struct verify v = {.env = env, .decode = true, .bad = bad, .bad_ctx = bad_ctx};
    v.reader = qn_quern_source_reader(packed);
    if (!v.reader)
        return qn_err_in_path(err, QN_FAIL(err, QN_E_USAGE, QN_NO_OFFSET, "is not a .quern file"), packed->path);
    return verify(&v, err);
}

qn_code qn_verify_written(const qn_env *env, const char *path, qn_err *err)
{
    struct verify v = {.env = env};
    qn_err why;
    qn_err_clear(&why);
    qn_code rc = qn_reader_open_env(env, path, &v.reader, &why);
    if (rc == QN_OK)
        rc = verify(&v, &why);
    qn_reader_close(v.reader);
    if (rc == QN_OK || rc == QN_E_MEMORY || rc == QN_E_IO || rc == QN_E_CANCELLED) {
        if (rc != QN_OK && err && err->code == QN_OK)
            *err = why;
        return rc;
    }
    char line[300];
    qn_err_line(&why, line, sizeof line);
    return qn_err_in_path(err, QN_FAIL(err, QN_E_VERIFY, QN_NO_OFFSET, "does not read back: %s", line), path);
}
