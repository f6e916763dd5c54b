/* npz.c: see npz.h. */
#include "formats/npz/npz.h"
#include "base/err.h"
#include "base/num.h"
#include "formats/fileset.h"
#include "formats/npz/npy.h"
#include "formats/npz/streams.h"
#include <string.h>

struct member {
    qn_npy_head head;
    const qn_zip_entry *entry;
};

struct npz {
    qn_zip zip;
    qn_streams streams;
    struct member *members; /* one for each tensor, in order */
    uint64_t cap_members;
    uint64_t covered;       /* bytes of the file that have their object; while it is opened */
    qn_err passed_over;     /* the first member that is no array of numbers                 */
};

/* A member's content as it is read from the outside: byte 0 is that of the .npy file, or of its elements. */
struct content {
    qn_source *s;
    const qn_zip_entry *entry;
    uint64_t from;
};

static struct npz *own(const qn_source *s)
{
    return ((const qn_fileset *)s->impl)->own;
}

static qn_code read_archive(void *ctx, void *dst, uint64_t n, uint64_t off, qn_err *err)
{
    return qn_fileset_read(ctx, 0, off, n, dst, err);
}

static qn_code read_content(void *ctx, void *dst, uint64_t n, uint64_t off, qn_err *err)
{
    const struct content *c = ctx;
    if (c->entry->method == QN_ZIP_STORED)
        return qn_fileset_read(c->s, 0, c->entry->data_off + c->from + off, n, dst, err);
    return qn_streams_read(&own(c->s)->streams, c->entry, c->from + off, n, dst, err);
}

static qn_code read_tensor(qn_source *s, uint64_t tensor, uint64_t off, uint64_t n, void *dst, qn_err *err)
{
    const struct member *m = &own(s)->members[tensor];
    struct content c = {s, m->entry, m->head.head_bytes};
    const qn_code rc = qn_npy_is_gathered(&m->head)
                           ? qn_npy_gather(&m->head, s->env->alloc, read_content, &c, m->entry->method != QN_ZIP_STORED, off, n,
                                           dst, err)
                           : read_content(&c, dst, n, off, err);
    return qn_err_in_path(err, rc, s->path);
}

static void close_archive(qn_source *s)
{
    struct npz *z = own(s);
    if (z) {
        qn_streams_release(&z->streams);
        qn_zip_release(&z->zip);
        qn_mem_put(s->env->alloc, z->members);
        qn_mem_put(s->env->alloc, z);
    }
    qn_fileset_close(s);
}

static const qn_source_ops ops = {.format = "npz", .read = qn_fileset_read_object, .read_tensor = read_tensor,
                                  .close = close_archive};

/* One BLOB up to byte `end`. */
static qn_code cover(qn_source *s, uint64_t end, qn_err *err)
{
    struct npz *z = own(s);
    const qn_object o = {.name = "", .n_bytes = end - z->covered, .off = z->covered};
    z->covered = end;
    return o.n_bytes ? qn_fileset_add_object(s, &o, err) : QN_OK;
}

static qn_code add_tensor(qn_source *s, const qn_zip_entry *e, const qn_npy_head *h, qn_err *err)
{
    struct npz *z = own(s);
    struct member *m = qn_mem_grow(s->env->alloc, z->members, s->n_tensors, &z->cap_members, s->n_tensors + 1, sizeof *m, err);
    if (!m)
        return QN_E_MEMORY;
    z->members = m;
    m[s->n_tensors] = (struct member){.head = *h, .entry = e};
    uint64_t *dims = qn_arena_get(&s->arena, h->rank * sizeof *dims, 8, err);
    qn_source_tensor t = {.name = qn_arena_str(&s->arena, e->name, strlen(e->name) - 4, err), .dims = dims,
                          .n_bytes = h->n_bytes, .object = QN_NO_OBJECT, .dtype = h->dtype, .rank = h->rank};
    if (!dims || !t.name)
        return QN_E_MEMORY;
    memcpy(dims, h->dims, h->rank * sizeof *dims);
    if (e->method == QN_ZIP_STORED && !qn_npy_is_gathered(h)) {
        QN_TRY(cover(s, e->data_off + h->head_bytes, err));
        t.object = s->n_objects;
        QN_TRY(qn_fileset_add_object(s, &(qn_object){.name = t.name, .dims = dims, .n_bytes = t.n_bytes, .off = z->covered,
                                                     .kind = QN_OBJECT_TENSOR, .dtype = t.dtype, .rank = t.rank}, err));
        z->covered += t.n_bytes;
    }
    return qn_fileset_add_tensor(s, &t, err);
}

static qn_code read_member(qn_source *s, const qn_zip_entry *e, qn_npy_head *h, qn_err *err)
{
    struct content c = {s, e, 0};
    const uint64_t at = e->method == QN_ZIP_STORED ? e->data_off : QN_NO_OFFSET;
    if (strlen(e->name) == 4)
        return QN_FAIL(err, QN_E_INPUT, e->off, "array without a name");
    QN_TRY(qn_npy_read_head(h, s->env->alloc, read_content, &c, e->n_bytes, at, err));
    if (h->n_bytes != e->n_bytes - h->head_bytes)
        return QN_FAIL(err, QN_E_INPUT, at, "array needs %llu bytes, %llu follow its header in the member",
                       (unsigned long long)h->n_bytes, (unsigned long long)(e->n_bytes - h->head_bytes));
    return QN_OK;
}

/* Archives often carry text or pickled settings beside the weights: such members stay bytes, and are told. */
static qn_code add_member(qn_source *s, const qn_zip_entry *e, qn_err *err)
{
    struct npz *z = own(s);
    qn_npy_head h;
    qn_err why;
    if (!qn_text_ends(e->name, ".npy"))
        return QN_OK;
    qn_err_clear(&why);
    const qn_code rc = qn_err_in_tensor(&why, read_member(s, e, &h, &why), e->name);
    if (rc == QN_OK)
        return add_tensor(s, e, &h, err);
    if (rc == QN_E_UNSUPPORTED) {
        qn_source_warn(s, "%s is kept but not read: %s", e->name, why.text);
        if (z->passed_over.code == QN_OK)
            z->passed_over = why;
        return QN_OK;
    }
    if (err && err->code == QN_OK)
        *err = why;
    return rc;
}

static qn_code list(qn_source *s, qn_err *err)
{
    struct npz *z = own(s);
    const uint64_t n_file = s->files[0].n_bytes;
    QN_TRY(qn_zip_open(&z->zip, s->env->alloc, read_archive, s, n_file, err));
    for (uint64_t i = 0; i < z->zip.n_entries; i++) {
        QN_TRY(qn_env_check(s->env, err));
        QN_TRY(add_member(s, &z->zip.entries[i], err));
    }
    if (s->n_tensors == 0 && z->passed_over.code != QN_OK) {
        if (err && err->code == QN_OK)
            *err = z->passed_over;
        return z->passed_over.code;
    }
    if (s->n_tensors == 0)
        return QN_FAIL(err, QN_E_INPUT, 0, "no arrays in this archive: members whose names end in .npy are expected");
    return cover(s, n_file, err);
}

static qn_code build(qn_source *s, const char *path, qn_err *err)
{
    const char *slash = strrchr(path, '/');
    qn_fileset *set = s->impl;
    QN_TRY(qn_fileset_add_file(s, path, slash ? slash + 1 : path, err));
    struct npz *z = set->own = qn_mem_zeros(s->env->alloc, 1, sizeof *z, err);
    if (!z)
        return QN_E_MEMORY;
    qn_streams_init(&z->streams, s->env, &z->zip);
    QN_TRY(list(s, err));
    return qn_source_seal(s, err);
}

static qn_code open_archive(const qn_env *env, const char *path, qn_source **out, qn_err *err)
{
    qn_source *s;
    *out = NULL;
    QN_TRY(qn_fileset_new_ops(env, &ops, path, &s, err));
    const qn_code rc = build(s, path, err);
    if (rc != QN_OK) {
        qn_source_close(s);
        return qn_err_in_path(err, rc, path);
    }
    *out = s;
    return QN_OK;
}

/* By its first member: PyTorch's archives are zips too. */
static bool probe(const qn_probe *p)
{
    enum { HEADER_BYTES = 30, NAME_AT = 26 };
    if (p->is_dir)
        return false;
    if (qn_text_ends(p->path, ".npz"))
        return true; /* so that a damaged one is told what is wrong with it */
    if (!qn_zip_begins(p->head, p->n_head) || p->n_head < HEADER_BYTES)
        return false;
    const size_t n = qn_load16(p->head + NAME_AT);
    return n >= 4 && n <= p->n_head - HEADER_BYTES && memcmp(p->head + HEADER_BYTES + n - 4, ".npy", 4) == 0;
}

const qn_format qn_format_npz = {"a numpy archive", probe, open_archive};
