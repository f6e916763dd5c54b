/* build.h: a source made of the files of a model folder. */
#ifndef QN_FORMATS_HF_BUILD_H
#define QN_FORMATS_HF_BUILD_H

#include "formats/fileset.h"

/* Of sources that qn_hf_build fills. fileset.own is the qn_tfjs_model or NULL. */
extern const qn_source_ops qn_hf_ops, qn_hf_tfjs_ops;

/* A name under which the common libraries save weights: pytorch_model*.bin, diffusion_pytorch_model*.bin, adapter_model*.bin. */
bool qn_hf_is_torch_name(const char *rel);

/* Fills an empty source with these files, relative to s->path, in any order, doubles allowed. Which of them hold weights:
 *
 *     *.safetensors                         always
 *     pytorch_model*.bin and its like       where no *.safetensors lies in the same folder
 *     the shards of model.json              at the top, where neither of both lies there and model.json has a weightsManifest
 *
 * All others are blobs. A .bin that is none of ours becomes a blob with a warning. model_json: its relative name when the
 * source was opened by it and fileset.own is read already; else NULL. */
qn_code qn_hf_build(qn_source *s, char **rel, uint64_t n, const char *model_json, qn_err *err) QN_MUST_CHECK;

#endif
