/* test_damage.c: a .quern that is not what was written: bytes changed, cut off, added, pages zeroed, chunks exchanged, two
 * files spliced. All of it is noticed; what is intact can still be read. */
#include "tests/fault/kit.h"
#include "base/num.h"
#include "formats/quern/source.h"
#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

struct packed {
    qt_world w;
    uint8_t *bytes;
    size_t n;
    qn_source *good; /* of the undamaged file */
    const qn_index *ix;
};

static void packed_open(struct packed *p, qn_level level)
{
    qt_world_open(&p->w);
    p->w.pack.level = level;
    cr_assert_eq(qt_pack(&p->w, "in", "good.quern"), QN_OK, "%s", qt_line(&p->w.err));
    p->bytes = qt_copy_file(&p->w, "good.quern", &p->n);
    cr_assert_eq(qn_source_open(&p->w.env, "good.quern", &p->good, &p->w.err), QN_OK);
    p->ix = qn_reader_index(qn_quern_source_reader(p->good));
}

static void packed_close(struct packed *p)
{
    qn_source_close(p->good);
    free(p->bytes);
    qt_world_close(&p->w);
}

/* A reader over bytes in memory. */
static qn_code open_bytes(struct packed *p, const uint8_t *bytes, size_t n, qn_reader **r)
{
    const qn_reader_options opt = {.struct_bytes = sizeof opt, .alloc = &p->w.heap.alloc};
    p->w.err = (qn_err){0};
    return qn_reader_open_memory(bytes, n, &opt, r, &p->w.err);
}

/* The chunk whose payload holds this byte, UINT64_MAX if none does. */
static uint64_t chunk_at(const qn_index *ix, size_t at)
{
    for (uint64_t c = 0; c < ix->n_chunks; c++)
        if (ix->chunks[c].codec != QN_CODEC_SHARED && at >= ix->chunks[c].off &&
            at < ix->chunks[c].off + ix->chunks[c].stored_bytes)
            return c;
    return UINT64_MAX;
}

/* Is tensor t made of this chunk, itself or by sharing? */
static bool uses(const qn_index *ix, uint64_t tensor, uint64_t chunk)
{
    const qn_index_object *o = &ix->objects[ix->tensors[tensor]];
    for (uint64_t c = o->first_chunk; c < o[1].first_chunk; c++)
        if (c == chunk || (ix->chunks[c].codec == QN_CODEC_SHARED && ix->chunks[c].off == chunk))
            return true;
    return false;
}

/* One payload is damaged: its tensors are refused by name and chunk, all others are as they were. */
static void check_tensors(struct packed *p, qn_reader *bad, uint64_t chunk)
{
    qn_reader *good = qn_quern_source_reader(p->good);
    for (uint64_t t = 0; t < p->ix->n_tensors; t++) {
        uint8_t a[1024], b[1024];
        qn_tensor info;
        qn_err err = {0};
        cr_assert_eq(qn_reader_tensor(bad, t, &info, &err), QN_OK);
        const qn_code rc = qn_reader_bytes(bad, t, 0, info.n_bytes, a, &err);
        if (uses(p->ix, t, chunk)) {
            cr_assert_eq(rc, QN_E_INPUT, "%s", info.name);
            cr_assert_str_eq(err.tensor, info.name);
            cr_assert_not_null(strstr(err.text, "chunk 1 of 1"), "%s", err.text);
        } else {
            cr_assert_eq(rc, QN_OK, "%s", info.name);
            cr_assert_eq(qn_reader_bytes(good, t, 0, info.n_bytes, b, &err), QN_OK);
            cr_assert_arr_eq(a, b, (size_t)info.n_bytes);
        }
    }
}

Test(damage, every_byte)
{
    static const uint8_t masks[] = {0x01, 0x80, 0xff};
    struct packed p;
    unsigned long n = 0, in_payload = 0;
    packed_open(&p, QN_LEVEL_FAST);
    for (size_t at = 0; at < p.n; at++)
        for (size_t k = 0; k < sizeof masks; k++, n++) {
            qn_reader *r;
            p.bytes[at] ^= masks[k];
            const uint64_t chunk = chunk_at(p.ix, at);
            cr_assert_eq(qn_memfs_put(p.w.mem, "bad.quern", p.bytes, p.n), 0);
            const qn_code rc = qt_verify(&p.w, "bad.quern");
            cr_assert(rc == QN_E_INPUT || rc == QN_E_UNSUPPORTED, "byte %zu: %s", at, qt_line(&p.w.err));
            cr_assert_neq(p.w.err.text[0], '\0');
            if (chunk != UINT64_MAX) {
                in_payload++;
                const qn_index_object *o = &p.ix->objects[qn_index_object_of(p.ix, chunk)];
                cr_assert_str_eq(p.w.err.tensor, o->is_tensor ? o->name : p.ix->files[o->file].path);
                cr_assert_not_null(strstr(p.w.err.text, "chunk 1 of 1"), "%s", p.w.err.text);
                cr_assert_geq(p.w.err.off, p.ix->chunks[chunk].off);
            }
            if (open_bytes(&p, p.bytes, p.n, &r) == QN_OK) {
                if (chunk != UINT64_MAX)
                    check_tensors(&p, r, chunk);
                qn_reader_close(r);
            }
            p.bytes[at] ^= masks[k];
        }
    fprintf(stderr, "# bytes flipped: %lu (%lu in payloads), all noticed\n", n, in_payload);
    packed_close(&p);
}

Test(damage, every_prefix_and_64_bytes_more)
{
    struct packed p;
    packed_open(&p, QN_LEVEL_FAST);
    uint8_t *longer = calloc(1, p.n + 64);
    memcpy(longer, p.bytes, p.n);
    for (size_t n = 0; n <= p.n + 64; n++)
        for (int fill = 0; fill < 2; fill++) {
            qn_reader *r;
            if (n > p.n)
                longer[n - 1] = fill ? p.bytes[n - 1 - 64] : 0; /* zeros, or the footer once more */
            const qn_code rc = open_bytes(&p, longer, n, &r);
            cr_assert(n == p.n ? rc == QN_OK : rc == QN_E_INPUT, "%zu of %zu bytes: code %d", n, p.n, rc);
            if (rc == QN_OK)
                qn_reader_close(r);
            if (n != p.n && (n % 16 == 0 || n > p.n)) {
                cr_assert_eq(qn_memfs_put(p.w.mem, "bad.quern", longer, n), 0);
                cr_assert_eq(qt_verify(&p.w, "bad.quern"), QN_E_INPUT, "%zu bytes", n);
                cr_assert_eq(qt_unpack(&p.w, "bad.quern", "restored"), QN_E_INPUT);
                cr_assert_eq(qt_n_paths(&p.w, "restored"), 0);
            }
        }
    fprintf(stderr, "# lengths tried: 0 to %zu, only %zu accepted\n", p.n + 64, p.n);
    free(longer);
    packed_close(&p);
}

static void must_be_bad(struct packed *p, const uint8_t *bytes, size_t n, const char *what)
{
    cr_assert_eq(qn_memfs_put(p->w.mem, "bad.quern", bytes, n), 0);
    const qn_code rc = qt_verify(&p->w, "bad.quern");
    cr_assert(rc == QN_E_INPUT || rc == QN_E_UNSUPPORTED, "%s: code %d", what, rc);
    cr_assert_neq(qt_unpack(&p->w, "bad.quern", "restored"), QN_OK, "%s", what);
    cr_assert_eq(qt_n_paths(&p->w, "restored"), 0, "%s", what);
}

Test(damage, structure)
{
    struct packed p, q;
    unsigned long n = 0;
    packed_open(&p, QN_LEVEL_FAST);
    packed_open(&q, QN_LEVEL_MAX);
    uint8_t *bad = malloc(p.n + q.n);
    /* runs of zeros, and runs copied over the next ones */
    for (size_t run = 8; run <= 4096; run *= 2)
        for (size_t at = 0; at + run <= p.n; at += run) {
            memcpy(bad, p.bytes, p.n);
            memset(bad + at, 0, run);
            if (memcmp(bad, p.bytes, p.n) != 0)
                must_be_bad(&p, bad, p.n, "zeroed run"), n++;
            memcpy(bad, p.bytes, p.n);
            if (at + 2 * run <= p.n)
                memcpy(bad + at + run, bad + at, run);
            if (memcmp(bad, p.bytes, p.n) != 0)
                must_be_bad(&p, bad, p.n, "repeated run"), n++;
        }
    /* payloads of equal length exchanged */
    for (uint64_t a = 0; a < p.ix->n_chunks; a++)
        for (uint64_t b = 0; b < a; b++) {
            const qn_index_chunk *x = &p.ix->chunks[a], *y = &p.ix->chunks[b];
            const size_t len = (size_t)qn_min_u64(x->stored_bytes, y->stored_bytes);
            if (x->codec == QN_CODEC_SHARED || y->codec == QN_CODEC_SHARED)
                continue;
            memcpy(bad, p.bytes, p.n);
            memcpy(bad + x->off, p.bytes + y->off, len);
            memcpy(bad + y->off, p.bytes + x->off, len);
            if (memcmp(bad, p.bytes, p.n) != 0)
                must_be_bad(&p, bad, p.n, "exchanged payloads"), n++;
        }
    /* the front of one, the back of the other; one behind the other */
    for (size_t at = 64; at < p.n; at += 64) {
        memcpy(bad, p.bytes, at);
        const size_t from = q.n > p.n - at ? q.n - (p.n - at) : 0;
        memcpy(bad + at, q.bytes + from, q.n - from);
        if (at + q.n - from == q.n && memcmp(bad, q.bytes, q.n) == 0)
            continue;
        must_be_bad(&p, bad, at + q.n - from, "spliced"), n++;
    }
    memcpy(bad, p.bytes, p.n);
    memcpy(bad + p.n, q.bytes, q.n);
    must_be_bad(&p, bad, p.n + q.n, "two files in one"), n++;
    fprintf(stderr, "# structural damage: %lu files, all refused\n", n);
    free(bad);
    packed_close(&q);
    packed_close(&p);
}

/* ---- salvage, and a tensor of several chunks ---- */

static void count(void *ctx, const qn_err *what)
{
    (void)what;
    ++*(unsigned *)ctx;
}

Test(damage, salvage_keeps_what_is_intact)
{
    enum { ROWS = 6000, COLS = 1024, N = ROWS * COLS, HEAD = 80 };
    qt_world w;
    qn_source *src;
    uint64_t n_bytes;
    size_t n, n_out;
    unsigned n_damaged = 0, n_bad = 0;
    uint8_t *file = calloc(1, 8 + HEAD + N);
    qt_rng rng = qt_seed(5);
    qt_world_open(&w);
    memset(file + 8, ' ', HEAD);
    const int len = snprintf((char *)file + 8, HEAD, "{\"t\":{\"dtype\":\"U8\",\"shape\":[%d,%d],\"data_offsets\":[0,%d]}}", ROWS,
                             COLS, N);
    file[8 + len] = ' ';
    qn_store64(file, HEAD);
    for (size_t i = 0; i < N; i += 8)
        qn_store64(file + 8 + HEAD + i, qt_next(&rng) & 0x0303030303030303u);
    cr_assert_eq(qn_memfs_put(w.mem, "t.safetensors", file, 8 + HEAD + N), 0);
    cr_assert_eq(qt_pack(&w, "t.safetensors", "t.quern"), QN_OK, "%s", qt_line(&w.err));
    cr_assert_geq(w.report.n_chunks, 4);

    uint8_t *packed = qt_copy_file(&w, "t.quern", &n);
    cr_assert_eq(qn_source_open(&w.env, "t.quern", &src, &w.err), QN_OK);
    const qn_index *ix = qn_reader_index(qn_quern_source_reader(src));
    const qn_index_object *o = &ix->objects[ix->tensors[0]];
    const size_t at = (size_t)ix->chunks[o->first_chunk + 1].off + 1000, chunk = o->chunk_units;
    qn_source_close(src);
    packed[at] ^= 4;
    cr_assert_eq(qn_memfs_put(w.mem, "t.quern", packed, n), 0);
    free(packed);

    cr_assert_eq(qt_unpack(&w, "t.quern", "u.safetensors"), QN_E_INPUT);
    cr_assert_str_eq(w.err.tensor, "t");
    cr_assert_not_null(strstr(w.err.text, "chunk 2 of"), "%s", w.err.text);
    cr_assert_eq(qt_n_paths(&w, "u.safetensors"), 0);

    w.unpack = (qn_unpack_options){.salvage = true, .damaged = count, .damaged_ctx = &n_damaged};
    cr_assert_eq(qt_unpack(&w, "t.quern", "u.safetensors"), QN_E_INPUT);
    cr_assert_eq(n_damaged, 1);
    const uint8_t *out = qn_memfs_get(w.mem, "u.safetensors", &n_out);
    cr_assert_eq(n_out, 8 + HEAD + N);
    for (size_t i = 0; i < n_out; i++) {
        const size_t in_tensor = i - 8 - HEAD;
        const bool lost = i >= 8 + HEAD && in_tensor / chunk == 1;
        if (out[i] != (lost ? 0 : file[i]))
            cr_assert_fail("byte %zu", i);
    }
    cr_assert_eq(qn_source_open(&w.env, "t.quern", &src, &w.err), QN_OK);
    cr_assert_eq(qn_verify(&w.env, src, count, &n_bad, &w.err), QN_E_INPUT);
    cr_assert_eq(n_bad, 1, "the damage is reported once");
    n_bytes = src->files[0].n_bytes;
    cr_assert_eq(n_bytes, n_out);
    qn_source_close(src);
    free(file);
    qt_world_close(&w);
}
