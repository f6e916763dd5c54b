/* archive.c: the zip layout: X/data.pkl, X/data/KEY for each storage, X/byteorder, X/version and others for a single top
 * folder X of any name. Everything that is used must be stored, not deflated: storages are read in place. */
#include "base/err.h"
#include "formats/torch/torch.h"
#include "formats/zip/zip.h"
#include <string.h>

static qn_code read_file(void *ctx, void *dst, uint64_t n, uint64_t off, qn_err *err)
{
    const qn_torch_file *f = ctx;
    return qn_fileset_read(f->s, f->file, off, n, dst, err);
}

/* "X/data.pkl" with no '/' in X; its length without "data.pkl" goes to *n_top. */
static const qn_zip_entry *find_pickle(const qn_zip *z, size_t *n_top)
{
    for (uint64_t i = 0; i < z->n_entries; i++) {
        const char *slash = strchr(z->entries[i].name, '/');
        if (slash && strcmp(slash, "/data.pkl") == 0) {
            *n_top = (size_t)(slash - z->entries[i].name) + 1;
            return &z->entries[i];
        }
    }
    return NULL;
}

static const qn_zip_entry *find_beside(const qn_zip *z, const qn_zip_entry *pkl, size_t n_top, const char *name, char *buf,
                                       size_t n_buf)
{
    const size_t n = strlen(name);
    if (n_top + n + 1 > n_buf)
        return NULL;
    memcpy(buf, pkl->name, n_top);
    memcpy(buf + n_top, name, n + 1);
    return qn_zip_find(z, buf);
}

static qn_code check_stored(const qn_zip_entry *e, qn_err *err)
{
    if (e->method == QN_ZIP_STORED)
        return QN_OK;
    return QN_FAIL(err, QN_E_UNSUPPORTED, e->off, "entry '%s' is deflated: PyTorch stores, and so it must be here", e->name);
}

static qn_code check_byteorder(const qn_zip *z, const qn_zip_entry *e, qn_err *err)
{
    qn_zip_stream st;
    char text[7] = "";
    if (e->n_bytes >= sizeof text)
        return QN_FAIL(err, QN_E_INPUT, e->data_off, "byteorder of %llu bytes: 'little' is expected",
                       (unsigned long long)e->n_bytes);
    qn_code rc = qn_zip_stream_open(&st, z, e, err);
    if (rc == QN_OK)
        rc = qn_zip_stream_read(&st, text, e->n_bytes, err);
    qn_zip_stream_close(&st);
    QN_TRY(rc);
    if (strcmp(text, "big") == 0)
        return QN_FAIL(err, QN_E_UNSUPPORTED, e->data_off, "written on a big-endian machine: only little-endian storages are read");
    return strcmp(text, "little") == 0 ? QN_OK : QN_FAIL(err, QN_E_INPUT, e->data_off, "byteorder is not 'little'");
}

static qn_code find_records(qn_torch_file *f, const qn_zip *z, const qn_zip_entry *pkl, size_t n_top, qn_err *err)
{
    enum { DATA = 5 };
    char name[QN_PK_TEXT_KEPT + 2048];
    for (uint64_t i = 0; i < f->n_places; i++) {
        qn_torch_place *p = &f->places[i];
        const size_t n = strlen(p->storage->key);
        memcpy(name, pkl->name, n_top); /* names of entries are at most 1 KiB */
        memcpy(name + n_top, "data/", DATA);
        memcpy(name + n_top + DATA, p->storage->key, n + 1);
        const qn_zip_entry *e = qn_zip_find(z, name);
        char shown[96];
        qn_printable(shown, sizeof shown, name, n_top + DATA + n);
        if (!e)
            return QN_FAIL(err, QN_E_INPUT, p->storage->off, "there is no record '%s'", shown);
        QN_TRY(check_stored(e, err));
        if (e->n_bytes != p->n_bytes)
            return QN_FAIL(err, QN_E_INPUT, p->storage->off, "storage of %llu bytes: record '%s' has %llu",
                           (unsigned long long)p->n_bytes, shown, (unsigned long long)e->n_bytes);
        p->off = e->data_off;
        p->record = qn_torch_record_name(f, e->name, err);
        if (!p->record)
            return QN_E_MEMORY;
    }
    return QN_OK;
}

static qn_code read_archive(qn_torch_file *f, const qn_zip *z, qn_err *err)
{
    char name[2048];
    size_t n_top = 0;
    uint64_t after;
    const qn_zip_entry *pkl = find_pickle(z, &n_top), *order;
    if (!pkl)
        return QN_FAIL(err, QN_E_UNSUPPORTED, 0, "zip archive without data.pkl: no PyTorch checkpoint");
    if (find_beside(z, pkl, n_top, "constants.pkl", name, sizeof name))
        return QN_FAIL(err, QN_E_UNSUPPORTED, 0, "TorchScript archive: only checkpoints written by torch.save are read");
    order = find_beside(z, pkl, n_top, "byteorder", name, sizeof name);
    if (order)
        QN_TRY(check_byteorder(z, order, err));
    QN_TRY(check_stored(pkl, err));
    if (pkl->n_bytes > QN_PK_BYTES_MAX)
        return QN_FAIL(err, QN_E_UNSUPPORTED, pkl->data_off, "pickle of %llu bytes: up to %llu are read",
                       (unsigned long long)pkl->n_bytes, (unsigned long long)QN_PK_BYTES_MAX);
    QN_TRY(qn_zip_check(z, pkl, err));
    QN_TRY(qn_pickle_load(&f->pickle, pkl->data_off, pkl->data_off + pkl->n_bytes, &f->root, &after, err));
    if (after != pkl->data_off + pkl->n_bytes)
        return QN_FAIL(err, QN_E_INPUT, after, "%llu bytes behind the end of the pickle",
                       (unsigned long long)(pkl->data_off + pkl->n_bytes - after));
    QN_TRY(qn_torch_list_places(f, err));
    return find_records(f, z, pkl, n_top, err);
}

qn_code qn_torch_read_zip(qn_torch_file *f, qn_err *err)
{
    qn_zip z;
    QN_TRY(qn_zip_open(&z, f->s->env->alloc, read_file, f, f->n_bytes, err));
    const qn_code rc = read_archive(f, &z, err);
    qn_zip_release(&z);
    return rc;
}
