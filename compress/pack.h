/* pack.h: the lossless job: any source → .quern, and back.
 *
 * One pass over the source. Each chunk is encoded by a worker, decoded again and compared there, and appended in order.
 * The output is written to OUT.partial beside OUT, with OUT.journal recording finished chunks, and renamed at the end
 * after fsync and a full re-read. A killed run is picked up again by the same command and gives the same bytes; so is one
 * that ended by request, by an I/O error or for want of memory, when a checkpoint had been reached. After other errors,
 * a full disk among them, nothing is left. OUT may be one of the files that are read, it is
 * replaced last; an input that changes is an error. */
#ifndef QN_COMPRESS_PACK_H
#define QN_COMPRESS_PACK_H

#include "compress/encode.h"
#include "formats/source.h"

typedef struct qn_pack_options {
    qn_level level;
    struct qn_lossy *lossy; /* lossy.h: tensors to approximate; NULL: none. Not with `base`                  */
    qn_source *base;   /* --base: pack tensors of equal name, dtype and shape as differences; NULL: none */
    bool overwrite;    /* replace an existing OUT                                                        */
    bool restart;      /* throw a partial result away instead of resuming it                             */
    bool dry_run;      /* encode (all, or a sample when large) but write nothing; OUT may be NULL        */
    bool whole;        /* with dry_run: all of it, however large                                        */
    uint64_t checkpoint_bytes; /* payloads between two checkpoints: what a kill can cost; 0: 64 MiB      */
} qn_pack_options;

/* What happened to one object, for reports. */
typedef struct qn_pack_row {
    uint64_t object;                     /* index in the source                                */
    uint64_t stored_bytes;               /* payloads; chunks shared with earlier ones count 0  */
    uint64_t n_chunks, n_shared;         /* shared: equal to an earlier chunk, stored once     */
    uint64_t raw_by_codec[QN_CODEC_COUNT];    /* uncompressed bytes that each codec took      */
    uint64_t stored_by_codec[QN_CODEC_COUNT]; /* and what it made of them                     */
    uint64_t same_as;                    /* with n_shared == n_chunks: the object that holds all of its chunks;
                                            UINT64_MAX when there is no single one      */
} qn_pack_row;

typedef struct qn_pack_report {
    uint64_t source_bytes, packed_bytes; /* whole files; packed is an estimate when sampled     */
    uint64_t n_chunks, n_shared, n_resumed;
    unsigned n_threads;                  /* workers that the memory limit allowed                       */
    bool sampled;                        /* dry run on a large source                          */
    uint64_t n_rows;
    qn_pack_row *rows;                   /* one per object, source order                       */
} qn_pack_report;

qn_code qn_pack(const qn_env *env, qn_source *src, const char *out_path, const qn_pack_options *opt,
                qn_pack_report *report, qn_err *err) QN_MUST_CHECK;
void qn_pack_report_release(const qn_env *env, qn_pack_report *report);
/* Most memory that qn_pack will hold with these settings, for --dry-run and --memory. */
uint64_t qn_pack_memory(const qn_env *env, const qn_source *src, const qn_pack_options *opt);

typedef struct qn_unpack_options {
    bool overwrite;
    bool dry_run;
    bool salvage; /* write what is intact: damaged chunks become zeros, each is reported through `damaged` */
    void (*damaged)(void *ctx, const qn_err *what);
    void *damaged_ctx;
} qn_unpack_options;

/* Restores the original file, or the directory, at out_path: temporary name, fsync, rename; every file's digest is
 * checked before anything is published. With salvage, returns QN_E_INPUT when something was damaged, after publishing. */
qn_code qn_unpack(const qn_env *env, qn_source *packed, const char *out_path, const qn_unpack_options *opt,
                  uint64_t *n_bytes, qn_err *err) QN_MUST_CHECK;

/* Checks a .quern from first to last byte: structure, paddings, checksums, and decodes everything against the digests.
 * `bad` is called for every damaged chunk (NULL: stop at the first). */
qn_code qn_verify(const qn_env *env, qn_source *packed, void (*bad)(void *ctx, const qn_err *what), void *bad_ctx,
                  qn_err *err) QN_MUST_CHECK;

#endif
