/* journal.h: what a killed `compress` leaves behind so that the next one can go on.
 *
 * OUT.partial holds payloads from the front; OUT.journal says which chunks they are. Groups of records are appended
 * only after the payloads they name have been fsynced, and each group ends with a checksum chained to the one
 * before, so a torn tail is recognised and dropped. Layout, little-endian:
 *
 *   header (96): magic "QNJRNL1\n" │ level u32 │ zero u32 │ version text 16 │ source digest 16 │ base digest 16 │ zeros 24 │
 *                XXH3-64 of the 88 bytes before
 *   group: n u32 │ zero u32 │ n records of 40 bytes │ XXH3-64 of (previous checksum, this group)
 *   record: raw digest 16 │ payload hash 8 │ offset or shared chunk 8 │ stored bytes u32 │ codec u8 │ zeros 3
 */
#ifndef QN_COMPRESS_JOURNAL_H
#define QN_COMPRESS_JOURNAL_H

#include "base/env.h"
#include "base/hash.h"
#include "runtime/container.h"

typedef struct qn_journal_key {
    uint32_t level;
    char version[16];
    qn_digest source; /* names, dtypes, shapes, sizes: the list of chunks follows from it */
    qn_digest base;   /* the same of the base checkpoint, zeros when there is none        */
} qn_journal_key;

typedef struct qn_journal_record {
    qn_digest raw;
    qn_index_chunk chunk;
} qn_journal_record;

typedef struct qn_journal {
    const qn_env *env;
    qn_file file;
    uint64_t at, chain;
    uint8_t *pending; /* records not yet appended */
    uint64_t n_pending, pending_cap;
} qn_journal;

/* Opens or creates `path` and locks it. An existing journal with an equal key yields its records (owned by the caller);
 * with another key it is refused, naming the difference, unless `restart`. QN_E_USAGE when another run holds it. */
qn_code qn_journal_open(qn_journal *j, const qn_env *env, const char *path, const qn_journal_key *key, bool restart,
                        qn_journal_record **records, uint64_t *n_records, qn_err *err) QN_MUST_CHECK;
/* Remembers a chunk; nothing is written before the next commit. */
qn_code qn_journal_add(qn_journal *j, const qn_journal_record *r, qn_err *err) QN_MUST_CHECK;
/* Appends what is pending and fsyncs. The payloads must have been fsynced before. */
qn_code qn_journal_commit(qn_journal *j, qn_err *err) QN_MUST_CHECK;
/* Forgets everything after the header: the partial file is being started again. */
qn_code qn_journal_clear(qn_journal *j, const qn_journal_key *key, qn_err *err) QN_MUST_CHECK;
void qn_journal_release(qn_journal *j);

#endif
