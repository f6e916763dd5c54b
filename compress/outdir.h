/* outdir.h: model folders that are written: their files, and how the whole takes its name. The folder grows in a temporary one beside it
 * (tmptree.h) and is renamed when it is done. */
#ifndef QN_COMPRESS_OUTDIR_H
#define QN_COMPRESS_OUTDIR_H

#include "compress/tmptree.h"
#include "formats/source.h"

/* Is that the name of a file of weights in a form that is not read where safetensors are there (.gguf, .onnx, pytorch_model.bin …)? */
bool qn_outdir_is_weights(const char *path);
/* Makes the folders of `path` below `root`, which it begins with. path is changed and restored. */
qn_code qn_outdir_parents(const qn_env *env, const char *root, char *path, qn_err *err) QN_MUST_CHECK;
/* A new file with this text. */
qn_code qn_outdir_text(const qn_env *env, const char *path, const char *text, uint64_t n, qn_err *err) QN_MUST_CHECK;
/* A new file with the bytes of file f of the source. */
qn_code qn_outdir_copy(const qn_env *env, qn_source *s, uint64_t f, const char *path, qn_err *err) QN_MUST_CHECK;
/* May the folder be written? *there: something of that name is, and goes. QN_E_USAGE when that may not be replaced, is no model folder, or is
 * what s was read from. */
qn_code qn_outdir_check(const qn_env *env, const qn_source *s, const char *path, bool overwrite, bool *there, qn_err *err) QN_MUST_CHECK;
/* t->data becomes `path`. An old folder of the name goes into the temporary one, and with it. */
qn_code qn_outdir_publish(const qn_tmptree *t, const char *path, bool there, qn_err *err) QN_MUST_CHECK;

#endif
