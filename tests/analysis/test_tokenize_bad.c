/* test_tokenize_bad.c: malformed tokenizer.json files, each with the error that it must give. '^' in the text is no part of it: it
 * marks the byte at which the error must be reported; without a mark the place is not checked. ' stands for ". */
#include "base/err.h"
#include "tests/support/hostile.h"
#include "tests/support/tok_build.h"
#include <criterion/criterion.h>
#include <string.h>

#define M "'model':{'type':'BPE','vocab':{'a':0},'merges':[]}"
#define WITH(x) "{" x "," M "}"
#define PRE(x) WITH("'pre_tokenizer':" x)
#define NORM(x) WITH("'normalizer':" x)
#define SPLIT(x) PRE("{'type':'Split','pattern':{'Regex':'" x "'},'behavior':'Isolated'}")

static const struct row {
    const char *name, *json;
    qn_code code;
    const char *text;
} rows[] = {
    /* the file */
    {"empty", "", QN_E_INPUT, "JSON: ends early"},
    {"a list", "[]", QN_E_INPUT, "not a JSON object"},
    {"cut", "{" M, QN_E_INPUT, "JSON: ends early"},
    {"text behind", "{" M "} ^x", QN_E_INPUT, "after the end"},
    {"no model", "{'version':'1.0'}", QN_E_INPUT, "the file has no model"},
    {"model is null", "{^'model':null}", QN_E_INPUT, "model is not an object"},
    {"two models", "{" M ",^" M "}", QN_E_INPUT, "twice"},
    {"two normalizers", "{'normalizer':null,^'normalizer':null," M "}", QN_E_INPUT, "twice"},
    {"not UTF-8", "{'x':'\xff'," M "}", QN_E_INPUT, "not UTF-8"},
    {"lone surrogate", "{'x':'\\ud800'," M "}", QN_E_INPUT, "surrogate"},
    {"deep", "{'x':[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]," M "}", QN_E_INPUT, "deeper than"},
    /* the model */
    {"unknown model", "{'model':^{'type':'Gzip','vocab':{}}}", QN_E_UNSUPPORTED, "the model 'Gzip' is not supported"},
    {"hostile name", "{'model':{'type':'\\u001b[2J','vocab':{}}}", QN_E_UNSUPPORTED, "the model '\\x1b[2J' is not supported"},
    {"type is a number", "{'model':{'type':^3,'vocab':{}}}", QN_E_INPUT, "\"type\" is not a string"},
    {"no vocab", "{'model':^{'type':'BPE','merges':[]}}", QN_E_INPUT, "no vocabulary"},
    {"vocab is a string", "{'model':{'type':'BPE','vocab':^'x'}}", QN_E_INPUT, "neither an object nor a list"},
    {"two vocabs", "{'model':{'type':'BPE','vocab':{},'vocab':^{}}}", QN_E_INPUT, "two vocabularies"},
    {"id is a string", "{'model':{'type':'BPE','vocab':{'a':^'0'}}}", QN_E_INPUT, "not a non-negative integer"},
    {"id is negative", "{'model':{'type':'BPE','vocab':{'a':^-1}}}", QN_E_INPUT, "not a non-negative integer"},
    {"id is a fraction", "{'model':{'type':'BPE','vocab':{'a':^1.5}}}", QN_E_INPUT, "not a non-negative integer"},
    {"id is huge", "{'model':{'type':'BPE','vocab':{'a':^4294967296}}}", QN_E_INPUT, "token id 4294967296, at most 16777215"},
    {"id of two tokens", "{'model':{'type':'BPE','vocab':{'a':0,'b':0}}}", QN_E_INPUT, "id 0 belongs to 'a' and to 'b'"},
    {"token twice", "{'model':{'type':'BPE','vocab':{'a':0,'a':^1}}}", QN_E_INPUT, "'a' is in the vocabulary twice"},
    {"list without scores", "{'model':{'type':'BPE','vocab':[^'a']}}", QN_E_INPUT, "not a pair of piece and score"},
    {"score is a string", "{'model':{'type':'BPE','vocab':[['a',^'b']]}}", QN_E_INPUT, "score is not a number"},
    {"three in a pair", "{'model':{'type':'BPE','vocab':[['a',1,^2]]}}", QN_E_INPUT, "more than piece and score"},
    {"merge without a space", "{'model':{'type':'BPE','vocab':{'a':0},'merges':[^'aa']}}", QN_E_INPUT, "'aa' is not two tokens"},
    {"merge with two spaces", "{'model':{'type':'BPE','vocab':{'a':0},'merges':[^'a a a']}}", QN_E_INPUT, "not two tokens"},
    {"merge of one", "{'model':{'type':'BPE','vocab':{'a':0},'merges':[['a'^]]}}", QN_E_INPUT, "not a pair of strings"},
    {"merge of three", "{'model':{'type':'BPE','vocab':{'a':0},'merges':[['a','a',^'a']]}}", QN_E_INPUT, "more than two tokens"},
    {"merge is a number", "{'model':{'type':'BPE','vocab':{'a':0},'merges':[^1]}}", QN_E_INPUT, "no merge"},
    {"merges is an object", "{'model':{'type':'BPE','vocab':{'a':0},'merges':^{}}}", QN_E_INPUT, "merges is not one list"},
    {"merge of strangers", "{'model':^{'type':'BPE','vocab':{'a':0},'merges':['a b']}}", QN_E_INPUT, "merge 0 needs the token 'b'"},
    {"merge into a stranger", "{'model':^{'type':'BPE','vocab':{'a':0},'merges':['a a']}}", QN_E_INPUT, "merge 0 needs the token 'aa'"},
    {"dropout", "{'model':{'type':'BPE','dropout':^0.1,'vocab':{'a':0}}}", QN_E_UNSUPPORTED, "dropout"},
    {"flag is a number", "{'model':{'type':'BPE','fuse_unk':^1,'vocab':{'a':0}}}", QN_E_INPUT, "\"fuse_unk\" is not true or false"},
    /* steps */
    {"unknown normalizer", NORM("^{'type':'Rot13'}"), QN_E_UNSUPPORTED, "the normalizer 'Rot13' is not supported"},
    {"unknown pre-tokenizer", PRE("^{'type':'Cut'}"), QN_E_UNSUPPORTED, "the pre-tokenizer 'Cut' is not supported"},
    {"unknown decoder", WITH("'decoder':^{'type':'Cut'}"), QN_E_UNSUPPORTED, "the decoder 'Cut' is not supported"},
    {"unknown in a sequence", NORM("{'type':'Sequence','normalizers':[{'type':'NFC'},^{'type':'X'}]}"), QN_E_UNSUPPORTED,
     "the normalizer 'X' is not supported"},
    {"step without a type", NORM("^{}"), QN_E_INPUT, "normalizer without a type"},
    {"step is a string", NORM("^'NFC'"), QN_E_INPUT, "normalizer is not an object"},
    {"sequence without members", NORM("^{'type':'Sequence'}"), QN_E_INPUT, "without a list of normalizers"},
    {"pattern is missing", PRE("{'type':'Split','behavior':'Isolated'}"), QN_E_INPUT, "a pattern is missing"},
    {"pattern is nothing", PRE("{'type':'Split','pattern':^{'String':''},'behavior':'Isolated'}"), QN_E_INPUT, "neither"},
    {"behavior", PRE("^{'type':'Split','pattern':{'String':'a'},'behavior':'Burn'}"), QN_E_UNSUPPORTED, "behavior 'Burn'"},
    {"delimiter of two", PRE("^{'type':'CharDelimiterSplit','delimiter':'ab'}"), QN_E_INPUT, "one character"},
    {"length 0", PRE("^{'type':'FixedLength','length':0}"), QN_E_INPUT, "0 characters"},
    {"prepend scheme", PRE("^{'type':'Metaspace','prepend_scheme':'maybe'}"), QN_E_UNSUPPORTED, "prepend_scheme"},
    /* patterns */
    {"group open", SPLIT("(a"), QN_E_INPUT, "pattern"},
    {"group closes nothing", SPLIT("a)"), QN_E_INPUT, "pattern"},
    {"odd group", SPLIT("(?i-a)"), QN_E_UNSUPPORTED, "kind of group"},
    {"class open", SPLIT("[a"), QN_E_INPUT, "class is not closed"},
    {"empty class", SPLIT("[]"), QN_E_INPUT, "class is not closed"},
    {"backslash at the end", SPLIT("a\\\\"), QN_E_INPUT, "ends with a backslash"},
    {"u without digits", SPLIT("\\\\u12"), QN_E_INPUT, "four hex digits"},
    {"intersection", SPLIT("[a&&b]"), QN_E_UNSUPPORTED, "intersection"},
    {"negated in a class", SPLIT("[a[^b]]"), QN_E_UNSUPPORTED, "negated class in a class"},
    {"not-word in a class", SPLIT("[\\\\W]"), QN_E_UNSUPPORTED, "in a class are not supported"},
    {"single byte", SPLIT("\\\\C"), QN_E_INPUT, "pattern"},
    {"unknown property", SPLIT("\\\\p{Klingon}"), QN_E_INPUT, "pattern"},
    {"quantifier alone", SPLIT("*"), QN_E_INPUT, "pattern"},
    /* added tokens */
    {"added is an object", WITH("'added_tokens':^{}"), QN_E_INPUT, "added_tokens is not a list"},
    {"added without content", WITH("'added_tokens':[^{'id':1}]"), QN_E_INPUT, "needs a content and an id"},
    {"added without id", WITH("'added_tokens':[^{'content':'x'}]"), QN_E_INPUT, "needs a content and an id"},
    {"added of a huge id", WITH("'added_tokens':[^{'content':'x','id':99999999}]"), QN_E_INPUT, "an id below 16777216"},
    {"added over a token", WITH("'added_tokens':[{'content':'x','id':0}]"), QN_E_INPUT, "id 0 belongs to 'a' and to 'x'"},
    /* post-processors */
    {"unknown post-processor", WITH("'post_processor':^{'type':'Glue'}"), QN_E_UNSUPPORTED, "the post-processor 'Glue'"},
    {"template without single", WITH("'post_processor':^{'type':'TemplateProcessing'}"), QN_E_INPUT, "without a list \"single\""},
    {"template without text", WITH("'post_processor':^{'type':'TemplateProcessing','single':[]}"), QN_E_UNSUPPORTED, "without the text"},
    {"template of strangers", WITH("'post_processor':{'type':'TemplateProcessing','single':[{'SpecialToken':^{'id':'x'}}]}"), QN_E_INPUT,
     "no list of ids"},
    {"template of a stranger's id", WITH("'post_processor':{'type':'TemplateProcessing','single':[{'SpecialToken':{'id':'x'}}],"
                                         "'special_tokens':{'x':{'ids':[^7]}}}"), QN_E_INPUT, "id 7, which no token has"},
    {"the text twice", WITH("'post_processor':{'type':'TemplateProcessing','single':[{'Sequence':{'id':'A'}},^{'Sequence':{'id':'A'}}]}"),
     QN_E_UNSUPPORTED, "special tokens around one text"},
    {"sep is a string", WITH("'post_processor':^{'type':'BertProcessing','cls':['a',0],'sep':'a'}"), QN_E_INPUT, "\"sep\""},
};

Test(tokenize, malformed)
{
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        const struct row *r = &rows[i];
        char json[1024];
        uint64_t off = UINT64_MAX;
        size_t n = 0;
        const bool pattern = strstr(r->json, "Regex") != NULL; /* where '^' is itself */
        for (const char *c = r->json; *c; c++)
            if (*c == '^' && !pattern)
                off = n;
            else
                json[n++] = *c == '\'' ? '"' : *c;
        json[n] = '\0';
        qn_tokenizer *t = NULL;
        qn_err err;
        const qn_code rc = qt_tok_try(json, NULL, &t, &err);
        if (off == UINT64_MAX)
            off = err.off;
        cr_expect(qt_err_is(r->name, &err, rc, r->code, off, NULL, r->text));
        if (rc == QN_OK)
            qn_tokenizer_close(t);
    }
}

/* Every request for memory fails in turn: the error is told and nothing is lost. */
Test(tokenize, memory_runs_out)
{
    char json[] = "{'added_tokens':[{'id':1,'content':'<s>','special':true},{'id':2,'content':'X','normalized':true}],"
                  "'normalizer':{'type':'Sequence','normalizers':[{'type':'NFC'},{'type':'Replace','pattern':{'Regex':' +'},'content':' '}]},"
                  "'pre_tokenizer':{'type':'Sequence','pretokenizers':[{'type':'Digits'},{'type':'ByteLevel'}]},"
                  "'decoder':{'type':'ByteLevel'},"
                  "'model':{'type':'BPE','vocab':{'a':0,'<s>':1,'b':3,'ab':4},'merges':['a b']}}";
    bool done = false;
    for (char *c = json; *c; c++)
        *c = *c == '\'' ? '"' : *c;
    for (uint64_t nth = 1; !done; nth++) {
        qt_files files;
        qt_counter counter;
        qn_tokenizer *t = NULL;
        qn_tokens ids = {.n = 0};
        qn_err err;
        char *text = NULL;
        uint64_t n = 0, cap = 0;
        qt_files_init(&files);
        qt_files_add(&files, "m/tokenizer.json", json, strlen(json));
        qt_counter_init(&counter);
        counter.fail_at = nth;
        const qn_env env = qt_env(&files, &counter);
        qn_err_clear(&err);
        qn_code rc = qn_tokenizer_open(&env, "m", &t, &err);
        if (rc == QN_OK)
            rc = qn_tokenizer_encode(t, "ab\xff 12  \xc3\xa9<s>x", 14, QN_TOKENIZE_SPECIAL, &ids, &err);
        if (rc == QN_OK)
            rc = qn_tokenizer_decode(t, ids.ids, ids.n, false, &text, &n, &cap, &err);
        done = rc == QN_OK;
        cr_assert(rc == QN_OK || (rc == QN_E_MEMORY && err.code == QN_E_MEMORY), "request %llu: %d", (unsigned long long)nth, rc);
        qn_mem_put(env.alloc, text);
        qn_tokens_release(&ids, env.alloc);
        qn_tokenizer_close(t);
        cr_assert_eq(counter.live, 0u, "request %llu", (unsigned long long)nth);
        cr_assert_eq(files.n_open, 0u);
    }
}
