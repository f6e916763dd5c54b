/* token_input.c: see token_input.h. */
#include "cli/token_input.h"
#include "base/err.h"
#include "base/num.h"
#include <errno.h>
#include <string.h>
#include <unistd.h>

enum { PIECE_BYTES = 1 << 16 };

static qn_code room(qn_cli *cli, char **p, uint64_t n, uint64_t *cap, uint64_t more, qn_err *err)
{
    char *q = n + more <= *cap ? *p : qn_mem_grow(cli->env.alloc, *p, n, cap, n + more, 1, err);
    if (!q)
        return QN_E_MEMORY;
    *p = q;
    return QN_OK;
}

static qn_code from_stdin(qn_cli *cli, char **p, uint64_t *n, qn_err *err)
{
    uint64_t cap = 0;
    for (;;) {
        QN_TRY(room(cli, p, *n, &cap, PIECE_BYTES, err));
        const ssize_t got = read(STDIN_FILENO, *p + *n, PIECE_BYTES);
        if (got == 0)
            return QN_OK;
        if (got < 0 && errno != EINTR)
            return qn_err_in_path(err, QN_FAIL_SYS(err, errno, "cannot be read"), "standard input");
        QN_TRY(qn_env_check(&cli->env, err));
        *n += got > 0 ? (uint64_t)got : 0;
    }
}

static qn_code from_file(qn_cli *cli, const char *path, char **p, uint64_t *n, qn_err *err)
{
    qn_file f = QN_FILE_CLOSED;
    qn_stat st;
    uint64_t cap = 0;
    QN_TRY(qn_file_open(&f, cli->env.fs, cli->env.alloc, path, QN_OPEN_READ, err));
    qn_code rc = qn_file_stat(&f, &st, err);
    if (rc == QN_OK && !st.is_regular)
        rc = qn_err_in_path(err, QN_FAIL(err, QN_E_USAGE, QN_NO_OFFSET, "is not a file"), path);
    if (rc == QN_OK)
        rc = room(cli, p, 0, &cap, st.n_bytes + 1, err);
    if (rc == QN_OK)
        rc = qn_file_read(&f, *p, st.n_bytes, 0, err);
    if (rc == QN_OK)
        *n = st.n_bytes;
    qn_file_drop(&f);
    return rc;
}

qn_code qn_token_input_bytes(qn_cli *cli, const char *path, char **bytes, uint64_t *n, qn_err *err)
{
    char *p = NULL;
    *n = 0;
    const qn_code rc = !path || strcmp(path, "-") == 0 ? from_stdin(cli, &p, n, err) : from_file(cli, path, &p, n, err);
    if (rc != QN_OK) {
        qn_mem_put(cli->env.alloc, p);
        return rc;
    }
    *bytes = p;
    return QN_OK;
}

static qn_code put(qn_cli *cli, qn_tokens *out, uint64_t id, qn_err *err)
{
    if (id >= UINT32_MAX)
        return QN_FAIL(err, QN_E_INPUT, QN_NO_OFFSET, "id %llu is too large", (unsigned long long)id);
    if (out->n == out->cap) {
        uint32_t *p = qn_mem_grow(cli->env.alloc, out->ids, out->n, &out->cap, out->n + 1, sizeof *p, err);
        if (!p)
            return QN_E_MEMORY;
        out->ids = p;
    }
    out->ids[out->n++] = (uint32_t)id;
    return QN_OK;
}

static qn_code from_text(qn_cli *cli, const char *s, uint64_t n, qn_tokens *out, qn_err *err)
{
    for (uint64_t i = 0; i < n;) {
        uint64_t id = 0;
        bool ovf = false;
        if (memchr(" \t\r\n,[]", s[i], 7)) {
            i++;
            continue;
        }
        if (s[i] < '0' || s[i] > '9')
            return QN_FAIL(err, QN_E_INPUT, i, "byte 0x%02x where an id should be", (unsigned char)s[i]);
        for (; i < n && s[i] >= '0' && s[i] <= '9'; i++)
            id = qn_add(qn_mul(id, 10, &ovf), (uint64_t)(s[i] - '0'), &ovf);
        QN_TRY(put(cli, out, ovf ? UINT64_MAX : id, err));
    }
    return QN_OK;
}

static qn_code from_array(qn_cli *cli, const uint8_t *p, uint64_t n, qn_dtype t, qn_tokens *out, qn_err *err)
{
    const unsigned size = qn_dtype_bits(t) / 8;
    for (uint64_t i = 0; i < n; i++, p += size) {
        const uint64_t id = size == 2 ? qn_load16(p) : size == 4 ? qn_load32(p) : qn_load64(p);
        const bool negative = (t == QN_I16 || t == QN_I32 || t == QN_I64) && id >> (8 * size - 1);
        if (negative)
            return QN_FAIL(err, QN_E_INPUT, QN_NO_OFFSET, "id %llu of the array is negative", (unsigned long long)i);
        QN_TRY(put(cli, out, id, err));
    }
    return QN_OK;
}

static qn_code from_npy(qn_cli *cli, qn_source *s, qn_tokens *out, qn_err *err)
{
    const qn_source_tensor *t = s->n_tensors == 1 ? &s->tensors[0] : NULL;
    const qn_dtype d = t ? (qn_dtype)t->dtype : QN_BYTES;
    const bool fits = d == QN_U16 || d == QN_I16 || d == QN_U32 || d == QN_I32 || d == QN_U64 || d == QN_I64;
    if (!t || t->rank != 1 || !fits)
        return QN_FAIL(err, QN_E_INPUT, QN_NO_OFFSET, "is not one dimension of 16, 32 or 64-bit integers");
    uint8_t *p = qn_mem_get(cli->env.alloc, t->n_bytes, err);
    if (!p)
        return QN_E_MEMORY;
    qn_code rc = qn_source_tensor_read(s, 0, 0, t->n_bytes, p, err);
    if (rc == QN_OK)
        rc = from_array(cli, p, t->dims[0], d, out, err);
    qn_mem_put(cli->env.alloc, p);
    return rc;
}

bool qn_token_input_is_npy(const char *path)
{
    const size_t n = path ? strlen(path) : 0;
    return n > 4 && strcmp(path + n - 4, ".npy") == 0;
}

qn_code qn_token_input_ids(qn_cli *cli, const char *path, const char *bytes, uint64_t n, qn_tokens *out, qn_err *err)
{
    qn_source *s;
    if (!qn_token_input_is_npy(path))
        return qn_err_in_path(err, from_text(cli, bytes, n, out, err), path ? path : "the ids");
    QN_TRY(qn_cli_open(cli, path, &s, err));
    const qn_code rc = qn_err_in_path(err, from_npy(cli, s, out, err), path);
    qn_source_close(s);
    return rc;
}
