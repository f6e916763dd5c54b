/* test_tokenize.c: whole tokenizers, small enough to be worked by hand: merging, added tokens, malformed text, what stands around a
 * text, and that equal things have equal digests. */
#include "analysis/tokenize/tokenizer.h"
#include "base/hash.h"
#include "tests/support/made.h"
#include "tests/support/testkit.h"
#include "tests/support/tok_build.h"
#include <criterion/criterion.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

/* a single-quoted JSON text as it should be */
static const char *json(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
static const char *json(const char *fmt, ...)
{
    static char text[8192];
    va_list ap;
    va_start(ap, fmt);
    (void)vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    for (char *c = text; *c; c++)
        *c = *c == '\'' ? '"' : *c;
    return text;
}

#define ABC "'vocab':{'a':0,'b':1,'c':2,'ab':3,'bc':4,'abc':5,'?':6},'merges':['b c','a b','a bc']"

static const char *ids(const qn_tokenizer *t, const char *text)
{
    return qt_tok_ids(t, text, strlen(text), QN_TOKENIZE_SPECIAL);
}

Test(tokenize, merges_go_by_rank_and_then_from_the_left)
{
    static const struct {
        const char *text, *ids;
    } rows[] = {
        {"abc", "5"},     /* bc (rank 0), then a+bc (rank 2); ab (rank 1) never comes up */
        {"abab", "3 3"},  /* nothing merges ab with ab */
        {"abbc", "3 4"},
        {"aabc", "0 5"},
        {"bcbc", "4 4"},
        {"cab", "2 3"},
        {"xabc", "6 5"},  /* unknown in front */
        {"xxa", "6 6 0"},
        {"axbc", "0 6 4"},
        {"", ""},
    };
    qn_tokenizer *t = qt_tok_open(json("{'model':{'type':'BPE','unk_token':'?'," ABC "}}"), NULL);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        cr_expect_str_eq(ids(t, rows[i].text), rows[i].ids, "'%s'", rows[i].text);
    cr_assert_str_eq(qn_tokenizer_kind(t), "BPE");
    cr_assert_eq(qn_tokenizer_size(t), 7u);
    cr_assert_eq(qn_tokenizer_find(t, "bc", 2), 4u);
    cr_assert_eq(qn_tokenizer_find(t, "x", 1), UINT32_MAX);
    qn_tokenizer_close(t);
}

Test(tokenize, unknown_characters)
{
    qn_tokenizer *t = qt_tok_open(json("{'model':{'type':'BPE','unk_token':'?','fuse_unk':true," ABC "}}"), NULL);
    cr_expect_str_eq(ids(t, "xyzabcxx"), "6 5 6");
    qn_tokenizer_close(t);
    t = qt_tok_open(json("{'model':{" ABC "}}"), NULL); /* no token for them, and the type is guessed: they leave no trace */
    cr_expect_str_eq(ids(t, "bxc"), "1 2");
    qn_tokenizer_close(t);
    t = qt_tok_open(json("{'model':{'type':'BPE','byte_fallback':true,'unk_token':'?','vocab':{'?':0,'<0xC3>':1,'<0xA9>':2,'a':3},"
                         "'merges':[]}}"), NULL);
    cr_expect_str_eq(ids(t, "a\xc3\xa9\xc3\xaa" "a"), "3 1 2 0 3"); /* é has both bytes; ê has one of two, so it is unknown */
    qn_tokenizer_close(t);
}

/* Long pieces go by a heap and are cut where no merge crosses; short ones by search and through a cache. */
Test(tokenize, long_pieces_as_short_ones)
{
    qn_tokenizer *t = qt_tok_open(json("{'model':{'type':'BPE','vocab':{'a':0,'aa':1,'aaaa':2,'b':3,'aab':4},"
                                       "'merges':['a a','aa aa','aa b']}}"), NULL);
    char text[4001], want[4096] = "";
    size_t at = 0;
    memset(text, 'a', 4000);
    text[4000] = 'b'; /* 4000 a: 2000 aa, 1000 aaaa: the b stays alone */
    for (int i = 0; i < 1000; i++)
        at += (size_t)snprintf(want + at, sizeof want - at, "2 ");
    (void)snprintf(want + at, sizeof want - at, "3");
    cr_expect_str_eq(qt_tok_ids(t, text, 4001, 0), want);
    /* 402 a: 100 aaaa, and an aa that the b joins */
    at = 0;
    for (int i = 0; i < 100; i++)
        at += (size_t)snprintf(want + at, sizeof want - at, "2 ");
    (void)snprintf(want + at, sizeof want - at, "4");
    text[402] = 'b';
    cr_expect_str_eq(qt_tok_ids(t, text, 403, 0), want);
    qn_tokenizer_close(t);
}

Test(tokenize, affixes_and_whole_words)
{
    qn_tokenizer *t = qt_tok_open(json("{'pre_tokenizer':{'type':'WhitespaceSplit'},'decoder':{'type':'BPEDecoder','suffix':'</w>'},"
                                       "'model':{'type':'BPE','end_of_word_suffix':'</w>','vocab':{'a':0,'b':1,'b</w>':2,'ab</w>':3,"
                                       "'a</w>':4},'merges':['a b</w>']}}"), NULL);
    cr_expect_str_eq(ids(t, "ab b a ba"), "3 2 4 1 4");
    cr_expect_str_eq(qt_tok_text(t, "3 2 4", false), "ab b a");
    qn_tokenizer_close(t);
    t = qt_tok_open(json("{'model':{'type':'BPE','continuing_subword_prefix':'##','vocab':{'a':0,'##b':1,'ab':2,'##a':3},"
                         "'merges':['a ##b']}}"), NULL);
    cr_expect_str_eq(ids(t, "aba"), "2 3");
    qn_tokenizer_close(t);
    t = qt_tok_open(json("{'model':{'type':'BPE','ignore_merges':true,'vocab':{'a':0,'b':1,'ab':2,'abab':3},'merges':['a b']}}"), NULL);
    cr_expect_str_eq(ids(t, "abab"), "3");
    cr_expect_str_eq(ids(t, "ababa"), "2 2 0");
    qn_tokenizer_close(t);
}

Test(tokenize, word_level)
{
    qn_tokenizer *t = qt_tok_open(json("{'pre_tokenizer':{'type':'Whitespace'},'model':{'type':'WordLevel','unk_token':'[U]',"
                                       "'vocab':{'hi':3,'[U]':9,',':4}}}"), NULL);
    cr_expect_str_eq(ids(t, "hi, you hi"), "3 4 9 3");
    cr_expect_str_eq(qt_tok_text(t, "3 4 9", false), "hi , [U]"); /* no decoder: spaces between */
    cr_expect_eq(qn_tokenizer_size(t), 10u);
    size_t n;
    cr_expect_null(qn_tokenizer_token(t, 5, &n), "the ids have holes");
    qn_tokenizer_close(t);
}

#define TOKEN(id, text, more) "{'id':" #id ",'content':'" text "'" more "}"

Test(tokenize, added_tokens)
{
    qn_tokenizer *t = qt_tok_open(
        json("{'added_tokens':[" TOKEN(10, "<s>", ",'special':true") "," TOKEN(11, "<s><s>", ",'special':true") ","
             TOKEN(12, "cat", ",'single_word':true,'normalized':false") "," TOKEN(13, "[L]", ",'lstrip':true,'normalized':false") ","
             TOKEN(14, "[R]", ",'rstrip':true,'normalized':false") "," TOKEN(15, "NO", ",'normalized':true") "],"
             "'normalizer':{'type':'Lowercase'},"
             "'model':{'type':'BPE','unk_token':'?','vocab':{'a':0,'c':1,'t':2,' ':3,'?':4,'n':5,'o':6,'<':7,'s':8,'>':9},'merges':[]}}"),
        NULL);
    static const struct {
        const char *text, *ids;
    } rows[] = {
        {"<s>a<s>", "10 0 10"},
        {"<s><s><s>", "11 10"},          /* the longest at the leftmost place */
        {"cat", "12"},
        {"a cat", "0 3 12"},
        {"acat cats", "0 1 0 2 3 1 0 2 8"}, /* not by itself: letters before or behind */
        {"a  [L]a", "0 13 0"},           /* swallows what is before it */
        {"a [R]  a", "0 3 14 0"},
        {"[R] [L]", "14 13"},
        {"no", "15"},                    /* normalized token, normalized text */
        {"aNoa", "0 15 0"},
        {"A<S>", "0 7 8 9"},             /* the raw text has no <s>, and <s> is not looked for in normalized text */
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        cr_expect_str_eq(ids(t, rows[i].text), rows[i].ids, "'%s'", rows[i].text);
    cr_expect_str_eq(qt_tok_ids(t, "<s>cat", 6, QN_TOKENIZE_PLAIN), "7 8 9 12");
    qn_tokenizer_close(t);
}

#define EDGES "'added_tokens':[" TOKEN(1, "<s>", ",'special':true") "," TOKEN(2, "</s>", ",'special':true") "],"
#define MODEL "'model':{'type':'BPE','vocab':{'a':0,'<s>':1,'</s>':2},'merges':[]}"
#define TEMPLATE(single) "'post_processor':{'type':'TemplateProcessing','single':[" single "],'pair':[],'special_tokens':{" \
    "'<s>':{'id':'<s>','ids':[1],'tokens':['<s>']},'</s>':{'id':'</s>','ids':[2],'tokens':['</s>']}}},"
#define SPECIAL(name) "{'SpecialToken':{'id':'" name "','type_id':0}}"
#define SELF "{'Sequence':{'id':'A','type_id':0}}"

Test(tokenize, what_stands_around_a_text)
{
    static const struct {
        const char *post, *config, *ids;
    } rows[] = {
        {TEMPLATE(SPECIAL("<s>") "," SELF), NULL, "1 0"},
        {TEMPLATE(SELF "," SPECIAL("</s>") "," SPECIAL("</s>")), NULL, "0 2 2"},
        {"'post_processor':{'type':'BertProcessing','sep':['</s>',2],'cls':['<s>',1]},", NULL, "1 0 2"},
        {"'post_processor':{'type':'RobertaProcessing','sep':['</s>',2],'cls':['<s>',1],'trim_offsets':true},", NULL, "1 0 2"},
        {"'post_processor':{'type':'Sequence','processors':[{'type':'ByteLevel'},{'type':'BertProcessing','sep':['</s>',2],'cls':['<s>',1]},"
         "{'type':'BertProcessing','sep':['a',0],'cls':['a',0]}]},", NULL, "0 1 0 2 0"},
        {"'post_processor':null,", NULL, "0"},
        {"", "{'bos_token':'<s>','eos_token':{'content':'</s>'},'add_bos_token':true,'add_eos_token':true}", "1 0 2"},
        {"", "{'bos_token':'<s>','eos_token':'</s>','add_bos_token':true}", "1 0"},
        {"", "{'bos_token':'<s>','eos_token':'</s>'}", "0"},
        {TEMPLATE(SELF), "{'bos_token':'<s>','add_bos_token':true}", "0"}, /* the post-processor has said it */
        {"'post_processor':{'type':'ByteLevel'},", "{'bos_token':'<s>','add_bos_token':true}", "1 0"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        char config[400] = "";
        (void)snprintf(config, sizeof config, "%s", rows[i].config ? json("%s", rows[i].config) : "");
        qn_tokenizer *t = qt_tok_open(json("{" EDGES "%s" MODEL "}", rows[i].post), rows[i].config ? config : NULL);
        cr_expect_str_eq(ids(t, "a"), rows[i].ids, "row %zu", i);
        cr_expect_str_eq(qt_tok_ids(t, "a", 1, 0), "0", "row %zu", i);
        cr_expect_eq(qn_tokenizer_bos(t), 1u);
        cr_expect_eq(qn_tokenizer_eos(t), 2u);
        cr_expect_str_eq(qt_tok_text(t, "1 0 2", true), "a");
        qn_tokenizer_close(t);
    }
}

/* One U+FFFD for each maximal part of a character, one for each other byte. 'R' is its token here. */
Test(tokenize, text_that_is_not_utf8)
{
    static const struct {
        const char *text;
        size_t n;
        const char *ids;
    } rows[] = {
        {"a\xff" "a", 3, "0 1 0"},
        {"\x80\x80", 2, "1 1"},
        {"\xe4\xb8", 2, "1"},                 /* begun and not finished: one */
        {"\xe4\xb8" "a", 3, "1 0"},
        {"\xf0\x9f\x98", 3, "1"},
        {"\xf0\x9f\x98\xf0\x9f\x98\x80", 7, "1 2"},
        {"\xed\xa0\x80", 3, "1 1 1"},         /* a surrogate: ed may not be followed by a0 */
        {"\xc0\xaf", 2, "1 1"},               /* an over-long form */
        {"\xe0\x80\x80", 3, "1 1 1"},
        {"\xf4\x90\x80\x80", 4, "1 1 1 1"},   /* past U+10FFFF */
        {"\xf5\x80", 2, "1 1"},
        {"\xef\xbf\xbd", 3, "1"},             /* U+FFFD itself */
        {"a\0a", 3, "0 3 0"},                 /* a zero byte is a character */
        {"\xc3", 1, "1"},
    };
    qn_tokenizer *t = qt_tok_open(json("{'model':{'type':'BPE','vocab':{'a':0,'\xef\xbf\xbd':1,'\xf0\x9f\x98\x80':2,'\\u0000':3},"
                                       "'merges':[]}}"), NULL);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        cr_expect_str_eq(qt_tok_ids(t, rows[i].text, rows[i].n, 0), rows[i].ids, "row %zu", i);
    qn_tokenizer_close(t);
}

Test(tokenize, first_is_the_beginning_of_the_text)
{
    qn_tokenizer *t = qt_tok_open(json("{" EDGES "'pre_tokenizer':{'type':'Metaspace','replacement':'_','prepend_scheme':'first'},"
                                       "'model':{'type':'BPE','vocab':{'a':0,'<s>':1,'</s>':2,'_':3},'merges':[]}}"), NULL);
    cr_expect_str_eq(ids(t, "a<s>a"), "3 0 1 0");
    cr_expect_str_eq(ids(t, "<s>a"), "1 0");
    qn_tokenizer_close(t);
}

static qn_digest digest_of(const char *text)
{
    qn_tokenizer *t = qt_tok_open(text, NULL);
    const qn_digest d = qn_tokenizer_digest(t);
    qn_tokenizer_close(t);
    return d;
}

Test(tokenize, digests)
{
    const qn_digest a = digest_of(json("{'model':{'type':'BPE'," ABC "}}"));
    const qn_digest same = digest_of(json("{'version':'1.0', 'model':{ " ABC ",'dropout':null,'type':'BPE'}}"));
    cr_expect(qn_digest_equal(&a, &same), "spelling does not count");
    static const char *const others[] = {
        "{'model':{'type':'BPE','vocab':{'a':0,'b':1,'c':2,'ab':3,'bc':4,'abc':5,'!':6},'merges':['b c','a b','a bc']}}",
        "{'model':{'type':'BPE','vocab':{'a':0,'b':1,'c':2,'ab':3,'bc':4,'abc':5,'?':6},'merges':['a b','b c','a bc']}}",
        "{'model':{'type':'BPE','vocab':{'a':0,'b':1,'c':2,'ab':3,'bc':4,'abc':5,'?':7},'merges':['b c','a b','a bc']}}",
        "{'model':{'type':'BPE','fuse_unk':true," ABC "}}",
        "{'model':{'type':'BPE','unk_token':'?'," ABC "}}",
        "{'normalizer':{'type':'NFC'},'model':{'type':'BPE'," ABC "}}",
        "{'normalizer':{'type':'Prepend','prepend':'a'},'model':{'type':'BPE'," ABC "}}",
        "{'normalizer':{'type':'Prepend','prepend':'b'},'model':{'type':'BPE'," ABC "}}",
        "{'added_tokens':[{'id':0,'content':'a'}],'model':{'type':'BPE'," ABC "}}",
        "{'added_tokens':[{'id':0,'content':'a','lstrip':true}],'model':{'type':'BPE'," ABC "}}",
    };
    qn_digest d[sizeof others / sizeof *others + 1] = {a};
    for (size_t i = 0; i < sizeof others / sizeof *others; i++) {
        d[i + 1] = digest_of(json("%s", others[i]));
        for (size_t k = 0; k <= i; k++)
            cr_expect(!qn_digest_equal(&d[i + 1], &d[k]), "%zu and %zu", i + 1, k);
    }
}

/* A real one, by the ids that its makers' program gives. */
Test(tokenize, a_model_folder)
{
    const char *path = qt_shared("models/stories260k/hf-f32");
    qn_tokenizer *t;
    if (!path)
        return;
    cr_assert_eq(qn_tokenizer_open(qt_made_env(1), path, &t, NULL), QN_OK);
    cr_expect_str_eq(ids(t, "Once upon a time"), "1 403 407 261 378");
    cr_expect_str_eq(qt_tok_text(t, "1 403 407 261 378", true), "Once upon a time");
    cr_expect_eq(qn_tokenizer_size(t), 512u);
    cr_expect_not_null(strstr(qn_tokenizer_file(t), "tokenizer.json"));
    qn_tokenizer_close(t);
}
