/* folder.h: a model folder in the making: what writers of cut and of exported models share. It grows in a temporary folder (tmptree.h), and then takes its name. */
#ifndef QN_COMPRESS_FOLDER_H
#define QN_COMPRESS_FOLDER_H

#include "compress/tmptree.h"
#include "formats/safetensors/write.h"

/* Weights in a form that stands beside others in model folders, and that nothing of ours reads there: .gguf, .onnx, .bin … */
bool qn_folder_is_other_weights(const char *path);

/* May `path` become a folder made from s? QN_E_USAGE when something is there that is not ours to replace: with `overwrite`, only a model folder is, and not
 * the one that is read. `doing`: "pruned", for the message. */
qn_code qn_folder_check(const qn_env *env, const qn_source *s, const char *path, bool overwrite, const char *doing, bool *there, qn_err *err) QN_MUST_CHECK;
/* t->data becomes `path`; a folder that is there goes into the temporary one, and with it. */
qn_code qn_folder_publish(const qn_tmptree *t, const char *path, bool there, qn_err *err) QN_MUST_CHECK;

/* The folder itself, which must not be there; and those above a file `path` below it. */
qn_code qn_folder_make(const qn_env *env, const char *root, qn_err *err) QN_MUST_CHECK;
qn_code qn_folder_parents(const qn_env *env, const char *root, char *path, qn_err *err) QN_MUST_CHECK;
qn_code qn_folder_text(const qn_env *env, const char *path, const char *text, uint64_t n_bytes, qn_err *err) QN_MUST_CHECK;
/* File f of a source, byte for byte. */
qn_code qn_folder_copy(const qn_env *env, qn_source *s, uint64_t f, const char *path, qn_err *err) QN_MUST_CHECK;
/* The text of the source's file of that path, ended by NUL; to be freed with qn_mem_put. *text = NULL when there is none. At most 64 MiB. */
qn_code qn_folder_read(const qn_env *env, qn_source *s, const char *path, char **text, uint64_t *n_bytes, qn_err *err) QN_MUST_CHECK;

#endif
