/* torch.h: PyTorch checkpoints, as torch.save writes them: a zip archive, or before 1.6 a stream of pickles and storages.
 *
 * A checkpoint is one pickled value that speaks of *storages* (runs of elements, kept outside the pickle) and of tensors over
 * them: first element, size and stride. docs/torch.md says what is accepted. */
#ifndef QN_FORMATS_TORCH_TORCH_H
#define QN_FORMATS_TORCH_TORCH_H

#include "formats/fileset.h"
#include "formats/registry.h"
#include "formats/torch/pickle.h"

extern const qn_format qn_format_torch_zip, qn_format_torch_legacy;

/* Reads the source's last file, of either layout, and appends its objects and its tensors. The names of tensors get `prefix` in
 * front, those of storages that are no tensor `record_prefix` ("" mostly): two files may well have records of one name.
 * On failure what is appended stays half done: see qn_fileset_rewind. */
qn_code qn_torch_add(qn_source *s, const char *prefix, const char *record_prefix, qn_err *err) QN_MUST_CHECK;

/* How a tensor lies in its storage, for those that are no object: kept in the source's arena, one per tensor. */
typedef struct qn_torch_view {
    uint64_t off;          /* of the storage in its file                     */
    uint64_t first;        /* elements                                       */
    const uint64_t *stride; /* elements, outermost first, rank of the tensor */
    uint32_t file;
} qn_torch_view;

/* A qn_made_fn: n bytes of the row-major content of a tensor from byte `at`, by its qn_torch_view. */
qn_code qn_torch_read_view(qn_source *s, const qn_source_tensor *t, const void *view, uint64_t at, uint64_t n, uint8_t *dst,
                           qn_err *err) QN_MUST_CHECK;

/* A storage's bytes in the file. */
typedef struct qn_torch_place {
    const qn_pk_storage *storage;
    const char *record; /* its name when no tensor gives it one */
    uint64_t off, n_bytes;
    uint64_t whole;     /* the tensor that is all of it, or UINT64_MAX */
    uint64_t object;    /* made of it, or QN_NO_OBJECT               */
    bool found;
} qn_torch_place;

typedef struct qn_torch_tensor {
    const char *name;
    const qn_pk_tensor *t;
    uint64_t place; /* of its storage */
} qn_torch_tensor;

/* One file while it is read. */
typedef struct qn_torch_file {
    qn_source *s;
    uint64_t file, n_bytes;
    const char *prefix, *record_prefix; /* see qn_torch_add */
    qn_pickle pickle;
    qn_pk *root;
    qn_torch_tensor *tensors;
    qn_torch_place *places; /* one for each key */
    uint64_t n_tensors, cap_tensors, n_places;
    qn_names keys;          /* of places */
} qn_torch_file;

/* Gives every tensor below root its name. */
qn_code qn_torch_walk(qn_torch_file *f, qn_err *err) QN_MUST_CHECK;
/* Lists the storages that the pickle speaks of. */
qn_code qn_torch_list_places(qn_torch_file *f, qn_err *err) QN_MUST_CHECK;
/* A record's name as an object has it, in the source's arena; NULL when there is no memory. */
const char *qn_torch_record_name(const qn_torch_file *f, const char *record, qn_err *err);
/* NULL if there is none of that key. */
qn_torch_place *qn_torch_find_place(const qn_torch_file *f, const char *key);
/* Places are known: objects and tensors of the source. */
qn_code qn_torch_lay_out(qn_torch_file *f, qn_err *err) QN_MUST_CHECK;

/* Fill root and places. */
qn_code qn_torch_read_zip(qn_torch_file *f, qn_err *err) QN_MUST_CHECK;
qn_code qn_torch_read_legacy(qn_torch_file *f, qn_err *err) QN_MUST_CHECK;

#endif
