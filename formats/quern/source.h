/* source.h (quern): a .quern file as a source. */
#ifndef QN_FORMATS_QUERN_SOURCE_H
#define QN_FORMATS_QUERN_SOURCE_H

#include "formats/source.h"
#include "runtime/reader.h"

qn_code qn_quern_source_open(const qn_env *env, const char *path, qn_source **out, qn_err *err) QN_MUST_CHECK;
/* The reader inside, or NULL when the source is of another format. */
qn_reader *qn_quern_source_reader(qn_source *s);
/* Lets DELTA chunks be decoded against any source that has the base's tensors. `base` must outlive s. */
void qn_quern_source_set_base(qn_source *s, qn_source *base);

#endif
