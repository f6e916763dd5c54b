/* hf_out.h: a model folder of safetensors: tensors that a target gives, texts that it changes, and every other file of the source as it is. */
#ifndef QN_COMPRESS_EXPORT_HF_OUT_H
#define QN_COMPRESS_EXPORT_HF_OUT_H

#include "compress/export/export.h"
#include "formats/hf/config_edit.h"

/* Data of a file, where the user says nothing: 5 GB, as the reference writer has it. */
#define QN_HF_OUT_SHARD_BYTES UINT64_C(5000000000)

typedef struct qn_hf_out_text {
    const char *path, *text; /* below the folder */
    uint64_t n_bytes;
} qn_hf_out_text;

typedef struct qn_hf_out {
    const qn_out_tensor *t; /* in the order that shards are filled in */
    uint64_t n;
    qn_out_read_fn read;
    void *ctx;
    const qn_hf_out_text *texts; /* instead of the source's files of these paths, or beside them */
    unsigned n_texts;
} qn_hf_out;

/* Writes job->src to job->path and sets job->n_bytes. Weights and indices of the source are left out. */
qn_code qn_hf_out_write(qn_export_job *j, const qn_hf_out *o, qn_err *err) QN_MUST_CHECK;

/* config.json with these changes, from the job's arena. QN_E_UNSUPPORTED when the source has none. */
qn_code qn_hf_out_config(qn_export_job *j, const qn_config_change *c, uint32_t n, qn_hf_out_text *out, qn_err *err) QN_MUST_CHECK;
bool qn_hf_out_has_config(const qn_source *s);

#endif
