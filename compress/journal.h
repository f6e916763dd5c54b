/* journal.h: what a killed `compress` leaves behind so that the next one can go on.
 *
 * OUT.partial holds payloads from the front; OUT.journal says which chunks they are. Groups of records are appended
 * only after the payloads they name have been fsynced, and each group ends with a checksum chained to the one
 * before, so a torn tail is recognised and dropped.
 *
 * A partial is ours only while the journal beside it has a good header: the header is safe on the disk, name and bytes,
 * before the partial is created, and the partial is gone before the header is written over. Layout, little-endian:
 *
 *   header (96): magic "QNJRNL1\n" │ level u32 │ zero u32 │ version text 16 │ source digest 16 │ base digest 16 │ lossy digest 16 │ zeros 8 │
 *                XXH3-64 of the 88 bytes before
 *   group: n u32 │ zero u32 │ n records of 40 bytes │ XXH3-64 of (previous checksum, this group); the first group follows
 *          the header's
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
    qn_digest lossy;  /* of how tensors are approximated, zeros for a lossless run        */
} qn_journal_key;

typedef struct qn_journal_record {
    qn_digest raw;
    qn_index_chunk chunk;
} qn_journal_record;

typedef struct qn_journal {
    const qn_env *env;
    qn_file file;
    bool is_new;       /* this run created the file                */
    uint64_t n_safe;   /* records on the disk                      */
    uint64_t at, chain;
    uint8_t *pending;  /* records not yet appended                 */
    uint64_t n_pending, pending_cap;
} qn_journal;

/* What an open journal holds. */
typedef enum qn_journal_state {
    QN_JOURNAL_BLANK,   /* nothing, or a header that a cut has left unfinished      */
    QN_JOURNAL_FOREIGN, /* not a journal                                            */
    QN_JOURNAL_OTHER,   /* a journal of a run that differs from this one            */
    QN_JOURNAL_OURS
} qn_journal_state;

/* Opens or creates `path` and locks it. QN_E_USAGE when another run holds it. */
qn_code qn_journal_open(qn_journal *j, const qn_env *env, const char *path, qn_err *err) QN_MUST_CHECK;
/* Looks at the header; *difference names what differs from `key` (OTHER), static storage. */
qn_code qn_journal_look(qn_journal *j, const qn_journal_key *key, qn_journal_state *state, const char **difference,
                        qn_err *err) QN_MUST_CHECK;
/* Reads the records of an OURS journal (owned by the caller, also after a failure) and drops a torn tail. */
qn_code qn_journal_resume(qn_journal *j, qn_journal_record **records, uint64_t *n_records, qn_err *err) QN_MUST_CHECK;
/* Remembers a chunk; nothing is written before the next commit. */
qn_code qn_journal_add(qn_journal *j, const qn_journal_record *r, qn_err *err) QN_MUST_CHECK;
/* Appends what is pending and fsyncs. The payloads must have been fsynced before. */
qn_code qn_journal_commit(qn_journal *j, qn_err *err) QN_MUST_CHECK;
/* Forgets every record of an OURS journal. */
qn_code qn_journal_forget(qn_journal *j, qn_err *err) QN_MUST_CHECK;
/* Begins anew with this key. There must be no partial. */
qn_code qn_journal_begin(qn_journal *j, const qn_journal_key *key, qn_err *err) QN_MUST_CHECK;
void qn_journal_release(qn_journal *j);

#endif
