/* registry.h: the table of formats. Adding one: its folder, and a row in registry.c. */
#ifndef QN_FORMATS_REGISTRY_H
#define QN_FORMATS_REGISTRY_H

#include "formats/source.h"

/* What a format may look at to recognise itself. */
typedef struct qn_probe {
    const char *path;
    bool is_dir;
    uint64_t file_bytes;
    uint8_t head[512]; /* the first n_head bytes of a file */
    size_t n_head;
} qn_probe;

typedef struct qn_format {
    const char *name; /* as it stands in "is NAME, which …" */
    bool (*probe)(const qn_probe *p);
    qn_code (*open)(const qn_env *env, const char *path, qn_source **out, qn_err *err); /* NULL: recognised only */
} qn_format;

extern const qn_format *const qn_formats[]; /* NULL-terminated, the first that recognises wins */

#endif
