/* journal.c: see journal.h. */
#include "compress/journal.h"
#include "base/err.h"
#include "base/num.h"
#include "compress/lockfile.h"
#include <string.h>

enum { HEAD_BYTES = 96, GROUP_HEAD_BYTES = 8, RECORD_BYTES = 40, GROUP_MAX = 1 << 20 };
static const char magic[8] = "QNJRNL1\n";

static void pack_head(uint8_t h[HEAD_BYTES], const qn_journal_key *key)
{
    memset(h, 0, HEAD_BYTES);
    memcpy(h, magic, 8);
    qn_store32(h + 8, key->level);
    memcpy(h + 16, key->version, 16);
    memcpy(h + 32, key->source.b, 16);
    memcpy(h + 48, key->base.b, 16);
    memcpy(h + 64, key->lossy.b, 16);
    qn_store64(h + 88, qn_hash64(h, 88));
}

static void pack_record(uint8_t *p, const qn_journal_record *r)
{
    memset(p, 0, RECORD_BYTES);
    memcpy(p, r->raw.b, 16);
    qn_store64(p + 16, r->chunk.hash);
    qn_store64(p + 24, r->chunk.off);
    qn_store32(p + 32, r->chunk.stored_bytes);
    p[36] = r->chunk.codec;
}

static void unpack_record(qn_journal_record *r, const uint8_t *p)
{
    memcpy(r->raw.b, p, 16);
    r->chunk = (qn_index_chunk){.hash = qn_load64(p + 16),
                                .off = qn_load64(p + 24),
                                .stored_bytes = qn_load32(p + 32),
                                .codec = p[36]};
}

static uint64_t chain_on(uint64_t chain, const uint8_t *group, uint64_t n)
{
    uint8_t link[16];
    qn_store64(link, chain);
    qn_store64(link + 8, qn_hash64(group, (size_t)n));
    return qn_hash64(link, sizeof link);
}

/* What differs between the journal's run and this one; NULL when nothing does. */
static const char *difference(const uint8_t *h, const qn_journal_key *key)
{
    if (memcmp(h + 16, key->version, 16) != 0)
        return "the program's version";
    if (qn_load32(h + 8) != key->level)
        return "the level";
    if (memcmp(h + 32, key->source.b, 16) != 0)
        return "the input";
    if (memcmp(h + 48, key->base.b, 16) != 0)
        return "the base";
    if (memcmp(h + 64, key->lossy.b, 16) != 0)
        return "what is approximated, and how";
    return NULL;
}

/* Reads whole groups until one does not check; j->at and j->chain stand behind the last good one. */
static qn_code read_groups(qn_journal *j, uint64_t file_bytes, qn_journal_record **records, uint64_t *n_records,
                           qn_err *err)
{
    const qn_alloc *alloc = j->env->alloc;
    uint64_t cap = 0, buf_cap = 0;
    uint8_t *buf = NULL;
    qn_code rc = QN_OK;
    while (rc == QN_OK && file_bytes - j->at >= GROUP_HEAD_BYTES + 8) {
        uint8_t head[GROUP_HEAD_BYTES];
        rc = qn_file_read(&j->file, head, sizeof head, j->at, err);
        const uint64_t n = qn_load32(head), bytes = GROUP_HEAD_BYTES + n * RECORD_BYTES;
        if (rc != QN_OK || n == 0 || n > GROUP_MAX || qn_load32(head + 4) != 0 || bytes + 8 > file_bytes - j->at)
            break;
        uint8_t *b = qn_mem_grow(alloc, buf, 0, &buf_cap, bytes + 8, 1, err);
        qn_journal_record *r = qn_mem_grow(alloc, *records, *n_records, &cap, *n_records + n, sizeof **records, err);
        buf = b ? b : buf;
        *records = r ? r : *records;
        if (!b || !r) {
            rc = QN_E_MEMORY;
            break;
        }
        rc = qn_file_read(&j->file, buf, bytes + 8, j->at, err);
        if (rc != QN_OK)
            break;
        const uint64_t chain = chain_on(j->chain, buf, bytes);
        if (chain != qn_load64(buf + bytes))
            break;
        for (uint64_t i = 0; i < n; i++)
            unpack_record(&(*records)[(*n_records)++], buf + GROUP_HEAD_BYTES + i * RECORD_BYTES);
        j->chain = chain;
        j->at += bytes + 8;
    }
    qn_mem_put(alloc, buf);
    return rc;
}

qn_code qn_journal_resume(qn_journal *j, qn_journal_record **records, uint64_t *n_records, qn_err *err)
{
    qn_stat st;
    *records = NULL;
    *n_records = 0;
    QN_TRY(qn_file_stat(&j->file, &st, err));
    QN_TRY(read_groups(j, st.n_bytes, records, n_records, err));
    j->n_safe = *n_records;
    /* else what stands there could seem to follow the groups that are written next */
    return j->at < st.n_bytes ? qn_file_truncate(&j->file, j->at, err) : QN_OK;
}

qn_code qn_journal_forget(qn_journal *j, qn_err *err)
{
    uint8_t h[HEAD_BYTES];
    QN_TRY(qn_file_read(&j->file, h, sizeof h, 0, err));
    QN_TRY(qn_file_truncate(&j->file, HEAD_BYTES, err));
    QN_TRY(qn_file_sync(&j->file, err));
    j->at = HEAD_BYTES;
    j->chain = qn_load64(h + 88);
    j->n_safe = j->n_pending = 0;
    return QN_OK;
}

qn_code qn_journal_begin(qn_journal *j, const qn_journal_key *key, qn_err *err)
{
    uint8_t h[HEAD_BYTES];
    pack_head(h, key);
    if (!j->is_new) { /* a torn header is told from a foreign file by its length: nothing may stand behind it */
        QN_TRY(qn_file_truncate(&j->file, 0, err));
        QN_TRY(qn_file_sync(&j->file, err));
    }
    QN_TRY(qn_file_write(&j->file, h, sizeof h, 0, err));
    QN_TRY(qn_file_sync(&j->file, err));
    j->at = HEAD_BYTES;
    j->chain = qn_load64(h + 88);
    j->n_safe = j->n_pending = 0;
    return QN_OK;
}

qn_code qn_journal_look(qn_journal *j, const qn_journal_key *key, qn_journal_state *state, const char **differs,
                        qn_err *err)
{
    uint8_t h[HEAD_BYTES];
    qn_stat st;
    *differs = NULL;
    *state = QN_JOURNAL_BLANK;
    QN_TRY(qn_file_stat(&j->file, &st, err));
    if (st.n_bytes < HEAD_BYTES)
        return QN_OK;
    QN_TRY(qn_file_read(&j->file, h, sizeof h, 0, err));
    if (memcmp(h, magic, 8) != 0 || qn_load64(h + 88) != qn_hash64(h, 88)) {
        *state = st.n_bytes == HEAD_BYTES ? QN_JOURNAL_BLANK : QN_JOURNAL_FOREIGN;
        return QN_OK;
    }
    *differs = difference(h, key);
    *state = *differs ? QN_JOURNAL_OTHER : QN_JOURNAL_OURS;
    j->at = HEAD_BYTES;
    j->chain = qn_load64(h + 88);
    return QN_OK;
}

qn_code qn_journal_open(qn_journal *j, const qn_env *env, const char *path, qn_err *err)
{
    *j = (qn_journal){.env = env, .file = QN_FILE_CLOSED};
    return qn_lockfile_open(&j->file, env, path, &j->is_new, err);
}

qn_code qn_journal_add(qn_journal *j, const qn_journal_record *r, qn_err *err)
{
    if (j->n_pending == GROUP_MAX)
        return QN_BUG(err, "journal: %d records and no checkpoint", GROUP_MAX);
    const uint64_t used = GROUP_HEAD_BYTES + j->n_pending * RECORD_BYTES;
    uint8_t *p = qn_mem_grow(j->env->alloc, j->pending, used, &j->pending_cap, used + RECORD_BYTES + 8, 1, err);
    if (!p)
        return QN_E_MEMORY;
    j->pending = p;
    pack_record(p + used, r);
    j->n_pending++;
    return QN_OK;
}

qn_code qn_journal_commit(qn_journal *j, qn_err *err)
{
    if (j->n_pending == 0)
        return QN_OK;
    const uint64_t bytes = GROUP_HEAD_BYTES + j->n_pending * RECORD_BYTES;
    qn_store32(j->pending, (uint32_t)j->n_pending);
    qn_store32(j->pending + 4, 0);
    const uint64_t chain = chain_on(j->chain, j->pending, bytes);
    qn_store64(j->pending + bytes, chain);
    QN_TRY(qn_file_write(&j->file, j->pending, bytes + 8, j->at, err));
    QN_TRY(qn_file_sync(&j->file, err));
    j->chain = chain;
    j->at += bytes + 8;
    j->n_safe += j->n_pending;
    j->n_pending = 0;
    return QN_OK;
}

void qn_journal_release(qn_journal *j)
{
    if (j->env)
        qn_mem_put(j->env->alloc, j->pending);
    j->pending = NULL;
    qn_file_drop(&j->file);
}
