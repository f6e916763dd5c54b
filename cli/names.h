/* names.h: output names that follow from the input's. */
#ifndef QN_CLI_NAMES_H
#define QN_CLI_NAMES_H

#include "base/alloc.h"

/* What stands behind the last '/'; the path itself when nothing does. */
const char *qn_name_last(const char *path);
/* "a/model" or "a/model/" and a tail → "a/modelTAIL". QN_E_USAGE for ".", ".." and "/", which name nothing. */
qn_code qn_name_beside(qn_arena *arena, const char *input, const char *tail, const char **out, qn_err *err) QN_MUST_CHECK;
/* The file `compress` writes beside its input: "a/model.safetensors" → "a/model.safetensors.quern", "a/model/" →
 * "a/model.quern", "m.safetensors.index.json" and "m.json" → "m.quern". QN_E_USAGE for ".", ".." and "/", which name nothing. */
qn_code qn_name_packed(qn_arena *arena, const char *input, const char **out, qn_err *err) QN_MUST_CHECK;
/* The same for an archive that holds a model: a folder takes the archive's name, "a/m.tar.gz" → "a/m.quern"; a single file `file`
 * (NULL: a folder) its own, "a/m.tar.gz" with "x/m.gguf" in it → "a/m.gguf.quern". */
qn_code qn_name_packed_bundle(qn_arena *arena, const char *bundle, const char *file, const char **out, qn_err *err) QN_MUST_CHECK;
/* What `decompress` restores: the name without ".quern"; QN_E_USAGE when it does not end so. */
qn_code qn_name_unpacked(qn_arena *arena, const char *packed, const char **out, qn_err *err) QN_MUST_CHECK;

#endif
