/* tar.c: headers of a tar archive: POSIX ustar with pax records, and GNU's long names. IEEE Std 1003.1, pax, "ustar Interchange
 * Format" and "pax Extended Header"; GNU tar manual, "Basic Tar Format".
 *
 *     header (512) │ data, padded to 512 │ header … │ two blocks of zeros, and zeros to the end
 *
 * One way to understand the file: sums must match, numbers be well formed, and what changes the meaning of a member in a way
 * that is not known here (sparse files, several volumes) is refused, not passed over. */
#include "formats/archive/tar.h"
#include "base/err.h"
#include "base/num.h"
#include <string.h>

enum {
    BLOCK = 512,
    NAME_AT = 0, NAME_BYTES = 100,
    SIZE_AT = 124, SIZE_BYTES = 12,
    SUM_AT = 148, SUM_BYTES = 8,
    TYPE_AT = 156,
    LINK_AT = 157,
    MAGIC_AT = 257,
    PREFIX_AT = 345, PREFIX_BYTES = 155,
    NAME_MAX_BYTES = 1100,    /* a path of 1024 and what may stand in front of it and is dropped */
    EXTRA_MAX = 1 << 20,      /* of a pax header, or a long name */
};

struct tar {
    const qn_env *env;
    qn_tar_read_fn read;
    void *ctx;
    uint64_t n_bytes, at;
    /* what extra headers say of the next member */
    char name[NAME_MAX_BYTES + 1];
    size_t n_name;
    uint64_t size;
    bool has_name, has_size, has_extra;
};

bool qn_tar_begins(const uint8_t *head, size_t n)
{
    return n >= MAGIC_AT + 5 && memcmp(head + MAGIC_AT, "ustar", 5) == 0;
}

static bool is_zero(const uint8_t *p, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (p[i])
            return false;
    return true;
}

/* Octal with spaces or NULs around, or (GNU) big-endian binary behind a byte 0x80. */
static bool read_number(const uint8_t *p, size_t n, uint64_t *v)
{
    size_t i = 0;
    bool ovf = false;
    *v = 0;
    if (p[0] & 0x80) {
        if (p[0] != 0x80) /* negative, or more than 64 bits */
            return false;
        for (i = 1; i < n; i++)
            *v = qn_add(qn_mul(*v, 256, &ovf), p[i], &ovf);
        return !ovf;
    }
    while (i < n && p[i] == ' ')
        i++;
    const size_t first = i;
    for (; i < n && p[i] >= '0' && p[i] <= '7'; i++)
        *v = *v << 3 | (uint64_t)(p[i] - '0'); /* at most 12 digits */
    if (i == first)
        return false;
    while (i < n && (p[i] == ' ' || p[i] == '\0'))
        i++;
    return i == n;
}

static qn_code check_head(const struct tar *t, const uint8_t *h, qn_err *err)
{
    uint64_t want;
    uint32_t sum = ' ' * SUM_BYTES;
    for (size_t i = 0; i < BLOCK; i++)
        sum += i >= SUM_AT && i < SUM_AT + SUM_BYTES ? 0u : h[i];
    if (!qn_tar_begins(h, BLOCK))
        return QN_FAIL(err, QN_E_INPUT, t->at, "a header of a tar archive is expected here");
    if (!read_number(h + SUM_AT, SUM_BYTES, &want) || want != sum)
        return QN_FAIL(err, QN_E_INPUT, t->at, "the sum of this tar header does not match: the archive is damaged");
    return QN_OK;
}

/* ---- extra headers ---- */

static qn_code set_name(struct tar *t, const char *p, size_t n, qn_err *err)
{
    if (n > NAME_MAX_BYTES || memchr(p, 0, n))
        return QN_FAIL(err, QN_E_INPUT, t->at, "name of a member: at most %d bytes without NUL are allowed", NAME_MAX_BYTES);
    memcpy(t->name, p, n);
    t->name[n] = '\0';
    t->n_name = n;
    t->has_name = true;
    return QN_OK;
}

static qn_code bad_pax(const struct tar *t, qn_err *err)
{
    return QN_FAIL(err, QN_E_INPUT, t->at, "pax header: records of 'length key=value' are expected");
}

static qn_code take_record(struct tar *t, bool global, const char *key, size_t n_key, const char *value, size_t n, qn_err *err)
{
    static const char sparse[] = "GNU.sparse.";
    const bool path = n_key == 4 && memcmp(key, "path", 4) == 0, size = n_key == 4 && memcmp(key, "size", 4) == 0;
    if (n_key >= sizeof sparse - 1 && memcmp(key, sparse, sizeof sparse - 1) == 0)
        return QN_FAIL(err, QN_E_UNSUPPORTED, t->at, "a sparse file in a tar archive: pack it without --sparse");
    if (global && (path || size))
        return QN_FAIL(err, QN_E_UNSUPPORTED, t->at, "a pax header that gives every member the same name or size");
    if (path)
        return set_name(t, value, n, err);
    if (!size)
        return QN_OK;
    bool ovf = n == 0;
    t->size = 0;
    for (size_t i = 0; i < n && !ovf; i++) {
        ovf = value[i] < '0' || value[i] > '9';
        t->size = qn_add(qn_mul(t->size, 10, &ovf), (uint64_t)(value[i] - '0'), &ovf);
    }
    t->has_size = true;
    return ovf ? QN_FAIL(err, QN_E_INPUT, t->at, "pax header: size is not a number below 2^64") : QN_OK;
}

static qn_code read_pax(struct tar *t, const char *p, size_t n, bool global, qn_err *err)
{
    for (size_t i = 0; i < n;) {
        size_t len = 0, k = i;
        for (; k < n && p[k] >= '0' && p[k] <= '9' && len <= EXTRA_MAX; k++)
            len = 10 * len + (size_t)(p[k] - '0');
        if (k == i || k == n || p[k] != ' ' || len > n - i || len <= k + 1 - i || p[i + len - 1] != '\n')
            return bad_pax(t, err);
        const char *key = p + k + 1, *end = p + i + len - 1, *equals = memchr(key, '=', (size_t)(end - key));
        if (!equals || equals == key)
            return bad_pax(t, err);
        QN_TRY(take_record(t, global, key, (size_t)(equals - key), equals + 1, (size_t)(end - equals - 1), err));
        i += len;
    }
    return QN_OK;
}

static qn_code read_extra(struct tar *t, char type, uint64_t size, qn_err *err)
{
    if (size > EXTRA_MAX)
        return QN_FAIL(err, QN_E_UNSUPPORTED, t->at, "extra header of %llu bytes: up to %d are read", (unsigned long long)size,
                       EXTRA_MAX);
    char *p = qn_mem_get(t->env->alloc, size, err);
    if (!p)
        return QN_E_MEMORY;
    qn_code rc = t->read(t->ctx, p, size, t->at + BLOCK, err);
    size_t n = (size_t)size;
    if (rc == QN_OK && type == 'L') { /* a name, with a NUL behind it */
        while (n > 0 && p[n - 1] == '\0')
            n--;
        rc = set_name(t, p, n, err);
    } else if (rc == QN_OK && type != 'K') {
        rc = read_pax(t, p, n, type == 'g', err);
    }
    qn_mem_put(t->env->alloc, p);
    t->has_extra = t->has_extra || type != 'g';
    return rc;
}

/* ---- members ---- */

static size_t field(const uint8_t *p, size_t n)
{
    const uint8_t *zero = memchr(p, 0, n);
    return zero ? (size_t)(zero - p) : n;
}

static qn_code take_header_name(struct tar *t, const uint8_t *h, qn_err *err)
{
    const bool posix = memcmp(h + MAGIC_AT, "ustar\0" "00", 8) == 0; /* GNU's header has other things where the prefix is */
    const size_t n = field(h + NAME_AT, NAME_BYTES), n_prefix = posix ? field(h + PREFIX_AT, PREFIX_BYTES) : 0;
    char name[NAME_BYTES + PREFIX_BYTES + 1];
    size_t at = 0;
    if (t->has_name)
        return QN_OK;
    if (n_prefix) {
        memcpy(name, h + PREFIX_AT, n_prefix);
        at = n_prefix;
        name[at++] = '/';
    }
    memcpy(name + at, h + NAME_AT, n);
    return set_name(t, name, at + n, err);
}

static qn_code refuse(const struct tar *t, const uint8_t *h, const char *what, const char *instead, qn_err *err)
{
    char name[96], to[96];
    qn_printable(name, sizeof name, t->name, t->n_name);
    qn_printable(to, sizeof to, (const char *)h + LINK_AT, field(h + LINK_AT, NAME_BYTES));
    return QN_FAIL(err, QN_E_UNSUPPORTED, t->at, "member '%s' is %s%s%s: only files and folders are read%s", name, what,
                   instead ? " to " : "", instead ? to : "", instead ? instead : "");
}

static qn_code take_member(struct tar *t, const uint8_t *h, uint64_t size, bool in_spool, qn_members *m, qn_err *err)
{
    const char type = (char)h[TYPE_AT];
    QN_TRY(take_header_name(t, h, err));
    switch (type) {
    case '0':
    case '\0':
    case '7': /* contiguous: a file like others */
    case '5':
        break;
    case '1':
        return refuse(t, h, "a hard link", "; pack it with --hard-dereference", err);
    case '2':
        return refuse(t, h, "a symlink", "; pack it with --dereference (-h)", err);
    case '3':
    case '4':
    case '6':
        return refuse(t, h, "a device or a pipe", NULL, err);
    case 'S':
        return refuse(t, h, "a sparse file", NULL, err);
    default:
        return QN_FAIL(err, QN_E_UNSUPPORTED, t->at, "tar header of type 0x%02x: only files and folders are read", h[TYPE_AT]);
    }
    const bool is_dir = type == '5' || (t->n_name > 0 && t->name[t->n_name - 1] == '/');
    if (is_dir && size)
        return QN_FAIL(err, QN_E_INPUT, t->at, "a folder with %llu bytes of data", (unsigned long long)size);
    const qn_member where = {.off = t->at + BLOCK, .n_bytes = size, .in_spool = in_spool};
    QN_TRY(qn_members_add(m, t->name, t->n_name, is_dir, &where, t->at, err));
    t->has_name = t->has_size = t->has_extra = false;
    return QN_OK;
}

/* Behind the last member: nothing that another reader could take for more. */
static qn_code check_end(struct tar *t, qn_err *err)
{
    uint8_t buf[8 << 10];
    if (t->n_bytes - t->at < BLOCK)
        return QN_FAIL(err, QN_E_INPUT, t->at, "tar archive without its two blocks of zeros at the end: it is cut");
    while (t->at < t->n_bytes) {
        const uint64_t n = qn_min_u64(sizeof buf, t->n_bytes - t->at);
        QN_TRY(qn_env_check(t->env, err));
        QN_TRY(t->read(t->ctx, buf, n, t->at, err));
        if (!is_zero(buf, n))
            return QN_FAIL(err, QN_E_INPUT, t->at, "bytes behind the end of the tar archive that are not zero");
        t->at += n;
    }
    return QN_OK;
}

static qn_code list(struct tar *t, bool in_spool, qn_members *m, qn_err *err)
{
    uint8_t h[BLOCK];
    uint64_t n_heads = 0;
    for (;;) {
        if (t->n_bytes - t->at < BLOCK)
            return QN_FAIL(err, QN_E_INPUT, t->at, "tar archive without its two blocks of zeros at the end: it is cut");
        QN_TRY(qn_env_check(t->env, err));
        QN_TRY(t->read(t->ctx, h, BLOCK, t->at, err));
        if (is_zero(h, BLOCK))
            break;
        QN_TRY(check_head(t, h, err));
        if (++n_heads > 4 * (uint64_t)QN_MEMBERS_MAX)
            return QN_FAIL(err, QN_E_UNSUPPORTED, t->at, "more than %d headers in a tar archive", 4 * QN_MEMBERS_MAX);
        const char type = (char)h[TYPE_AT];
        const bool extra = type == 'x' || type == 'g' || type == 'L' || type == 'K';
        uint64_t size, padded;
        bool ovf = false;
        if (!read_number(h + SIZE_AT, SIZE_BYTES, &size))
            return QN_FAIL(err, QN_E_INPUT, t->at + SIZE_AT, "size in a tar header is not a number");
        if (!extra && t->has_size)
            size = t->size;
        padded = qn_align_up(size, BLOCK, &ovf);
        if (ovf || padded > t->n_bytes - t->at - BLOCK)
            return QN_FAIL(err, QN_E_INPUT, t->at, "member of %llu bytes: %llu are left, the archive is cut",
                           (unsigned long long)size, (unsigned long long)(t->n_bytes - t->at - BLOCK));
        QN_TRY(extra ? read_extra(t, type, size, err) : take_member(t, h, size, in_spool, m, err));
        t->at += BLOCK + padded;
    }
    if (t->has_extra)
        return QN_FAIL(err, QN_E_INPUT, t->at, "an extra header without its member");
    t->at += BLOCK;
    return check_end(t, err);
}

qn_code qn_tar_list(const qn_env *env, qn_tar_read_fn read, void *ctx, uint64_t n_bytes, bool in_spool, qn_members *m,
                    qn_err *err)
{
    struct tar *t = qn_mem_zeros(env->alloc, 1, sizeof *t, err);
    if (!t)
        return QN_E_MEMORY;
    t->env = env;
    t->read = read;
    t->ctx = ctx;
    t->n_bytes = n_bytes;
    const qn_code rc = list(t, in_spool, m, err);
    qn_mem_put(env->alloc, t);
    return rc;
}
