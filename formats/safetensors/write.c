/* write.c: one safetensors file; see write.h. Bytes go to PATH.quern-export, are synced, read back against their digest,
 * and only then renamed: a reader never sees half a file, and one that has the old file open keeps it. */
#include "formats/safetensors/write.h"
#include "base/err.h"
#include "base/num.h"
#include "formats/json/write.h"
#include "formats/safetensors/safetensors.h"
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TMP_SUFFIX ".quern-export"

enum { BUF_BYTES = 4 << 20 };

static int by_dtype_and_name(const void *pa, const void *pb)
{
    const qn_out_tensor *a = pa, *b = pb;
    if (a->dtype != b->dtype)
        return a->dtype > b->dtype ? -1 : 1;
    return strcmp(a->name, b->name);
}

static const char *out_name(const void *ctx, uint32_t item)
{
    return ((const qn_out_tensor *)ctx)[item].name;
}

/* What the format cannot say is refused before anything is written. */
static qn_code check_tensors(const qn_env *env, const qn_out_tensor *t, uint64_t n, qn_err *err)
{
    if (n >= QN_NAMES_NONE)
        return QN_FAIL(err, QN_E_UNSUPPORTED, QN_NO_OFFSET, "%llu tensors: below 2^32 are allowed", (unsigned long long)n);
    const uint64_t n_slots = qn_names_slots(n);
    qn_name_slot *slots = qn_mem_zeros(env->alloc, n_slots, sizeof *slots, err);
    if (!slots)
        return QN_E_MEMORY;
    qn_names names;
    qn_code rc = QN_OK;
    qn_names_init(&names, slots, n_slots);
    for (uint64_t i = 0; i < n && rc == QN_OK; i++) {
        uint64_t n_elems, n_bytes;
        if (t[i].dtype == QN_BYTES || t[i].dtype >= QN_DTYPE_PLAIN || t[i].rank > QN_RANK_MAX ||
            !qn_shape_bytes((qn_dtype)t[i].dtype, t[i].dims, t[i].rank, &n_elems, &n_bytes) || n_bytes != t[i].n_bytes)
            rc = QN_FAIL(err, QN_E_UNSUPPORTED, QN_NO_OFFSET, "has no form in a safetensors file");
        else if (strcmp(t[i].name, "__metadata__") == 0)
            rc = QN_FAIL(err, QN_E_UNSUPPORTED, QN_NO_OFFSET, "this name has another meaning in a safetensors file");
        else if (!qn_utf8_is_valid(t[i].name, strlen(t[i].name)))
            rc = QN_FAIL(err, QN_E_UNSUPPORTED, QN_NO_OFFSET, "name is not UTF-8");
        else if (qn_names_add(&names, t[i].name, (uint32_t)i, out_name, t) != QN_NAMES_NONE)
            rc = QN_FAIL(err, QN_E_INPUT, QN_NO_OFFSET, "two tensors have this name");
        rc = qn_err_in_tensor(err, rc, t[i].name);
    }
    qn_mem_put(env->alloc, slots);
    return rc;
}

static void header_text(qn_textbuf *h, const qn_out_tensor *t, uint64_t n, const char *metadata)
{
    uint64_t at = 0;
    qn_textbuf_puts(h, "{\"__metadata__\":");
    qn_textbuf_puts(h, metadata ? metadata : "{\"format\":\"pt\"}");
    for (uint64_t i = 0; i < n; i++) {
        qn_textbuf_puts(h, ",");
        qn_json_string(h, t[i].name);
        qn_textbuf_puts(h, ":{\"dtype\":\"");
        qn_textbuf_puts(h, qn_dtype_name((qn_dtype)t[i].dtype));
        qn_textbuf_puts(h, "\",\"shape\":[");
        for (unsigned d = 0; d < t[i].rank; d++) {
            qn_textbuf_puts(h, d ? "," : "");
            qn_textbuf_u64(h, t[i].dims[d]);
        }
        qn_textbuf_puts(h, "],\"data_offsets\":[");
        qn_textbuf_u64(h, at);
        at += t[i].n_bytes;
        qn_textbuf_puts(h, ",");
        qn_textbuf_u64(h, at);
        qn_textbuf_puts(h, "]}");
    }
    qn_textbuf_puts(h, "}");
    while (!qn_textbuf_failed(h) && h->n % 8)
        qn_textbuf_puts(h, " ");
}

struct out {
    const qn_env *env;
    qn_file file;
    uint8_t *buf;
    uint64_t at, total;
    qn_hasher hash;
};

static qn_code append(struct out *o, const void *p, uint64_t n, qn_err *err)
{
    QN_TRY(qn_file_write(&o->file, p, n, o->at, err));
    qn_hasher_add(&o->hash, p, (size_t)n);
    o->at += n;
    if (o->env->progress)
        o->env->progress(o->env->progress_ctx, "write", o->at, o->total);
    return qn_env_check(o->env, err);
}

static qn_code append_tensor(struct out *o, const qn_out_tensor *t, qn_out_read_fn read, void *ctx, qn_err *err)
{
    for (uint64_t off = 0; off < t->n_bytes;) {
        const uint64_t n = qn_min_u64(BUF_BYTES, t->n_bytes - off);
        QN_TRY(read(ctx, t->id, off, n, o->buf, err));
        QN_TRY(append(o, o->buf, n, err));
        off += n;
    }
    return QN_OK;
}

/* The bytes on the disk, once more, against what was handed over. */
static qn_code read_back(struct out *o, qn_err *err)
{
    const qn_digest want = qn_hasher_digest(&o->hash);
    qn_hasher_reset(&o->hash);
    for (uint64_t off = 0; off < o->total;) {
        const uint64_t n = qn_min_u64(BUF_BYTES, o->total - off);
        QN_TRY(qn_file_read(&o->file, o->buf, n, off, err));
        qn_hasher_add(&o->hash, o->buf, (size_t)n);
        off += n;
        QN_TRY(qn_env_check(o->env, err));
    }
    const qn_digest got = qn_hasher_digest(&o->hash);
    return qn_digest_equal(&want, &got) ? QN_OK
                                        : qn_err_in_path(err, QN_FAIL(err, QN_E_VERIFY, QN_NO_OFFSET,
                                                                      "what was written does not read back"), o->file.path);
}

static qn_code fill(struct out *o, const qn_textbuf *h, const qn_out_tensor *t, uint64_t n, qn_out_read_fn read, void *ctx,
                    qn_err *err)
{
    uint8_t len[8];
    bool ovf = false;
    o->total = qn_add(8, h->n, &ovf);
    for (uint64_t i = 0; i < n; i++)
        o->total = qn_add(o->total, t[i].n_bytes, &ovf);
    if (ovf || o->total > INT64_MAX)
        return QN_FAIL(err, QN_E_UNSUPPORTED, QN_NO_OFFSET, "the file would be longer than files can be");
    const qn_fs *fs = o->env->fs;
    const int r = fs->reserve ? fs->reserve(fs->ctx, o->file.fd, o->total) : 0;
    if (r < 0 && r != -EOPNOTSUPP && r != -EINVAL && r != -EINTR)
        return qn_err_in_path(err, QN_FAIL_SYS(err, -r, "no room for %llu bytes", (unsigned long long)o->total), o->file.path);
    qn_store64(len, h->n);
    QN_TRY(append(o, len, sizeof len, err));
    QN_TRY(append(o, h->text, h->n, err));
    for (uint64_t i = 0; i < n; i++)
        QN_TRY(qn_err_in_tensor(err, append_tensor(o, &t[i], read, ctx, err), t[i].name));
    QN_TRY(qn_file_sync(&o->file, err));
    return read_back(o, err);
}

/* Our own reader must take it: the last word also on metadata that a caller has given. */
static qn_code check_header(const qn_env *env, const char *tmp, uint64_t n, qn_err *err)
{
    qn_source *s;
    QN_TRY(qn_format_safetensors.open(env, tmp, &s, err));
    const bool all = s->n_tensors == n;
    qn_source_close(s);
    return all ? QN_OK : qn_err_in_path(err, QN_FAIL(err, QN_E_VERIFY, QN_NO_OFFSET, "tensors are missing in what was written"),
                                        tmp);
}

/* A temporary file from a run that was cut off is of no use: it is written anew. */
static qn_code open_tmp(struct out *o, const char *tmp, qn_err *err)
{
    const qn_fs *fs = o->env->fs;
    if (qn_fs_exists(fs, tmp))
        (void)fs->unlink(fs->ctx, tmp);
    return qn_file_open(&o->file, fs, o->env->alloc, tmp, QN_OPEN_NEW, err);
}

qn_code qn_safetensors_write_tmp(const qn_env *env, const char *path, qn_out_tensor *t, uint64_t n, qn_out_read_fn read,
                                 void *ctx, const char *metadata, char **tmp, qn_err *err)
{
    struct out o = {.env = env, .file = QN_FILE_CLOSED};
    qn_textbuf h = {.alloc = env->alloc};
    *tmp = NULL;
    if (n)
        qsort(t, (size_t)n, sizeof *t, by_dtype_and_name);
    QN_TRY(check_tensors(env, t, n, err));
    header_text(&h, t, n, metadata);
    char *name = qn_path_cat(env->alloc, path, TMP_SUFFIX, err);
    qn_code rc = name && !qn_textbuf_failed(&h) ? qn_hasher_open(&o.hash, err) : QN_FAIL(err, QN_E_MEMORY, QN_NO_OFFSET, "out of memory");
    if (rc == QN_OK && !(o.buf = qn_mem_get(env->alloc, BUF_BYTES, err)))
        rc = QN_E_MEMORY;
    if (rc == QN_OK)
        rc = open_tmp(&o, name, err);
    const bool made = rc == QN_OK;
    if (rc == QN_OK)
        rc = fill(&o, &h, t, n, read, ctx, err);
    if (rc == QN_OK)
        rc = qn_file_close(&o.file, err);
    if (rc == QN_OK)
        rc = check_header(env, name, n, err);
    qn_file_drop(&o.file);
    if (rc != QN_OK && made)
        (void)env->fs->unlink(env->fs->ctx, name);
    qn_hasher_close(&o.hash);
    qn_mem_put(env->alloc, o.buf);
    qn_mem_put(env->alloc, h.text);
    if (rc == QN_OK)
        *tmp = name;
    else
        qn_mem_put(env->alloc, name);
    return rc;
}

qn_code qn_safetensors_write(const qn_env *env, const char *path, qn_out_tensor *t, uint64_t n, qn_out_read_fn read,
                             void *ctx, const qn_safetensors_options *opt, qn_err *err)
{
    char *tmp;
    qn_stat st;
    bool there;
    QN_TRY(qn_fs_find(env->fs, path, &st, &there, err));
    if (!opt->overwrite && there)
        return qn_err_in_path(err, QN_FAIL(err, QN_E_USAGE, QN_NO_OFFSET, "exists: give --force to replace it"),
                              path);
    QN_TRY(qn_safetensors_write_tmp(env, path, t, n, read, ctx, opt->metadata, &tmp, err));
    const qn_code rc = qn_fs_publish(env->fs, env->alloc, tmp, path, err);
    if (rc != QN_OK && qn_fs_exists(env->fs, tmp))
        (void)env->fs->unlink(env->fs->ctx, tmp);
    qn_mem_put(env->alloc, tmp);
    return rc;
}
