/* hf.h: a model folder as a source (Hugging Face layout, but any folder will do), and a sharded set by its index.json. */
#ifndef QN_FORMATS_HF_HF_H
#define QN_FORMATS_HF_HF_H

#include "formats/fileset.h"
#include "formats/registry.h"

extern const qn_format qn_format_hf;                /* a folder                          */
extern const qn_format qn_format_shard_index;       /* a *.safetensors.index.json or *.bin.index.json: its set */
extern const qn_format qn_format_tfjs;              /* a TensorFlow.js model.json: its set */

/* Checks the weight_map of an index file (file number `file` of s, lying in folder `dir` relative to the source, "" for
 * the top) against the tensors of s, in both directions: every mapped name is in the named shard, and the
 * shards hold nothing else. */
qn_code qn_hf_check_index(qn_source *s, uint64_t file, qn_err *err) QN_MUST_CHECK;

/* Calls each(ctx, name) for every shard name of an index file on disk, once per mapped tensor. */
qn_code qn_hf_each_shard(const qn_env *env, const char *path, qn_code (*each)(void *ctx, const char *shard, qn_err *err),
                         void *ctx, qn_err *err) QN_MUST_CHECK;

#endif
