/* gguf_size.h: types for a file of a given size. */
#ifndef QN_COMPRESS_EXPORT_GGUF_SIZE_H
#define QN_COMPRESS_EXPORT_GGUF_SIZE_H

#include "compress/export/gguf_impl.h"

/* Sets dtype and wanted of every tensor whose wanted is F16, so that the file is no larger than the wish says, at the least divergence expected. QN_E_USAGE: even the
 * smallest types are too large; the text says how large. */
qn_code qn_ggx_choose(qn_ggx *x, qn_err *err) QN_MUST_CHECK;

#endif
