/* legacy.c: the stream that torch.save wrote before 1.6, and writes when asked to:
 *
 *     pickle: magic number │ pickle: 1001 │ pickle: dict about the machine │ pickle: the value │ pickle: list of keys │
 *     for each key in this order: u64 elements, elements
 */
#include "base/err.h"
#include "base/num.h"
#include "formats/torch/torch.h"
#include <stdio.h>
#include <string.h>

enum { PROTOCOL = 1001 };
static const char magic[] = "\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19"; /* 0x1950a86a20f9469cfc6c */

static qn_code load(qn_torch_file *f, uint64_t *at, qn_pk **v, qn_err *err)
{
    return qn_pickle_load(&f->pickle, *at, f->n_bytes, v, at, err);
}

static qn_code read_preamble(qn_torch_file *f, uint64_t *at, qn_err *err)
{
    qn_pk *v;
    uint64_t from = *at;
    QN_TRY(load(f, at, &v, err));
    if (v->tag != QN_PK_LONG || v->n != sizeof magic - 1 || memcmp(v->u.text, magic, sizeof magic - 1) != 0)
        return QN_FAIL(err, QN_E_INPUT, from, "does not begin with PyTorch's magic number");
    from = *at;
    QN_TRY(load(f, at, &v, err));
    if (v->tag != QN_PK_INT || v->u.i != PROTOCOL)
        return QN_FAIL(err, QN_E_UNSUPPORTED, from, "protocol of the stream is not %d", PROTOCOL);
    from = *at;
    QN_TRY(load(f, at, &v, err));
    const qn_pk *little = qn_pk_get(v, "little_endian");
    if (!little || little->tag != QN_PK_BOOL)
        return QN_FAIL(err, QN_E_INPUT, from, "a dict that tells little_endian is expected");
    if (!little->u.i)
        return QN_FAIL(err, QN_E_UNSUPPORTED, from, "written on a big-endian machine: only little-endian storages are read");
    return QN_OK;
}

static qn_code read_storage(qn_torch_file *f, const qn_pk *key, uint64_t list_off, uint64_t *at, qn_err *err)
{
    uint8_t b[8];
    if (key->tag != QN_PK_STR || key->cut)
        return QN_FAIL(err, QN_E_INPUT, list_off, "list of storages: a %s where a key is expected", qn_pk_tag_name(key->tag));
    qn_torch_place *p = qn_torch_find_place(f, key->u.text);
    char shown[64];
    qn_printable(shown, sizeof shown, key->u.text, key->n);
    if (!p)
        return QN_FAIL(err, QN_E_INPUT, list_off, "list of storages: nothing speaks of '%s'", shown);
    if (p->found)
        return QN_FAIL(err, QN_E_INPUT, list_off, "list of storages: '%s' stands twice", shown);
    if (f->n_bytes - *at < 8)
        return QN_FAIL(err, QN_E_INPUT, *at, "file ends before storage '%s'", shown);
    QN_TRY(f->pickle.read(f->pickle.ctx, b, 8, *at, err));
    if (qn_load64(b) != p->storage->n)
        return QN_FAIL(err, QN_E_INPUT, *at, "storage '%s' has %llu elements here, %llu are spoken of", shown,
                       (unsigned long long)qn_load64(b), (unsigned long long)p->storage->n);
    *at += 8;
    if (p->n_bytes > f->n_bytes - *at)
        return QN_FAIL(err, QN_E_INPUT, *at, "storage '%s' of %llu bytes: %llu are left", shown, (unsigned long long)p->n_bytes,
                       (unsigned long long)(f->n_bytes - *at));
    char record[QN_PK_TEXT_KEPT + 8];
    snprintf(record, sizeof record, "data/%s", p->storage->key);
    p->record = qn_torch_record_name(f, record, err);
    if (!p->record)
        return QN_E_MEMORY;
    p->off = *at;
    p->found = true;
    *at += p->n_bytes;
    return QN_OK;
}

qn_code qn_torch_read_legacy(qn_torch_file *f, qn_err *err)
{
    uint64_t at = 0;
    qn_pk *keys;
    QN_TRY(read_preamble(f, &at, err));
    QN_TRY(load(f, &at, &f->root, err));
    QN_TRY(qn_torch_list_places(f, err));
    const uint64_t list_off = at;
    QN_TRY(load(f, &at, &keys, err));
    if (keys->tag != QN_PK_LIST)
        return QN_FAIL(err, QN_E_INPUT, list_off, "list of storages is a %s", qn_pk_tag_name(keys->tag));
    for (uint32_t i = 0; i < keys->n; i++)
        QN_TRY(read_storage(f, keys->u.items[i], list_off, &at, err));
    for (uint64_t i = 0; i < f->n_places; i++)
        if (!f->places[i].found)
            return QN_FAIL(err, QN_E_INPUT, f->places[i].storage->off, "a storage that is not in the list of storages");
    if (at != f->n_bytes)
        return QN_FAIL(err, QN_E_INPUT, at, "%llu bytes at the end belong to no storage", (unsigned long long)(f->n_bytes - at));
    return QN_OK;
}
