/* streams.c: see streams.h. */
#include "formats/npz/streams.h"
#include "base/err.h"
#include "base/num.h"
#include <string.h>

enum { SKIP_BYTES = 64 << 10 };

void qn_streams_init(qn_streams *s, const qn_env *env, const qn_zip *zip)
{
    *s = (qn_streams){.env = env, .zip = zip};
    pthread_mutex_init(&s->lock, NULL);
}

void qn_streams_release(qn_streams *s)
{
    for (unsigned i = 0; i < s->n_idle; i++)
        qn_zip_stream_close(&s->idle[i]);
    s->n_idle = 0;
    pthread_mutex_destroy(&s->lock);
}

static qn_zip_stream remove_idle(qn_streams *s, unsigned i)
{
    const qn_zip_stream st = s->idle[i];
    s->n_idle--;
    memmove(&s->idle[i], &s->idle[i + 1], (s->n_idle - i) * sizeof st);
    return st;
}

/* The idle stream of this entry that is nearest before `off`. */
static bool check_out(qn_streams *s, const qn_zip_entry *e, uint64_t off, qn_zip_stream *out)
{
    pthread_mutex_lock(&s->lock);
    unsigned best = s->n_idle;
    for (unsigned i = 0; i < s->n_idle; i++)
        if (s->idle[i].entry == e && s->idle[i].n_out <= off && (best == s->n_idle || s->idle[i].n_out > s->idle[best].n_out))
            best = i;
    const bool found = best < s->n_idle;
    if (found)
        *out = remove_idle(s, best);
    pthread_mutex_unlock(&s->lock);
    return found;
}

static void check_in(qn_streams *s, qn_zip_stream *st)
{
    qn_zip_stream spare = {0};
    if (st->n_out == st->entry->n_bytes) {
        qn_zip_stream_close(st);
        return;
    }
    pthread_mutex_lock(&s->lock);
    if (s->n_idle == QN_STREAMS_IDLE)
        spare = remove_idle(s, 0);
    s->idle[s->n_idle++] = *st;
    pthread_mutex_unlock(&s->lock);
    qn_zip_stream_close(&spare);
}

static qn_code skip_to(qn_streams *s, qn_zip_stream *st, uint64_t off, qn_err *err)
{
    if (st->n_out == off)
        return QN_OK;
    uint8_t *waste = qn_mem_get(s->env->alloc, SKIP_BYTES, err);
    if (!waste)
        return QN_E_MEMORY;
    qn_code rc = QN_OK;
    while (rc == QN_OK && st->n_out < off) {
        rc = qn_env_check(s->env, err);
        if (rc == QN_OK)
            rc = qn_zip_stream_read(st, waste, qn_min_u64(SKIP_BYTES, off - st->n_out), err);
    }
    qn_mem_put(s->env->alloc, waste);
    return rc;
}

qn_code qn_streams_read(qn_streams *s, const qn_zip_entry *e, uint64_t off, uint64_t n, void *dst, qn_err *err)
{
    qn_zip_stream st;
    if (n == 0)
        return QN_OK;
    qn_code rc = QN_OK;
    if (!check_out(s, e, off, &st))
        rc = qn_zip_stream_open(&st, s->zip, e, err);
    if (rc == QN_OK)
        rc = skip_to(s, &st, off, err);
    if (rc == QN_OK)
        rc = qn_zip_stream_read(&st, dst, n, err);
    if (rc == QN_OK)
        check_in(s, &st);
    else
        qn_zip_stream_close(&st);
    return rc;
}
