/* folder.h: a model folder as a target writes it: its weights in safetensors files, config.json with some keys set, every other file of the source
 * byte for byte (weights in other forms stay out). */
#ifndef QN_COMPRESS_EXPORT_FOLDER_H
#define QN_COMPRESS_EXPORT_FOLDER_H

#include "compress/export/export.h"
#include "formats/hf/config_edit.h"
#include "formats/safetensors/write.h"

typedef struct qn_export_folder {
    qn_out_tensor *tensors; /* in the order of files, when there are several; is changed */
    uint64_t n;
    qn_out_read_fn read;
    void *ctx;
    const qn_config_change *changes; /* of config.json: a key that is not there is put at its top; the file is made when the source has none and there are any */
    uint32_t n_changes;
    const char *extra, *extra_text;  /* one more file, instead of the source's when it has that; NULL: none */
} qn_export_folder;

/* Writes job->path and sets job->n_bytes. Files hold at most wish->shard_bytes of data, or 5 GB. */
qn_code qn_export_folder_write(qn_export_job *j, const qn_export_folder *f, qn_err *err) QN_MUST_CHECK;

#endif
