/* output.h: the file that a packing run writes, from the first look at OUT to its final name.
 *
 * States, and what a cut leaves behind:
 *   journal created and locked, header on the disk → OUT.partial created → payloads appended, now and then synced and
 *   journalled → index and footer appended → synced → re-read → renamed over OUT → journal removed.
 * Until the rename OUT is untouched. A partial whose journal has no good header is not ours. */
#ifndef QN_COMPRESS_OUTPUT_H
#define QN_COMPRESS_OUTPUT_H

#include "compress/journal.h"

/* Zero-initialise with QN_OUTPUT_CLOSED; release with qn_output_release whatever happened. */
typedef struct qn_output {
    const qn_env *env;
    const char *path; /* OUT, borrowed */
    char *partial_path, *journal_path;
    qn_journal journal;
    qn_file partial;
    bool overwrite;
    bool ours;                  /* what has the partial's name may be removed by us */
    qn_journal_record *resumed; /* what an unfinished run has left in the partial   */
    uint64_t n_resumed;
    uint64_t end;               /* bytes of the partial that are good: 0 for a new one */
} qn_output;

#define QN_OUTPUT_CLOSED ((qn_output){.journal = {.file = {.fd = -1}}, .partial = {.fd = -1}})

/* Names, and whether OUT may be written at all. Nothing is touched. */
qn_code qn_output_check(qn_output *o, const qn_env *env, const char *path, bool overwrite, qn_err *err) QN_MUST_CHECK;
/* Takes the lock, finds what can be resumed, makes the partial ready for appending at o->end. */
qn_code qn_output_open(qn_output *o, const qn_journal_key *key, bool restart, uint64_t n_chunks, uint64_t max_stored_bytes,
                       qn_err *err) QN_MUST_CHECK;
/* Payloads that were written so far become resumable. */
qn_code qn_output_checkpoint(qn_output *o, qn_err *err) QN_MUST_CHECK;
/* The file is complete: sync, read back, give it its name. */
qn_code qn_output_publish(qn_output *o, qn_err *err) QN_MUST_CHECK;
/* After a failure: keeps what can be resumed when going on makes sense, else removes it. */
void qn_output_give_up(qn_output *o, const qn_err *why);
void qn_output_release(qn_output *o);

#endif
