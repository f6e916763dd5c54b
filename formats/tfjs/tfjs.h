/* tfjs.h: TensorFlow.js models: model.json and the shards that it names, layers-model and graph-model alike.
 *
 * The weights are those of weightsManifest. The bytes of a group are its files one after the other; its weights lie in them
 * one after the other, unaligned, so that a weight may lie in several files. */
#ifndef QN_FORMATS_TFJS_TFJS_H
#define QN_FORMATS_TFJS_TFJS_H

#include "formats/fileset.h"

typedef enum qn_tfjs_kind { QN_TFJS_PLAIN, QN_TFJS_U8, QN_TFJS_U16, QN_TFJS_F16 } qn_tfjs_kind;

typedef struct qn_tfjs_weight {
    const char *name;
    const char *object_name; /* of its bytes where they lie: NAME, or NAME:uint8 … when quantized: see docs/tfjs.md */
    const uint64_t *dims;
    uint64_t n_elems, n_bytes; /* as they lie                                        */
    uint64_t off;              /* in the bytes of its group                          */
    uint64_t object;           /* or QN_NO_OBJECT                                    */
    double scale, min;         /* of U8, U16: value = code · scale + min              */
    struct qn_tfjs_model *model;
    uint32_t group;
    uint8_t rank, dtype;       /* qn_dtype of the values; BYTES: strings, not listed */
    uint8_t kind;              /* qn_tfjs_kind: how it lies                           */
} qn_tfjs_weight;

typedef struct qn_tfjs_shard {
    const char *path; /* relative to the folder of model.json */
    uint64_t n_bytes, off; /* off: in the bytes of its group  */
    uint32_t group;
    uint32_t file;    /* of the source, UINT32_MAX until it is added */
} qn_tfjs_shard;

typedef struct qn_tfjs_group {
    uint64_t first_shard, n_shards, first_weight, n_weights, n_bytes;
} qn_tfjs_group;

/* In the source's arena, but for the growing lists. */
typedef struct qn_tfjs_model {
    qn_source *s;
    qn_tfjs_group *groups;
    qn_tfjs_shard *shards;
    qn_tfjs_weight *weights;
    uint64_t n_groups, n_shards, n_weights, cap_groups, cap_shards, cap_weights;
    qn_names paths; /* of the shards */
} qn_tfjs_model;

/* Reads model.json at `path`. *out is NULL when it is JSON without a weightsManifest: then it is something else. */
qn_code qn_tfjs_read(qn_source *s, const char *path, qn_tfjs_model **out, qn_err *err) QN_MUST_CHECK;
void qn_tfjs_release(qn_tfjs_model *m); /* the lists; NULL is fine. Must outlive the source's reads */
/* Finds the shards below `dir`, and with their sizes where every weight lies. */
qn_code qn_tfjs_place(qn_tfjs_model *m, const char *dir, qn_err *err) QN_MUST_CHECK;
/* The shard of this path, or NULL. */
qn_tfjs_shard *qn_tfjs_find_shard(const qn_tfjs_model *m, const char *path);
/* The source's last file is this shard: appends its objects. */
qn_code qn_tfjs_add_shard(qn_tfjs_model *m, qn_tfjs_shard *shard, qn_err *err) QN_MUST_CHECK;
/* All shards are files of the source: lists the weights as tensors. */
qn_code qn_tfjs_list(qn_tfjs_model *m, qn_err *err) QN_MUST_CHECK;

/* A qn_made_fn over a qn_tfjs_weight. */
qn_code qn_tfjs_read_weight(qn_source *s, const qn_source_tensor *t, const void *how, uint64_t at, uint64_t n, uint8_t *dst,
                            qn_err *err) QN_MUST_CHECK;
/* n bytes of a group at off, across its shards. */
qn_code qn_tfjs_read_group(const qn_tfjs_model *m, uint64_t group, uint64_t off, uint64_t n, void *dst, qn_err *err) QN_MUST_CHECK;

#endif
