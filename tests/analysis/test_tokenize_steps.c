/* test_tokenize_steps.c: every normalizer, pre-tokenizer and decoder by itself: strings in, strings out, worked by hand from what
 * the step is defined to do. Strings are shown with '|' between them. */
#include "analysis/tokenize/tokenizer_impl.h"
#include "tests/support/tok_build.h"
#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

enum { NORM, PRE, DEC };

static const struct row {
    int kind;
    const char *step, *in, *out;
} rows[] = {
    /* normalizers */
    {NORM, "{'type':'NFC'}", "e\xcc\x81x", "\xc3\xa9x"},
    {NORM, "{'type':'NFD'}", "a\xc3\xa9", "ae\xcc\x81"},
    {NORM, "{'type':'NFKC'}", "\xef\xac\x81\xc2\xb2", "fi2"},
    {NORM, "{'type':'NFKD'}", "\xe2\x85\xa7\xc3\xa9", "VIIIe\xcc\x81"},
    {NORM, "{'type':'NFC'}", "\xe1\x84\x80\xe1\x85\xa1\xe1\x86\xa8", "\xea\xb0\x81"}, /* Hangul U+1100 U+1161 U+11A8 */
    {NORM, "{'type':'NFC'}", "a\xcc\xa7\xcc\x81\xcc\xa3", "\xe1\xba\xa1\xcc\xa7\xcc\x81"}, /* ccc 202 230 220: sorted, then U+1EA1 */
    {NORM, "{'type':'Lowercase'}", "A\xc3\x89\xc4\xb0\xce\xa3", "a\xc3\xa9i\xcc\x87\xcf\x83"},
    {NORM, "{'type':'Replace','pattern':{'String':' '},'content':'_'}", " a  b", "_a__b"},
    {NORM, "{'type':'Replace','pattern':{'String':'aa'},'content':'b'}", "aaaaa", "bba"},
    {NORM, "{'type':'Replace','pattern':{'Regex':'\\\\s+'},'content':' '}", "a \t b\xe3\x80\x80" "c", "a b c"},
    {NORM, "{'type':'Replace','pattern':{'Regex':'x*'},'content':'-'}", "axxb", "a-b"},
    {NORM, "{'type':'Prepend','prepend':'_'}", "a", "_a"},
    {NORM, "{'type':'Strip','strip_left':true,'strip_right':false}", " \xc2\xa0 a ", "a "},
    {NORM, "{'type':'Strip','strip_left':false,'strip_right':true}", " a\xe2\x80\x83\n", " a"},
    {NORM, "{'type':'Strip'}", "  ", ""},
    {NORM, "{'type':'StripAccents'}", "e\xcc\x81\xe0\xa4\x95\xe0\xa4\xbf", "e\xe0\xa4\x95"}, /* Mn and Mc */
    {NORM, "{'type':'Nmt'}", "a\x01" "b\tc\xe2\x80\x8b" "d\xef\xbf\xbd", "ab c d "},
    {NORM, "{'type':'BertNormalizer'}", "\xc3\x89t\x01\xe4\xb8\xad\t", "et \xe4\xb8\xad  "},
    {NORM, "{'type':'BertNormalizer','lowercase':false,'handle_chinese_chars':false}", "\xc3\x89\xe4\xb8\xad", "\xc3\x89\xe4\xb8\xad"},
    {NORM, "{'type':'BertNormalizer','strip_accents':false}", "\xc3\x89", "\xc3\xa9"},
    {NORM, "{'type':'ByteLevel'}", "a \xc3\xa9\n", "a\xc4\xa0\xc3\x83\xc2\xa9\xc4\x8a"},
    {NORM, "{'type':'Sequence','normalizers':[{'type':'NFD'},{'type':'StripAccents'},{'type':'Prepend','prepend':'>'}]}",
     "\xc3\xa9", ">e"},
    {NORM, "{'type':'Sequence','normalizers':[]}", "x", "x"},
    /* pre-tokenizers */
    {PRE, "{'type':'Whitespace'}", "Hey, you_2!? e\xcc\x81", "Hey|,|you_2|!?|e\xcc\x81"},
    {PRE, "{'type':'WhitespaceSplit'}", " a  b\xe3\x80\x80" "c\n", "a|b|c"},
    {PRE, "{'type':'Digits','individual_digits':true}", "a12b\xd9\xa3", "a|1|2|b|\xd9\xa3"},
    {PRE, "{'type':'Digits'}", "a12b3", "a|12|b|3"},
    {PRE, "{'type':'Punctuation'}", "a,b!!\xe2\x80\x94$", "a|,|b|!|!|\xe2\x80\x94|$"},
    {PRE, "{'type':'Punctuation','behavior':'Contiguous'}", "a,b!!c", "a|,|b|!!|c"},
    {PRE, "{'type':'BertPreTokenizer'}", "Hi, you!", "Hi|,|you|!"},
    {PRE, "{'type':'CharDelimiterSplit','delimiter':'-'}", "a-b--c", "a|b|c"},
    {PRE, "{'type':'FixedLength','length':2}", "ab\xc3\xa9" "de", "ab|\xc3\xa9" "d|e"},
    {PRE, "{'type':'Split','pattern':{'String':'-'},'behavior':'Removed','invert':false}", "a-b--c-", "a|b|c"},
    {PRE, "{'type':'Split','pattern':{'String':'-'},'behavior':'Isolated','invert':false}", "a-b--c", "a|-|b|-|-|c"},
    {PRE, "{'type':'Split','pattern':{'String':'-'},'behavior':'MergedWithPrevious','invert':false}", "a-b--c", "a-|b-|-|c"},
    {PRE, "{'type':'Split','pattern':{'String':'-'},'behavior':'MergedWithNext','invert':false}", "a-b--c", "a|-b|-|-c"},
    {PRE, "{'type':'Split','pattern':{'String':'-'},'behavior':'Contiguous','invert':false}", "a-b--c", "a|-|b|--|c"},
    {PRE, "{'type':'Split','pattern':{'Regex':'[a-z]+'},'behavior':'Removed','invert':true}", "ab1cd", "ab|cd"},
    {PRE, "{'type':'Split','pattern':{'Regex':'(?i:ab)'},'behavior':'Isolated','invert':false}", "xABaB", "x|AB|aB"},
    {PRE, "{'type':'Split','pattern':{'Regex':'(?i:s)'},'behavior':'Isolated','invert':false}", "a\xc5\xbfSb", "a|\xc5\xbf|S|b"} /* U+017F folds to s */,
    {PRE, "{'type':'Split','pattern':{'Regex':'[^(\\\\s|[.,])]+'},'behavior':'Isolated','invert':false}", "ab,c (d", "ab|,|c| (|d"},
    {PRE, "{'type':'Split','pattern':{'Regex':'\\\\s'},'behavior':'Isolated','invert':false}", "a\xe1\xa0\x8e\xc2\x85" "b",
     "a\xe1\xa0\x8e|\xc2\x85|b"}, /* U+180E is no space, U+0085 is */
    {PRE, "{'type':'Split','pattern':{'Regex':'\\\\w+'},'behavior':'Isolated','invert':false}", "a\xcc\x81_1\xc2\xbd!",
     "a\xcc\x81_1|\xc2\xbd!"}, /* marks and Pc are word characters, No is not */
    {PRE, "{'type':'Split','pattern':{'Regex':'\\\\h{,2}z'},'behavior':'Isolated','invert':false}", "fffz", "f|ffz"},
    {PRE, "{'type':'Split','pattern':{'Regex':'[\\\\u0041-C]'},'behavior':'Isolated','invert':false}", "xBD", "x|B|D"},
    {PRE, "{'type':'Split','pattern':{'Regex':'a++b|.'},'behavior':'Isolated','invert':false}", "aaab", "aaab"},
    {PRE, "{'type':'Split','pattern':{'Regex':'\\\\p{Han}+'},'behavior':'Isolated','invert':false}",
     "\xe4\xb8\xad\xe3\x80\x81", "\xe4\xb8\xad|\xe3\x80\x81"}, /* U+3001 is Common, though used with Han */
    {PRE, "{'type':'UnicodeScripts'}", " Ab, \xe4\xb8\xad\xe3\x81\x82\xe3\x83\xbc \xd0\xb6", "Ab|, |\xe4\xb8\xad\xe3\x81\x82\xe3\x83\xbc |\xd0\xb6"},
    {PRE, "{'type':'ByteLevel','add_prefix_space':false}", "Hello  world's\n1", "Hello|\xc4\xa0|\xc4\xa0world|'s|\xc4\x8a|1"},
    {PRE, "{'type':'ByteLevel','add_prefix_space':true,'use_regex':false}", "a b", "\xc4\xa0" "a\xc4\xa0" "b"},
    {PRE, "{'type':'ByteLevel','add_prefix_space':true,'use_regex':false}", " a", "\xc4\xa0" "a"},
    {PRE, "{'type':'Metaspace','replacement':'_','prepend_scheme':'always'}", "a b  c", "_a|_b|_|_c"},
    {PRE, "{'type':'Metaspace','replacement':'_','prepend_scheme':'never','split':false}", "a b", "a_b"},
    {PRE, "{'type':'Metaspace','replacement':'_','add_prefix_space':false}", "a b", "a|_b"},
    {PRE, "{'type':'Metaspace','replacement':'_','prepend_scheme':'first'}", "_a", "_a"},
    {PRE, "{'type':'Sequence','pretokenizers':[{'type':'WhitespaceSplit'},{'type':'Metaspace','replacement':'_',"
          "'prepend_scheme':'first'}]}", "a b", "_a|b"},
    {PRE, "{'type':'Sequence','pretokenizers':[{'type':'Digits','individual_digits':false},{'type':'ByteLevel'}]}",
     "a 12", "a|\xc4\xa0|12"},
    /* decoders; the input's parts are tokens */
    {DEC, "{'type':'ByteLevel'}", "He|llo\xc4\xa0\xc3\x83|\xc2\xa9", "Hello \xc3\xa9"},
    {DEC, "{'type':'ByteLevel'}", "\xc3\xa4\xc2\xb8|x|<\xe2\x96\x81>", "\xef\xbf\xbdx<\xe2\x96\x81>"},
    {DEC, "{'type':'ByteFallback'}", "a|<0xE4>|<0xB8>|<0xAD>|b", "a|\xe4\xb8\xad|b"},
    {DEC, "{'type':'ByteFallback'}", "<0xE4>|<0xB8>", "\xef\xbf\xbd\xef\xbf\xbd"},
    {DEC, "{'type':'ByteFallback'}", "<0xG1>|<0x411>", "<0xG1>|<0x411>"},
    {DEC, "{'type':'Fuse'}", "a|b|c", "abc"},
    {DEC, "{'type':'Strip','content':' ','start':1,'stop':0}", "  a |b", " a |b"},
    {DEC, "{'type':'Strip','content':'_','start':0,'stop':2}", "a___", "a_"},
    {DEC, "{'type':'Replace','pattern':{'String':'_'},'content':' '}", "_a|b_", " a|b "},
    {DEC, "{'type':'Metaspace','replacement':'_','prepend_scheme':'always'}", "_a|_b_c", "a| b c"},
    {DEC, "{'type':'Metaspace','replacement':'_','prepend_scheme':'first'}", "__a_b|_c", "ab| c"},
    {DEC, "{'type':'Metaspace','replacement':'_','prepend_scheme':'never'}", "_a|_b", " a| b"},
    {DEC, "{'type':'WordPiece','prefix':'##','cleanup':false}", "un|##do|it|!", "un|do| it| !"},
    {DEC, "{'type':'WordPiece'}", "it|'|s|n't|!", "it| '| s|n't|!"},
    {DEC, "{'type':'BPEDecoder','suffix':'</w>'}", "a|b</w>|c</w>", "a|b |c"},
    {DEC, "{'type':'Sequence','decoders':[{'type':'Replace','pattern':{'String':'_'},'content':' '},{'type':'ByteFallback'},"
          "{'type':'Fuse'},{'type':'Strip','content':' ','start':1,'stop':0}]}", "_a|<0x41>|_b", "aA b"},
};

static qn_tokenizer *with_step(const struct row *r)
{
    static const char *const keys[] = {"normalizer", "pre_tokenizer", "decoder"};
    char json[1200];
    (void)snprintf(json, sizeof json, "{'%s':%s,'model':{'type':'WordLevel','vocab':{'a':0}}}", keys[r->kind], r->step);
    for (char *c = json; *c; c++)
        *c = *c == '\'' ? '"' : *c;
    return qt_tok_open(json, NULL);
}

static void put(qn_tok_list *l, const char *s, size_t n)
{
    cr_assert_eq(qn_tok_list_put(l, s, n, l->n == 0, NULL), QN_OK);
}

Test(tokenize, steps)
{
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        const struct row *r = &rows[i];
        qn_tokenizer *t = with_step(r);
        qn_tok_list io, tmp;
        char got[400] = "";
        size_t at = 0;
        qn_tok_list_init(&io, NULL);
        qn_tok_list_init(&tmp, NULL);
        const char *s = r->in;
        for (const char *bar; r->kind == DEC && (bar = strchr(s, '|')); s = bar + 1)
            put(&io, s, (size_t)(bar - s));
        put(&io, s, strlen(s));
        const qn_tok_steps *list = r->kind == NORM ? &t->normalizers : r->kind == PRE ? &t->pre_tokenizers : &t->decoders;
        cr_assert_eq(qn_tok_run_steps(list, &io, &tmp, NULL), QN_OK);
        for (uint64_t k = 0; k < io.n; k++)
            at += (size_t)snprintf(got + at, sizeof got - at, "%s%.*s", k ? "|" : "", (int)io.span[k].n, io.text.p + io.span[k].off);
        cr_expect_str_eq(got, r->out, "row %zu, %s of '%s'", i, r->step, r->in);
        qn_tok_list_release(&io);
        qn_tok_list_release(&tmp);
        qn_tokenizer_close(t);
    }
}
