/* write.h: writing safetensors files: in the reference writer's order, in one pass over the source, published only when
 * whole and read back. */
#ifndef QN_FORMATS_SAFETENSORS_WRITE_H
#define QN_FORMATS_SAFETENSORS_WRITE_H

#include "base/textbuf.h"
#include "formats/source.h"

/* A tensor to be written. Borrowed. */
typedef struct qn_out_tensor {
    const char *name;
    const uint64_t *dims;
    uint64_t n_bytes; /* what dtype and dims need */
    uint64_t id;      /* the caller's: comes back in read */
    uint8_t dtype, rank;
} qn_out_tensor;

/* n bytes of tensor `id` from byte off. */
typedef qn_code (*qn_out_read_fn)(void *ctx, uint64_t id, uint64_t off, uint64_t n, void *dst, qn_err *err);

typedef struct qn_safetensors_options {
    const char *metadata; /* JSON object of strings; NULL: the source's own, or {"format":"pt"} when it has none */
    uint64_t shard_bytes; /* for _write_dir: most data in one file, 0: no limit; one larger tensor has its own   */
    bool overwrite;
} qn_safetensors_options;

/* Writes a file of these tensors. They are sorted in place: dtype with the highest number first (so widths descend and
 * every tensor is aligned to its own), then by name. The header is padded with spaces to a multiple of 8. */
qn_code qn_safetensors_write(const qn_env *env, const char *path, qn_out_tensor *t, uint64_t n, qn_out_read_fn read,
                             void *ctx, const qn_safetensors_options *opt, qn_err *err) QN_MUST_CHECK;
/* All tensors of a source into one file. */
qn_code qn_safetensors_write_file(const qn_env *env, qn_source *s, const char *path, const qn_safetensors_options *opt,
                                  qn_err *err) QN_MUST_CHECK;
/* All tensors of a source into an existing folder: model.safetensors, or model-00001-of-0000N.safetensors … and
 * model.safetensors.index.json. Files appear together at the end, the index last. */
qn_code qn_safetensors_write_dir(const qn_env *env, qn_source *s, const char *dir, const qn_safetensors_options *opt,
                                 uint64_t *n_shards, qn_err *err) QN_MUST_CHECK;

/* The text of the first __metadata__ object that a safetensors header of the source holds, to be freed with qn_mem_put;
 * *out = NULL when there is none. */
qn_code qn_safetensors_metadata(qn_source *s, char **out, qn_err *err) QN_MUST_CHECK;

/* The two halves of qn_safetensors_write, for sets: the file under a temporary name, synced and read back; its name
 * (freed with qn_mem_put) is in *tmp when QN_OK. */
qn_code qn_safetensors_write_tmp(const qn_env *env, const char *path, qn_out_tensor *t, uint64_t n, qn_out_read_fn read,
                                 void *ctx, const char *metadata, char **tmp, qn_err *err) QN_MUST_CHECK;

/* The text of model.safetensors.index.json: which file of the set has which tensor, n_bytes of data in all. Entries are sorted in place. */
typedef struct qn_shard_entry {
    const char *tensor, *shard; /* shard: a file name */
} qn_shard_entry;
qn_code qn_safetensors_index_text(qn_textbuf *t, qn_shard_entry *e, uint64_t n, uint64_t n_bytes, qn_err *err) QN_MUST_CHECK;

#endif
