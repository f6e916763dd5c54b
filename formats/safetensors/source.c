/* source.c (safetensors): one file as a source. */
#include "base/err.h"
#include "base/num.h"
#include "formats/safetensors/safetensors.h"
#include <string.h>

static bool probe(const qn_probe *p)
{
    if (p->is_dir)
        return false;
    const size_t n = strlen(p->path);
    if (n >= 12 && strcmp(p->path + n - 12, ".safetensors") == 0)
        return true; /* so that a damaged one is told what is wrong with it */
    return p->n_head >= 10 && p->head[8] == '{' && qn_load64(p->head) <= p->file_bytes - 8;
}

static qn_code open_file(const qn_env *env, const char *path, qn_source **out, qn_err *err)
{
    const char *slash = strrchr(path, '/');
    qn_source *s;
    *out = NULL;
    QN_TRY(qn_fileset_new(env, "safetensors", path, &s, err));
    qn_code rc = qn_fileset_add_file(s, path, slash ? slash + 1 : path, err);
    if (rc == QN_OK)
        rc = qn_safetensors_add(s, "", err);
    if (rc == QN_OK)
        rc = qn_source_seal(s, err);
    if (rc != QN_OK) {
        qn_source_close(s);
        return rc;
    }
    *out = s;
    return QN_OK;
}

const qn_format qn_format_safetensors = {"a safetensors file", probe, open_file};
