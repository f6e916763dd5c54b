/* bundle.c: an archive becomes the source that its content is. */
#include "formats/archive/bundle.h"
#include "base/err.h"
#include "base/num.h"
#include "base/path.h"
#include "formats/archive/archive.h"
#include "formats/archive/tar.h"
#include "formats/archive/unpack.h"
#include "formats/hf/build.h"
#include "formats/torch/torch.h"
#include <string.h>

typedef enum kind { KIND_TAR, KIND_PACKED, KIND_ZIP } kind;

static void release(void *under)
{
    qn_bundle *b = under;
    const qn_alloc *alloc = b->outer->alloc;
    qn_members_release(&b->members);
    qn_spool_release(&b->spool);
    qn_file_drop(&b->file);
    qn_mem_put(alloc, b->path);
    qn_mem_put(alloc, b);
}

/* ---- which member is the model ---- */

/* Bytes of the folder, with its '/', that all files lie in. */
static size_t common_folder(const qn_members *m)
{
    const char *a = m->items[0].path, *z = m->items[m->n - 1].path; /* of sorted paths the first and the last differ most */
    size_t n = 0, slash = 0;
    for (; a[n] && a[n] == z[n]; n++)
        if (a[n] == '/')
            slash = n + 1;
    return slash;
}

/* Does the folder hold weights in files that a model folder is made of? */
static bool is_model_folder(const qn_members *m, size_t n_top)
{
    for (uint64_t i = 0; i < m->n; i++) {
        const char *path = m->items[i].path;
        if (qn_text_ends(path, ".safetensors") || strcmp(path + n_top, "model.json") == 0 || qn_hf_is_torch_name(path))
            return true;
    }
    return false;
}

/* The one file that is a model by itself; UINT64_MAX when there is none. */
static qn_code find_model_file(const qn_members *m, uint64_t *which, qn_err *err)
{
    static const char *const tails[] = {".gguf", ".onnx", ".pt", ".pth", ".ckpt", ".th", ".npz", ".npy", ".quern"};
    char one[96], two[96];
    *which = UINT64_MAX;
    for (uint64_t i = 0; i < m->n; i++)
        for (size_t k = 0; k < sizeof tails / sizeof tails[0]; k++) {
            if (!qn_text_ends(m->items[i].path, tails[k]))
                continue;
            if (*which != UINT64_MAX) {
                qn_printable(one, sizeof one, m->items[*which].path, strlen(m->items[*which].path));
                qn_printable(two, sizeof two, m->items[i].path, strlen(m->items[i].path));
                return QN_FAIL(err, QN_E_UNSUPPORTED, QN_NO_OFFSET, "holds several models, '%s' and '%s': unpack it and name one",
                               one, two);
            }
            *which = i;
        }
    return QN_OK;
}

static qn_code choose(const qn_bundle *b, char **target, qn_err *err)
{
    const qn_members *m = &b->members;
    if (m->n == 0)
        return QN_FAIL(err, QN_E_INPUT, QN_NO_OFFSET, "holds no files");
    const size_t n_top = common_folder(m);
    uint64_t which = 0;
    if (m->n > 1 && is_model_folder(m, n_top))
        which = UINT64_MAX;
    else if (m->n > 1)
        QN_TRY(find_model_file(m, &which, err));
    if (which != UINT64_MAX) {
        *target = qn_path_join(b->outer->alloc, b->path, m->items[which].path, err);
        return *target ? QN_OK : QN_E_MEMORY;
    }
    *target = qn_path_join(b->outer->alloc, b->path, m->items[0].path, err);
    if (!*target)
        return QN_E_MEMORY;
    (*target)[b->n_path + n_top] = '\0'; /* over the slash behind the folder */
    return QN_OK;
}

/* ---- opening ---- */

static qn_code load(qn_bundle *b, const char *path, kind k, bool *is_torch, qn_err *err)
{
    QN_TRY(qn_file_open(&b->file, b->outer->fs, b->outer->alloc, path, QN_OPEN_READ, err));
    QN_TRY(qn_file_stat(&b->file, &b->st, err));
    QN_TRY(k == KIND_TAR ? qn_bundle_fill_tar(b, err) : k == KIND_ZIP ? qn_bundle_fill_zip(b, is_torch, err)
                                                                      : qn_bundle_fill_packed(b, err));
    QN_TRY(qn_members_seal(&b->members, err));
    qn_view_init(b);
    return QN_OK;
}

static void warn(const qn_bundle *b, qn_source *s)
{
    if (b->members.n_left_out)
        qn_source_warn(s, "%s: %llu file%s that macOS added (._NAME, __MACOSX) left out", b->path,
                       (unsigned long long)b->members.n_left_out, b->members.n_left_out == 1 ? "" : "s");
    if (s->n_files < b->members.n)
        qn_source_warn(s, "%s: only the model in it is read, %llu other file%s left out", b->path,
                       (unsigned long long)(b->members.n - s->n_files), b->members.n - s->n_files == 1 ? " is" : "s are");
}

static qn_code open_loaded(qn_bundle *b, qn_source **out, qn_err *err)
{
    char *target = NULL;
    QN_TRY(choose(b, &target, err));
    qn_code rc = qn_source_open(&b->env, target, out, err);
    qn_mem_put(b->outer->alloc, target);
    QN_TRY(rc);
    qn_source *s = *out;
    s->bundle = b->path;
    s->whole_dir = false; /* the folder is nowhere on the disk */
    warn(b, s);
    s->release = release;
    s->under = b;
    return QN_OK;
}

static qn_code open_bundle(const qn_env *env, const char *path, kind k, qn_source **out, qn_err *err)
{
    bool is_torch = false;
    *out = NULL;
    if (qn_fs_is_view(env->fs))
        return qn_err_in_path(err, QN_FAIL(err, QN_E_UNSUPPORTED, QN_NO_OFFSET, "is an archive inside an archive: unpack the outer "
                                                                                "one"), path);
    qn_bundle *b = qn_mem_zeros(env->alloc, 1, sizeof *b, err);
    if (!b)
        return QN_E_MEMORY;
    b->outer = env;
    b->file = QN_FILE_CLOSED;
    qn_spool_init(&b->spool, env);
    qn_members_init(&b->members, env->alloc);
    b->path = qn_path_cat(env->alloc, path, "", err);
    b->n_path = strlen(path);
    qn_code rc = b->path ? load(b, path, k, &is_torch, err) : QN_E_MEMORY;
    if (rc == QN_OK && !is_torch)
        rc = open_loaded(b, out, err);
    if (rc != QN_OK || is_torch)
        release(b);
    if (rc == QN_OK && is_torch)
        rc = qn_format_torch_zip.open(env, path, out, err);
    return qn_err_in_path(err, rc, path);
}

static qn_code open_tar(const qn_env *env, const char *path, qn_source **out, qn_err *err)
{
    return open_bundle(env, path, KIND_TAR, out, err);
}

static qn_code open_zip(const qn_env *env, const char *path, qn_source **out, qn_err *err)
{
    return open_bundle(env, path, KIND_ZIP, out, err);
}

static qn_code open_packed(const qn_env *env, const char *path, qn_source **out, qn_err *err)
{
    return open_bundle(env, path, KIND_PACKED, out, err);
}

static bool probe_tar(const qn_probe *p)
{
    return !p->is_dir && qn_tar_begins(p->head, p->n_head);
}

static bool probe_zip(const qn_probe *p)
{
    return !p->is_dir && qn_zip_begins(p->head, p->n_head);
}

static bool probe_packed(const qn_probe *p)
{
    return !p->is_dir && qn_packing_of(p->head, p->n_head) != QN_PACKING_NONE;
}

const qn_format qn_format_tar = {"a tar archive", probe_tar, open_tar};
const qn_format qn_format_zip = {"a zip archive", probe_zip, open_zip};
const qn_format qn_format_packed = {"a packed file", probe_packed, open_packed};
