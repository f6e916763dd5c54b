/* place.h: where an output may go without harm to the inputs. */
#ifndef QN_COMPRESS_PLACE_H
#define QN_COMPRESS_PLACE_H

#include "formats/source.h"

/* QN_E_USAGE when `path` lies in the folder that the source is: it would be part of it the next time, and when the run
 * is resumed. */
qn_code qn_place_outside(const qn_source *src, const char *path, qn_err *err) QN_MUST_CHECK;

#endif
