/* quern/quern.h: the whole job from C: pack a checkpoint into a .quern, restore it, verify it. The API of libquern.
 *
 *     qn_pack_settings s = QN_PACK_SETTINGS_INIT;
 *     qn_err err = {0};
 *     if (qn_pack_file("model.safetensors", "model.quern", &s, NULL, &err) != QN_OK) …
 *
 * INPUT is whatever the command line takes: a .safetensors file, its index.json, a model folder, a .npy or .npz, a
 * .quern, or an archive that holds one of these: then the files in it are packed, and not the archive. Reading single tensors of a .quern is quern/runtime.h. No global state, nothing printed; a call may use several threads.
 */
#ifndef QUERN_QUERN_H
#define QUERN_QUERN_H

#include "quern/runtime.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef enum qn_pack_level {
    QN_PACK_FAST = 1,  /* decodes at the speed of a copy                            */
    QN_PACK_DENSE = 2, /* smaller than the order-0 entropy of the exponents, default */
    QN_PACK_MAX = 3    /* for archives: a few MB/s                                  */
} qn_pack_level;

/* Called from one thread at a time; total_bytes 0: unknown. A result other than 0 stops the call soon, with
 * QN_E_CANCELLED; what was packed so far is kept for the next call. */
typedef int (*qn_progress_fn)(void *ctx, const char *what, uint64_t done_bytes, uint64_t total_bytes);

/* Zero means the default everywhere. Begin with QN_PACK_SETTINGS_INIT, which fills struct_bytes so that the struct can
 * grow. Everything is borrowed for the call. */
typedef struct qn_pack_settings {
    size_t struct_bytes;
    qn_pack_level level;
    unsigned n_threads;         /* 0: as many as the process may use                              */
    uint64_t memory_bytes;      /* 0: no limit                                                    */
    const char *base;           /* checkpoint that INPUT is packed (or was packed) as a difference to */
    bool overwrite;             /* replace an existing OUTPUT                                     */
    bool restart;               /* throw a partial result away instead of resuming it             */
    const qn_alloc *alloc;      /* NULL: the C library's heap                                     */
    qn_progress_fn progress;    /* NULL: none                                                     */
    void *progress_ctx;
    const char *recipe;         /* NULL: nothing is lost. Else the text of a recipe (YAML, docs/recipes.md): "{codec: ect, bits: 3}"
                                   approximates the weights of linear layers, "{codec: ect, size: 40MB}" so that OUTPUT has that size */
    const char *statistics;     /* with a recipe: path of the model's statistics (quern calibrate); NULL: every input counts alike */
} qn_pack_settings;

#define QN_PACK_SETTINGS_INIT {sizeof(qn_pack_settings), QN_PACK_DENSE, 0, 0, NULL, false, false, NULL, NULL, NULL, NULL, NULL}

typedef struct qn_pack_totals {
    uint64_t source_bytes, packed_bytes;
    uint64_t n_tensors, n_chunks;
    uint64_t n_shared;  /* chunks equal to an earlier one and stored once */
    uint64_t n_resumed; /* chunks taken over from an unfinished run       */
} qn_pack_totals;

/* INPUT → OUTPUT.quern, atomically: written beside OUTPUT, synced, read back, renamed. `settings`, `totals` may be NULL.
 * An interrupted run is picked up by the same call and gives the same bytes. */
QN_API qn_code qn_pack_file(const char *input, const char *output, const qn_pack_settings *settings,
                            qn_pack_totals *totals, qn_err *err) QN_MUST_CHECK;

/* .quern → the file or folder that it was made from, byte for byte, atomically. Of settings: n_threads, memory_bytes,
 * base, overwrite, alloc, progress. */
QN_API qn_code qn_unpack_file(const char *input, const char *output, const qn_pack_settings *settings,
                              qn_err *err) QN_MUST_CHECK;

/* Every checksum, every padding byte, every chunk decoded and compared with its digest. */
QN_API qn_code qn_verify_file(const char *path, const qn_pack_settings *settings, qn_err *err) QN_MUST_CHECK;

#ifdef __cplusplus
}
#endif
#endif
