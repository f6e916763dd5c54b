/* safetensors.h: the safetensors format: u64 header length │ JSON header │ data, no holes.
 * Rules: the format's own README, made strict (duplicate names, unknown dtypes and trailing bytes are refused). */
#ifndef QN_FORMATS_SAFETENSORS_SAFETENSORS_H
#define QN_FORMATS_SAFETENSORS_SAFETENSORS_H

#include "formats/fileset.h"
#include "formats/registry.h"

extern const qn_format qn_format_safetensors;

/* Parses the header of the source's last file (just added with qn_fileset_add_file) and appends its objects: one BLOB for the
 * header bytes, then the tensors in data order. `prefix`: put before every tensor name ("" mostly). */
qn_code qn_safetensors_add(qn_source *s, const char *prefix, qn_err *err) QN_MUST_CHECK;

#endif
