/* regex.c: see regex.h. */
#define PCRE2_CODE_UNIT_WIDTH 8
#include "analysis/tokenize/regex.h"
#include "analysis/tokenize/utf8.h"
#include <pcre2.h>

enum {
    MATCH_LIMIT = 20 * 1000 * 1000, /* steps of one match                                    */
    HEAP_LIMIT_KB = 64 << 10,       /* of the interpreter                                    */
    STACK_MIN = 32 << 10,           /* of compiled code, bytes                               */
    STACK_MAX = 4 << 20
};

struct qn_tok_regex {
    const qn_alloc *alloc;
    pcre2_general_context *general;
    pcre2_code *code;
    bool jit;
};

static void *get(size_t n, void *ctx)
{
    return qn_mem_get(ctx, n, NULL);
}

static void put_back(void *p, void *ctx)
{
    qn_mem_put(ctx, p);
}

static qn_code no_memory(qn_err *err)
{
    return QN_FAIL(err, QN_E_MEMORY, QN_NO_OFFSET, "no memory for a pattern");
}

static qn_code compile(qn_tok_regex *r, const qn_tok_buf *words, qn_err *err)
{
    int fault = 0;
    PCRE2_SIZE at = 0;
    pcre2_compile_context *cc = pcre2_compile_context_create(r->general);
    if (!cc)
        return no_memory(err);
    (void)pcre2_set_newline(cc, PCRE2_NEWLINE_LF);
    (void)pcre2_set_parens_nest_limit(cc, 250);
    r->code = pcre2_compile((PCRE2_SPTR)words->p, words->n,
                            PCRE2_UTF | PCRE2_UCP | PCRE2_MULTILINE | PCRE2_NEVER_BACKSLASH_C, &fault, &at, cc);
    pcre2_compile_context_free(cc);
    if (!r->code) {
        char text[120] = "";
        (void)pcre2_get_error_message(fault, (PCRE2_UCHAR *)text, sizeof text);
        return QN_FAIL(err, fault == PCRE2_ERROR_HEAP_FAILED ? QN_E_MEMORY : QN_E_INPUT, QN_NO_OFFSET,
                       "tokenizer: pattern, at byte %zu of its translation: %s", (size_t)at, text);
    }
    r->jit = pcre2_jit_compile(r->code, PCRE2_JIT_COMPLETE) == 0;
    return QN_OK;
}

qn_code qn_tok_regex_open(const qn_alloc *a, const char *pattern, uint64_t n, qn_tok_regex **out, qn_err *err)
{
    qn_tok_buf words = {.alloc = a};
    if (n == 0 || n > QN_TOK_PATTERN_MAX)
        return QN_FAIL(err, QN_E_INPUT, QN_NO_OFFSET, "tokenizer: a pattern of %llu bytes, 1 to %d are allowed",
                       (unsigned long long)n, QN_TOK_PATTERN_MAX);
    qn_tok_regex *r = qn_mem_zeros(a, 1, sizeof *r, err);
    if (!r)
        return QN_E_MEMORY;
    r->alloc = a;
    union { const qn_alloc *in; void *out; } ctx = {.in = a}; /* the heap is handed on as it is */
    r->general = pcre2_general_context_create(get, put_back, ctx.out);
    qn_code rc = r->general ? qn_tok_regex_translate(pattern, n, &words, err) : no_memory(err);
    if (rc == QN_OK)
        rc = compile(r, &words, err);
    qn_mem_put(a, words.p);
    if (rc != QN_OK) {
        qn_tok_regex_close(r);
        return rc;
    }
    *out = r;
    return QN_OK;
}

void qn_tok_regex_close(qn_tok_regex *r)
{
    if (!r)
        return;
    pcre2_code_free(r->code);
    pcre2_general_context_free(r->general);
    qn_mem_put(r->alloc, r);
}

qn_code qn_tok_matcher_open(qn_tok_matcher *m, const qn_tok_regex *re, qn_err *err)
{
    *m = (qn_tok_matcher){.re = re};
    pcre2_match_context *mc = pcre2_match_context_create(re->general);
    m->context = mc;
    m->data = pcre2_match_data_create(1, re->general);
    if (!mc || !m->data) {
        qn_tok_matcher_close(m);
        return no_memory(err);
    }
    (void)pcre2_set_match_limit(mc, MATCH_LIMIT);
    (void)pcre2_set_heap_limit(mc, HEAP_LIMIT_KB);
    return QN_OK;
}

void qn_tok_matcher_close(qn_tok_matcher *m)
{
    pcre2_match_data_free(m->data);
    pcre2_match_context_free(m->context);
    pcre2_jit_stack_free(m->stack);
    *m = (qn_tok_matcher){.re = NULL};
}

/* Compiled code first, on the stack of the thread; then with a larger one; then the interpreter, which needs none. */
static int match_once(qn_tok_matcher *m, const char *p, uint64_t n, uint64_t from)
{
    const uint32_t flags = PCRE2_NO_UTF_CHECK;
    if (m->re->jit) {
        int rc = pcre2_jit_match(m->re->code, (PCRE2_SPTR)p, n, from, flags, m->data, m->context);
        if (rc == PCRE2_ERROR_JIT_STACKLIMIT && !m->stack) {
            m->stack = pcre2_jit_stack_create(STACK_MIN, STACK_MAX, m->re->general);
            pcre2_jit_stack_assign(m->context, NULL, m->stack);
            if (m->stack)
                rc = pcre2_jit_match(m->re->code, (PCRE2_SPTR)p, n, from, flags, m->data, m->context);
        }
        if (rc != PCRE2_ERROR_JIT_STACKLIMIT)
            return rc;
    }
    return pcre2_match(m->re->code, (PCRE2_SPTR)p, n, from, flags | PCRE2_NO_JIT, m->data, m->context);
}

qn_code qn_tok_matcher_find(qn_tok_matcher *m, const char *p, uint64_t n, uint64_t from, uint64_t *begin, uint64_t *end,
                            qn_err *err)
{
    *begin = *end = n;
    while (from < n) {
        const int rc = match_once(m, p, n, from);
        if (rc == PCRE2_ERROR_NOMATCH)
            return QN_OK;
        if (rc < 0) {
            char text[120] = "";
            (void)pcre2_get_error_message(rc, (PCRE2_UCHAR *)text, sizeof text);
            return QN_FAIL(err, rc == PCRE2_ERROR_NOMEMORY ? QN_E_MEMORY : QN_E_INPUT, QN_NO_OFFSET,
                           "tokenizer: a pattern fails on this text: %s", text);
        }
        const PCRE2_SIZE *at = pcre2_get_ovector_pointer(m->data);
        if (at[1] > at[0] && at[0] >= from) { /* \K in a lookahead could do otherwise */
            *begin = at[0];
            *end = at[1];
            return QN_OK;
        }
        if (at[0] < from || at[0] >= n)
            return QN_OK;
        from = at[0] + qn_utf8_len(p + at[0]); /* an empty match cuts nothing */
    }
    return QN_OK;
}
