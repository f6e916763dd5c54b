/* model.c (sentencepiece): see sentencepiece.h. */
#include "base/err.h"
#include "base/names.h"
#include "base/num.h"
#include "formats/sentencepiece/sentencepiece.h"
#include "formats/wire/wire.h"
#include <math.h>
#include <string.h>

enum { WINDOW_BYTES = 16384 };

enum { PIECES = 1, TRAINER = 2, NORMALIZER = 3, DENORMALIZER = 5 };
enum { PIECE_TEXT = 1, PIECE_SCORE = 2, PIECE_TYPE = 3 };
enum { T_MODEL_TYPE = 3, T_SUFFIX = 24, T_BYTES = 35, T_UNK_SURFACE = 44, T_UNK = 45, T_BOS = 46, T_EOS = 47 };
enum { N_NAME = 1, N_CHARSMAP = 2, N_PREFIX = 3, N_EXTRA = 4, N_ESCAPE = 5 };

typedef struct reader {
    qn_sp_model *m;
    qn_arena *arena;
    qn_wire wire;
    const char *bos, *eos;
    uint8_t window[WINDOW_BYTES];
} reader;

bool qn_sp_probe(const uint8_t *head, size_t n)
{
    /* a piece of fewer than 128 bytes whose first field is its text */
    return n >= 5 && head[0] == (PIECES << 3 | QN_WIRE_BYTES) && head[1] >= 3 && head[1] < 0x80 &&
           head[2] == (PIECE_TEXT << 3 | QN_WIRE_BYTES) && head[3] > 0 && head[3] <= head[1] - 2;
}

int qn_sp_byte_of(const char *piece, size_t n)
{
    static const char digits[] = "0123456789ABCDEF";
    if (n != 6 || memcmp(piece, "<0x", 3) != 0 || piece[5] != '>' || !piece[3] || !piece[4])
        return -1;
    const char *hi = strchr(digits, piece[3]), *lo = strchr(digits, piece[4]);
    return hi && lo ? (int)((hi - digits) * 16 + (lo - digits)) : -1;
}

static qn_code expect(const qn_wire_field *f, qn_wire_type type, const char *what, qn_err *err)
{
    if (f->type != type)
        return QN_FAIL(err, QN_E_INPUT, f->off, "%s: wire type %u, %u is expected", what, f->type, (unsigned)type);
    return QN_OK;
}

static qn_code get_bool(const qn_wire_field *f, const char *what, bool *v, qn_err *err)
{
    QN_TRY(expect(f, QN_WIRE_VARINT, what, err));
    *v = f->value != 0;
    return QN_OK;
}

/* n bytes and a NUL → the arena. */
static qn_code get_bytes(reader *r, const qn_wire_field *f, uint64_t most, const char *what, const char **s, qn_err *err)
{
    QN_TRY(expect(f, QN_WIRE_BYTES, what, err));
    if (f->n > most)
        return QN_FAIL(err, QN_E_INPUT, f->off, "%s of %llu bytes: %llu are allowed", what, (unsigned long long)f->n,
                       (unsigned long long)most);
    char *p = qn_arena_get(r->arena, f->n + 1, 1, err);
    if (!p)
        return QN_E_MEMORY;
    QN_TRY(qn_wire_bytes(&r->wire, f->at, f->n, p, err));
    p[f->n] = '\0';
    *s = p;
    return QN_OK;
}

static qn_code get_text(reader *r, const qn_wire_field *f, const char *what, const char **s, qn_err *err)
{
    QN_TRY(get_bytes(r, f, QN_SP_PIECE_MAX, what, s, err));
    if (memchr(*s, 0, (size_t)f->n))
        return QN_FAIL(err, QN_E_INPUT, f->off, "%s has a NUL inside", what);
    return QN_OK;
}

static qn_code read_piece(reader *r, qn_wire_msg msg, qn_sp_piece *p, qn_err *err)
{
    const uint64_t at = msg.at;
    qn_wire_field f;
    bool more;
    *p = (qn_sp_piece){.type = QN_SP_NORMAL};
    for (;;) {
        QN_TRY(qn_wire_next(&r->wire, &msg, &f, &more, err));
        if (!more)
            break;
        if (f.number == PIECE_TEXT) {
            QN_TRY(get_text(r, &f, "a piece", &p->s, err));
            p->n = (uint32_t)f.n;
        } else if (f.number == PIECE_SCORE) {
            QN_TRY(expect(&f, QN_WIRE_FIXED32, "score of a piece", err));
            const uint32_t bits = (uint32_t)f.value;
            memcpy(&p->score, &bits, sizeof bits);
            if (!isfinite(p->score))
                return QN_FAIL(err, QN_E_INPUT, f.off, "score of a piece: %s, a finite number is expected",
                               isnan(p->score) ? "NaN" : "infinite");
        } else if (f.number == PIECE_TYPE) {
            QN_TRY(expect(&f, QN_WIRE_VARINT, "type of a piece", err));
            if (f.value < QN_SP_NORMAL || f.value > QN_SP_BYTE)
                return QN_FAIL(err, QN_E_INPUT, f.off, "type of a piece: %llu, 1 to 6 are allowed", (unsigned long long)f.value);
            p->type = (uint8_t)f.value;
        }
    }
    return p->n ? QN_OK : QN_FAIL(err, QN_E_INPUT, at, "an empty piece");
}

static qn_code read_trainer(reader *r, qn_wire_msg msg, qn_err *err)
{
    qn_sp_model *m = r->m;
    qn_wire_field f;
    const char *unk;
    bool more;
    for (;;) {
        QN_TRY(qn_wire_next(&r->wire, &msg, &f, &more, err));
        if (!more)
            return QN_OK;
        switch (f.number) {
        case T_MODEL_TYPE:
            QN_TRY(expect(&f, QN_WIRE_VARINT, "model_type", err));
            if (f.value < QN_SP_UNIGRAM || f.value > QN_SP_CHAR)
                return QN_FAIL(err, QN_E_INPUT, f.off, "model_type %llu: 1 to 4 are allowed", (unsigned long long)f.value);
            m->kind = (qn_sp_kind)f.value;
            break;
        case T_SUFFIX:
            QN_TRY(get_bool(&f, "treat_whitespace_as_suffix", &m->treat_whitespace_as_suffix, err));
            break;
        case T_BYTES:
            QN_TRY(get_bool(&f, "byte_fallback", &m->byte_fallback, err));
            break;
        case T_UNK_SURFACE:
            QN_TRY(get_text(r, &f, "unk_surface", &m->unk_surface, err));
            break;
        case T_UNK: /* the piece of that type counts; this only has to be sound */
            QN_TRY(get_text(r, &f, "unk_piece", &unk, err));
            break;
        case T_BOS:
            QN_TRY(get_text(r, &f, "bos_piece", &r->bos, err));
            break;
        case T_EOS:
            QN_TRY(get_text(r, &f, "eos_piece", &r->eos, err));
            break;
        default:
            break;
        }
    }
}

static qn_code read_spec(reader *r, qn_wire_msg msg, qn_sp_spec *s, qn_err *err)
{
    qn_wire_field f;
    bool more;
    s->there = true;
    for (;;) {
        QN_TRY(qn_wire_next(&r->wire, &msg, &f, &more, err));
        if (!more)
            return QN_OK;
        switch (f.number) {
        case N_NAME:
            QN_TRY(get_text(r, &f, "name of the normalizer", &s->name, err));
            break;
        case N_CHARSMAP: {
            const char *p = NULL;
            QN_TRY(get_bytes(r, &f, QN_SP_CHARSMAP_MAX, "precompiled_charsmap", &p, err));
            s->charsmap = (const uint8_t *)p;
            s->n_charsmap = f.n;
            break;
        }
        case N_PREFIX:
            QN_TRY(get_bool(&f, "add_dummy_prefix", &s->add_dummy_prefix, err));
            break;
        case N_EXTRA:
            QN_TRY(get_bool(&f, "remove_extra_whitespaces", &s->remove_extra_whitespaces, err));
            break;
        case N_ESCAPE:
            QN_TRY(get_bool(&f, "escape_whitespaces", &s->escape_whitespaces, err));
            break;
        default:
            break;
        }
    }
}

static qn_code count(reader *r, qn_err *err)
{
    qn_wire_msg msg = qn_wire_whole(&r->wire);
    qn_wire_field f;
    bool more;
    uint64_t n = 0;
    for (;;) {
        QN_TRY(qn_wire_next(&r->wire, &msg, &f, &more, err));
        if (!more)
            break;
        n += f.number == PIECES;
        if (n > QN_SP_PIECES_MAX)
            return QN_FAIL(err, QN_E_INPUT, f.off, "more than %d pieces", QN_SP_PIECES_MAX);
    }
    if (n == 0)
        return QN_FAIL(err, QN_E_INPUT, QN_NO_OFFSET, "has no pieces");
    r->m->n_pieces = n;
    r->m->pieces = qn_arena_get(r->arena, n * sizeof *r->m->pieces, _Alignof(qn_sp_piece), err);
    return r->m->pieces ? QN_OK : QN_E_MEMORY;
}

static qn_code read_all(reader *r, qn_err *err)
{
    qn_wire_msg top = qn_wire_whole(&r->wire), sub;
    const qn_wire_msg whole = top;
    qn_wire_field f;
    bool more;
    uint64_t i = 0;
    for (;;) {
        QN_TRY(qn_wire_next(&r->wire, &top, &f, &more, err));
        if (!more)
            return QN_OK;
        if (f.number != PIECES && f.number != TRAINER && f.number != NORMALIZER && f.number != DENORMALIZER)
            continue;
        QN_TRY(qn_wire_enter(&whole, &f, &sub, err));
        if (f.number == PIECES)
            QN_TRY(read_piece(r, sub, &r->m->pieces[i++], err));
        else if (f.number == TRAINER)
            QN_TRY(read_trainer(r, sub, err));
        else
            QN_TRY(read_spec(r, sub, f.number == NORMALIZER ? &r->m->normalizer : &r->m->denormalizer, err));
    }
}

static const char *piece_name(const void *ctx, uint32_t i)
{
    return ((const qn_sp_piece *)ctx)[i].s;
}

/* The rules of the head comment, and the ids of BOS and EOS: control pieces of the given names. */
static qn_code check(reader *r, qn_name_slot *slots, uint64_t n_slots, qn_err *err)
{
    qn_sp_model *m = r->m;
    unsigned n_bytes = 0;
    char shown[64];
    qn_names names;
    qn_names_init(&names, slots, n_slots);
    m->unk = m->bos = m->eos = UINT32_MAX;
    for (uint32_t i = 0; i < m->n_pieces; i++) {
        const qn_sp_piece *p = &m->pieces[i];
        qn_printable(shown, sizeof shown, p->s, p->n);
        const uint32_t twin = qn_names_add(&names, p->s, i, piece_name, m->pieces);
        if (twin != QN_NAMES_NONE)
            return QN_FAIL(err, QN_E_INPUT, QN_NO_OFFSET, "piece '%s' stands twice: as number %u and %u", shown, twin, i);
        if (p->type == QN_SP_UNKNOWN) {
            if (m->unk != UINT32_MAX)
                return QN_FAIL(err, QN_E_INPUT, QN_NO_OFFSET, "two pieces are of the type unknown: number %u and %u", m->unk, i);
            m->unk = i;
        }
        if (p->type == QN_SP_BYTE) {
            if (!m->byte_fallback)
                return QN_FAIL(err, QN_E_INPUT, QN_NO_OFFSET, "byte piece '%s', but byte_fallback is false", shown);
            if (qn_sp_byte_of(p->s, p->n) < 0)
                return QN_FAIL(err, QN_E_INPUT, QN_NO_OFFSET, "byte piece '%s': <0xHH> is expected", shown);
            n_bytes++;
        }
    }
    if (m->unk == UINT32_MAX)
        return QN_FAIL(err, QN_E_INPUT, QN_NO_OFFSET, "no piece is of the type unknown");
    if (m->byte_fallback && n_bytes != 256)
        return QN_FAIL(err, QN_E_INPUT, QN_NO_OFFSET, "byte_fallback with %u byte pieces: 256 are expected", n_bytes);
    const uint32_t bos = qn_names_find(&names, r->bos[0] ? r->bos : "<s>", piece_name, m->pieces);
    const uint32_t eos = qn_names_find(&names, r->eos[0] ? r->eos : "</s>", piece_name, m->pieces);
    if (bos != QN_NAMES_NONE && m->pieces[bos].type == QN_SP_CONTROL)
        m->bos = bos;
    if (eos != QN_NAMES_NONE && m->pieces[eos].type == QN_SP_CONTROL)
        m->eos = eos;
    return QN_OK;
}

qn_code qn_sp_read(qn_sp_model *m, qn_arena *arena, qn_sp_read_fn read, void *ctx, uint64_t n_bytes, qn_err *err)
{
    static const qn_sp_spec defaults = {.name = "", .add_dummy_prefix = true, .remove_extra_whitespaces = true,
                                        .escape_whitespaces = true};
    const qn_alloc *a = arena->alloc;
    *m = (qn_sp_model){.kind = QN_SP_UNIGRAM, .unk_surface = " \xe2\x81\x87 ", .normalizer = defaults, .denormalizer = defaults};
    reader *r = qn_mem_get(a, sizeof *r, err);
    if (!r)
        return QN_E_MEMORY;
    r->m = m;
    r->arena = arena;
    r->bos = r->eos = "";
    qn_wire_init(&r->wire, read, ctx, n_bytes, r->window, sizeof r->window);
    qn_code rc = count(r, err);
    if (rc == QN_OK)
        rc = read_all(r, err);
    if (rc == QN_OK) {
        const uint64_t n_slots = qn_names_slots(m->n_pieces);
        qn_name_slot *slots = qn_mem_zeros(a, n_slots, sizeof *slots, err);
        rc = slots ? check(r, slots, n_slots, err) : QN_E_MEMORY;
        qn_mem_put(a, slots);
    }
    qn_mem_put(a, r);
    return rc;
}
