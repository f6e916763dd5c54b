/* fuzz_sentencepiece.c: a file as tokenizer.model. What is read must keep the promises of sentencepiece.h. The charsmap is walked
 * with the file's own bytes as text. */
#include "analysis/tokenize/charsmap.h"
#include "base/err.h"
#include "formats/sentencepiece/sentencepiece.h"
#include "tests/fuzz/fuzz.h"
#include "tests/fuzz/seeds.h"
#include "tests/support/proto.h"
#include <math.h>
#include <string.h>

static qn_code read_buf(void *ctx, void *dst, uint64_t n, uint64_t off, qn_err *err)
{
    const qt_buf *b = ctx;
    (void)err;
    QF_CHECK(off <= b->n && n <= b->n - off);
    if (n)
        memcpy(dst, b->p + off, (size_t)n);
    return QN_OK;
}

static void check_pieces(const qn_sp_model *m)
{
    unsigned n_unk = 0, n_bytes = 0;
    QF_CHECK(m->n_pieces > 0 && m->unk < m->n_pieces);
    for (uint64_t i = 0; i < m->n_pieces; i++) {
        const qn_sp_piece *p = &m->pieces[i];
        QF_CHECK(p->n > 0 && strlen(p->s) == p->n && isfinite(p->score) && p->type >= 1 && p->type <= 6);
        n_unk += p->type == QN_SP_UNKNOWN;
        n_bytes += p->type == QN_SP_BYTE;
    }
    QF_CHECK(n_unk == 1 && n_bytes == (m->byte_fallback ? 256 : 0));
    QF_CHECK(m->bos == UINT32_MAX || m->pieces[m->bos].type == QN_SP_CONTROL);
}

static void check_charsmap(const qn_sp_spec *s, const uint8_t *p, size_t n)
{
    qn_charsmap map;
    qn_err err = {0};
    if (qn_charsmap_init(&map, s->charsmap, s->n_charsmap, &err) != QN_OK)
        return;
    for (size_t at = 0; at < n; at++) {
        const char *longest = NULL, *shortest = NULL;
        const uint64_t a = qn_charsmap_find(&map, (const char *)p + at, n - at, false, &longest);
        const uint64_t b = qn_charsmap_find(&map, (const char *)p + at, n - at, true, &shortest);
        QF_CHECK(a <= n - at && b <= a && (a == 0) == (b == 0));
        QF_CHECK(a == 0 || (strlen(longest) < s->n_charsmap && strlen(shortest) < s->n_charsmap));
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
    qt_buf file = {0};
    qt_counter c;
    qn_arena ar;
    qn_sp_model m;
    qn_err err = {0};
    qt_add(&file, p, n);
    qt_counter_init(&c);
    qn_arena_init(&ar, &c.alloc);
    const qn_code rc = qn_sp_read(&m, &ar, read_buf, &file, file.n, &err);
    QF_CHECK(rc == QN_OK || (rc == QN_E_INPUT && err.text[0]));
    QF_CHECK(c.peak < (1u << 18) + 64 * n);
    if (rc == QN_OK) {
        check_pieces(&m);
        check_charsmap(&m.normalizer, p, n);
        check_charsmap(&m.denormalizer, p, n);
    }
    qn_arena_release(&ar);
    QF_CHECK(c.live == 0);
    qt_buf_free(&file);
    return 0;
}

void qf_seeds(void (*emit)(void *, const uint8_t *, size_t), void *ctx)
{
    /* the map: a trie in which 'A' (0x41) leads to unit 1, whose value in unit 2 is the text "b" */
    static const char *const seeds[] = {
        "@1{@1{'<unk>'} #3=2} @1{@1{'a'} %2=3212836864} @1{@1{'b'} #3=4} @1{@1{'c'} #3=5} @2{#3=2 #24=1 @44{'?'}} @3{@1{'identity'} #3=0}",
        "@1{@1{'<unk>'} #3=2} @1{@1{'<s>'} #3=3} @1{@1{'A'}} @3{@2{0c000000 00000100 410d0000 00000080 'b' 00} #4=0} @5{@2{z9}}",
        "@2{#3=1 #35=1} @1{@1{'<unk>'} #3=2} @1{@1{'<0x41>'} #3=6}",
    };
    qf_emit_built(emit, ctx, qt_add_proto, seeds, sizeof seeds / sizeof seeds[0]);
}
