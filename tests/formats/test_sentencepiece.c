/* test_sentencepiece.c: tokenizer.model files, good ones and malformed ones, written as in tests/support/proto.h; '^' marks the
 * byte at which the error must be reported. */
#include "base/err.h"
#include "formats/sentencepiece/sentencepiece.h"
#include "tests/support/proto.h"
#include <criterion/criterion.h>
#include <string.h>

/* f32 bits of scores */
#define M1   "%2=3212836864 " /* -1  */
#define INF  "%2=2139095040 "
#define NAN_ "%2=2143289344 "
#define P(x) "@1{" x "} "
#define UNK  P("@1{'<unk>'} #3=2")

static const struct row {
    const char *name, *file;
    bool at; /* the place is told */
    const char *text;
} bad[] = {
    {"empty file", "", false, "has no pieces"},
    {"no pieces", "@2{#3=1}", false, "has no pieces"},
    {"a group", UNK "^7b", true, "a group"},
    {"piece a varint", UNK "^#1=1", true, "wire type 0 where a message is expected"},
    {"piece one byte too long", UNK "^0a 05 0a 03 'ab'", true, "field 1: 5 bytes long, 4 are left"},
    {"text leaves its piece", UNK "0a 04 ^0a 03 'ab' #9=1", true, "field 1: 3 bytes long, 2 are left"},
    {"piece of length 2^63", UNK "^0a 80808080808080808001", true, "9223372036854775808 bytes long"},
    {"piece empty", UNK "@1{^@1{}}", true, "an empty piece"},
    {"piece without a text", UNK "@1{^#3=1}", true, "an empty piece"},
    {"piece with a NUL", UNK "@1{^@1{'a' 00 'b'}}", true, "a piece has a NUL inside"},
    {"piece of 70000 bytes", UNK "@1{^@1{z70000}}", true, "a piece of 70000 bytes: 65536 are allowed"},
    {"text a varint", UNK "@1{^#1=7}", true, "a piece: wire type 0, 2 is expected"},
    {"score a varint", UNK "@1{@1{'a'} ^#2=1}", true, "score of a piece: wire type 0, 5 is expected"},
    {"score NaN", UNK "@1{@1{'a'} ^" NAN_ "}", true, "score of a piece: NaN"},
    {"score infinite", UNK "@1{@1{'a'} ^" INF "}", true, "score of a piece: infinite"},
    {"type 0", UNK "@1{@1{'a'} ^#3=0}", true, "type of a piece: 0, 1 to 6 are allowed"},
    {"type 7", UNK "@1{@1{'a'} ^#3=7}", true, "type of a piece: 7"},
    {"type a string", UNK "@1{@1{'a'} ^@3{'a'}}", true, "type of a piece: wire type 2"},
    {"twice", UNK P("@1{'ab'}") P("@1{'a'}") P("@1{'ab'}"), false, "piece 'ab' stands twice: as number 1 and 3"},
    {"two unknown", UNK P("@1{'a'} #3=2"), false, "two pieces are of the type unknown: number 0 and 1"},
    {"no unknown", P("@1{'a'}"), false, "no piece is of the type unknown"},
    {"bytes without fallback", UNK P("@1{'<0x41>'} #3=6"), false, "byte piece '<0x41>', but byte_fallback is false"},
    {"byte in lower case", UNK P("@1{'<0x4a>'} #3=6") "@2{#35=1}", false, "byte piece '<0x4a>': <0xHH> is expected"},
    {"fallback without bytes", UNK P("@1{'<0x4A>'} #3=6") "@2{#35=1}", false, "with 1 byte pieces: 256 are expected"},
    {"model_type 0", UNK "@2{^#3=0}", true, "model_type 0: 1 to 4"},
    {"model_type 5", UNK "@2{^#3=5}", true, "model_type 5: 1 to 4"},
    {"model_type a string", UNK "@2{^@3{'bpe'}}", true, "model_type: wire type 2"},
    {"byte_fallback a fixed32", UNK "@2{^%35=1}", true, "byte_fallback: wire type 5"},
    {"trainer a varint", UNK "^#2=1", true, "wire type 0 where a message"},
    {"bos_piece with a NUL", UNK "@2{^@46{'a' 00}}", true, "bos_piece has a NUL inside"},
    {"charsmap a varint", UNK "@3{^#2=1}", true, "precompiled_charsmap: wire type 0"},
    {"add_dummy_prefix a string", UNK "@3{^@3{'1'}}", true, "add_dummy_prefix: wire type 2"},
    {"name drives the terminal", UNK P("@1{1b'[2J'}") P("@1{1b'[2J'}"), false, "piece '\\x1b[2J' stands twice"},
};

static qn_code read_buf(void *ctx, void *dst, uint64_t n, uint64_t off, qn_err *err)
{
    const qt_buf *b = ctx;
    (void)err;
    cr_assert(off <= b->n && n <= b->n - off);
    if (n)
        memcpy(dst, b->p + off, (size_t)n);
    return QN_OK;
}

Test(sentencepiece, malformed)
{
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        qt_buf b = {0};
        qt_counter c;
        qn_arena ar;
        qn_sp_model m;
        qn_err err = {0};
        uint64_t mark = QN_NO_OFFSET;
        qt_add_proto(&b, bad[i].file, &mark);
        qt_counter_init(&c);
        qn_arena_init(&ar, &c.alloc);
        const qn_code rc = qn_err_in_path(&err, qn_sp_read(&m, &ar, read_buf, &b, b.n, &err), "m.model");
        cr_expect(qt_err_is(bad[i].name, &err, rc, QN_E_INPUT, bad[i].at ? mark : QN_NO_OFFSET, "", bad[i].text), "%s", bad[i].name);
        qn_arena_release(&ar);
        cr_expect_eq(c.live, 0, "%s", bad[i].name);
        qt_buf_free(&b);
    }
}

/* What is declared must be there before memory is asked for it. */
Test(sentencepiece, little_memory)
{
    qt_buf b = {0};
    qt_counter c;
    qn_arena ar;
    qn_sp_model m;
    qn_err err = {0};
    uint64_t mark;
    qt_add_proto(&b, UNK "0a ffffffff07", &mark);
    qt_counter_init(&c);
    qn_arena_init(&ar, &c.alloc);
    cr_assert_eq(qn_sp_read(&m, &ar, read_buf, &b, b.n, &err), QN_E_INPUT);
    cr_expect_lt(c.peak, 200000);
    qn_arena_release(&ar);
    qt_buf_free(&b);
}

static void read_text(const char *text, qt_buf *b, qn_arena *ar, qn_sp_model *m)
{
    qn_err err = {0};
    uint64_t mark;
    qt_add_proto(b, text, &mark);
    qn_arena_init(ar, NULL);
    cr_assert_eq(qn_sp_read(m, ar, read_buf, b, b->n, &err), QN_OK, "%s", err.text);
}

Test(sentencepiece, defaults)
{
    qt_buf b = {0};
    qn_arena ar;
    qn_sp_model m;
    read_text(UNK P("@1{'ab'} " M1), &b, &ar, &m);
    cr_assert_eq(m.n_pieces, 2);
    cr_expect(m.kind == QN_SP_UNIGRAM && !m.byte_fallback && !m.treat_whitespace_as_suffix);
    cr_expect(m.unk == 0 && m.bos == UINT32_MAX && m.eos == UINT32_MAX);
    cr_expect_str_eq(m.unk_surface, " \xe2\x81\x87 ");
    cr_expect(!m.normalizer.there && m.normalizer.add_dummy_prefix && m.normalizer.remove_extra_whitespaces &&
              m.normalizer.escape_whitespaces && m.normalizer.n_charsmap == 0);
    cr_expect_str_eq(m.pieces[1].s, "ab");
    cr_expect(m.pieces[1].n == 2 && m.pieces[1].score == -1.0f && m.pieces[1].type == QN_SP_NORMAL);
    cr_expect(m.pieces[0].score == 0.0f && m.pieces[0].type == QN_SP_UNKNOWN);
    qn_arena_release(&ar);
    qt_buf_free(&b);
}

/* Fields in any order, messages in parts, unknown fields, names of BOS and EOS; a piece before and after the specs. */
Test(sentencepiece, fields)
{
    qt_buf b = {0};
    qn_arena ar;
    qn_sp_model m;
    read_text("@3{@1{'nfkc'} @2{0102} #3=0 #5=0 #99=1} @2{#3=2 @46{'[B]'}} " UNK P("#3=3 @1{'[B]'} @7{'x'}")
              "@4{@1{}} @2{#24=1 @47{'a'} @44{'?'} %10=5} @3{#3=1 #4=0} " P("@1{'a'}") "@5{@2{'z'}} &2000=1",
              &b, &ar, &m);
    cr_assert_eq(m.n_pieces, 3);
    cr_expect(m.kind == QN_SP_BPE && m.treat_whitespace_as_suffix && m.bos == 1);
    cr_expect_eq(m.eos, UINT32_MAX, "'a' is no control piece");
    cr_expect_str_eq(m.unk_surface, "?");
    cr_expect(m.normalizer.there && m.normalizer.add_dummy_prefix && !m.normalizer.remove_extra_whitespaces &&
              !m.normalizer.escape_whitespaces);
    cr_expect_str_eq(m.normalizer.name, "nfkc");
    cr_expect(m.normalizer.n_charsmap == 2 && m.normalizer.charsmap[1] == 2 && m.denormalizer.n_charsmap == 1);
    qn_arena_release(&ar);
    qt_buf_free(&b);
}

/* Every prefix of a good file is refused, or is a shorter good file. */
Test(sentencepiece, cut)
{
    qt_buf b = {0};
    uint64_t mark;
    qt_add_proto(&b, UNK P("@1{'ab'} " M1) "@2{#3=2} @3{@1{'x'}}", &mark);
    for (size_t n = 0; n < b.n; n++) {
        const qt_buf part = {b.p, n, n};
        qt_buf use = part;
        qn_arena ar;
        qn_sp_model m;
        qn_err err = {0};
        qn_arena_init(&ar, NULL);
        const qn_code rc = qn_sp_read(&m, &ar, read_buf, &use, n, &err);
        cr_expect(rc == QN_E_INPUT || (rc == QN_OK && m.n_pieces >= 1), "%zu bytes", n);
        qn_arena_release(&ar);
    }
    qt_buf_free(&b);
}

Test(sentencepiece, memory)
{
    qt_buf b = {0};
    uint64_t mark;
    qt_add_proto(&b, UNK P("@1{'ab'} " M1) "@2{#3=2} @3{@1{'x'} @2{'y'}}", &mark);
    unsigned failed = 0;
    for (uint64_t nth = 1; nth < 20; nth++) {
        qt_counter c;
        qn_arena ar;
        qn_sp_model m;
        qn_err err = {0};
        qt_counter_init(&c);
        c.fail_at = nth;
        qn_arena_init(&ar, &c.alloc);
        const qn_code rc = qn_sp_read(&m, &ar, read_buf, &b, b.n, &err);
        cr_expect(rc == QN_OK || rc == QN_E_MEMORY);
        failed += rc == QN_E_MEMORY;
        qn_arena_release(&ar);
        cr_expect_eq(c.live, 0);
    }
    cr_expect_gt(failed, 2);
    qt_buf_free(&b);
}

Test(sentencepiece, bytes)
{
    cr_expect_eq(qn_sp_byte_of("<0x00>", 6), 0);
    cr_expect_eq(qn_sp_byte_of("<0xFA>", 6), 250);
    cr_expect_eq(qn_sp_byte_of("<0xfa>", 6), -1);
    cr_expect_eq(qn_sp_byte_of("<0xFA>x", 7), -1);
    cr_expect_eq(qn_sp_byte_of("<0xF\0>", 6), -1);
    cr_expect_eq(qn_sp_byte_of("<0XFA>", 6), -1);
}
