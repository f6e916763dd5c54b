/* regex_translate.c: patterns from Oniguruma's words into PCRE2's.
 *
 * The two agree on most of the syntax. What differs, and is rewritten:
 *   \s \S      White_Space (PCRE2 counts U+180E too)
 *   \w \W \b   Alphabetic, M, Nd, Pc (PCRE2 10.42: L, N and "_")
 *   \d \D      Nd
 *   \h \H      a hex digit (PCRE2: horizontal space)
 *   \uHHHH     a code point
 *   \p{Han}    the script that characters have (PCRE2: also those that are used in several scripts, this one among them)
 *   (?m)       dot matches newline: (?s)
 *   {,n}       {0,n}
 *   [a[bc]]    a class in a class is their union; intersections and negated inner classes are refused */
#include "analysis/tokenize/regex.h"

#define SPACE "\\t-\\r\\x{85}\\p{Z}"
#define WORD  "\\p{Alphabetic}\\p{M}\\p{Nd}\\p{Pc}"
#define HEX   "0-9A-Fa-f"

struct translator {
    const char *p;
    uint64_t n, at;
    qn_tok_buf *out;
};

#define REFUSE(t, what) \
    QN_FAIL(err, QN_E_UNSUPPORTED, QN_NO_OFFSET, "tokenizer: pattern, at byte %llu: %s", (unsigned long long)(t)->at, what)
#define WRONG(t, what) \
    QN_FAIL(err, QN_E_INPUT, QN_NO_OFFSET, "tokenizer: pattern, at byte %llu: %s", (unsigned long long)(t)->at, what)

static qn_code put(struct translator *t, const char *s, qn_err *err)
{
    return qn_tok_buf_put(t->out, s, strlen(s), err);
}

static qn_code copy(struct translator *t, uint64_t n, qn_err *err)
{
    QN_TRY(qn_tok_buf_put(t->out, t->p + t->at, n, err));
    t->at += n;
    return QN_OK;
}

static bool is_letter(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

static bool is_hex(char c)
{
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F');
}

/* \u0041 → \x{0041}; t->at stands after the u. */
static qn_code code_point(struct translator *t, qn_err *err)
{
    for (uint64_t i = 0; i < 4; i++)
        if (t->at + i >= t->n || !is_hex(t->p[t->at + i]))
            return WRONG(t, "\\u is not followed by four hex digits");
    QN_TRY(put(t, "\\x{", err));
    QN_TRY(copy(t, 4, err));
    return put(t, "}", err);
}

/* Loosely, as property names are compared: case, spaces, '-' and '_' do not count. */
static bool is_script(const char *s, uint64_t n)
{
    char name[40];
    uint64_t k = 0;
    for (uint64_t i = 0; i < n && k < sizeof name - 1; i++)
        if (s[i] != ' ' && s[i] != '-' && s[i] != '_')
            name[k++] = is_letter(s[i]) ? (char)(s[i] | 0x20) : s[i];
    name[k] = '\0';
    for (size_t i = 0; qn_tok_scripts[i][0]; i++)
        if (strcmp(name, qn_tok_scripts[i][0]) == 0 || strcmp(name, qn_tok_scripts[i][1]) == 0)
            return true;
    return false;
}

/* After \p, \P or \x: the braces too, which are the same in both but for the names of scripts. */
static qn_code braces(struct translator *t, qn_err *err)
{
    if (t->at == t->n || t->p[t->at] != '{')
        return QN_OK;
    const char *end = memchr(t->p + t->at, '}', t->n - t->at);
    if (!end)
        return WRONG(t, "a brace is not closed");
    QN_TRY(copy(t, t->at + 1 < t->n && t->p[t->at + 1] == '^' ? 2 : 1, err));
    const uint64_t n = (uint64_t)(end - (t->p + t->at));
    if (is_script(t->p + t->at, n))
        QN_TRY(put(t, "sc:", err));
    return copy(t, n + 1, err);
}

static qn_code escape(struct translator *t, bool in_class, qn_err *err)
{
    if (t->at + 1 == t->n)
        return WRONG(t, "ends with a backslash");
    const char c = t->p[t->at + 1];
    t->at += 2;
    switch (c) {
    case 's':
        return put(t, in_class ? SPACE : "[" SPACE "]", err);
    case 'S':
        return put(t, in_class ? "\\P{White_Space}" : "[^" SPACE "]", err);
    case 'd':
        return put(t, "\\p{Nd}", err);
    case 'D':
        return put(t, "\\P{Nd}", err);
    case 'w':
        return put(t, in_class ? WORD : "[" WORD "]", err);
    case 'h':
        return put(t, in_class ? HEX : "[" HEX "]", err);
    case 'W':
    case 'H':
        if (in_class)
            return REFUSE(t, "\\W and \\H in a class are not supported");
        return put(t, c == 'W' ? "[^" WORD "]" : "[^" HEX "]", err);
    case 'b':
        if (in_class)
            return put(t, "\\x08", err);
        return put(t, "(?:(?<![" WORD "])(?=[" WORD "])|(?<=[" WORD "])(?![" WORD "]))", err);
    case 'B':
        return put(t, "(?:(?<![" WORD "])(?![" WORD "])|(?<=[" WORD "])(?=[" WORD "]))", err);
    case 'u':
        return code_point(t, err);
    case 'p':
    case 'P':
    case 'x':
        t->at -= 2;
        QN_TRY(copy(t, 2, err));
        return braces(t, err);
    default:
        t->at -= 2;
        return copy(t, 2, err); /* of a character of more bytes the rest follows as plain text */
    }
}

/* What stands between [ or [^ and ]; t->at after the opening. */
static qn_code class_body(struct translator *t, unsigned nest, qn_err *err)
{
    bool first = true;
    if (nest > 8)
        return REFUSE(t, "classes nested deeper than 8");
    for (;; first = false) {
        if (t->at == t->n)
            return WRONG(t, "a class is not closed");
        const char c = t->p[t->at];
        if (c == ']' && !first) {
            t->at++;
            return QN_OK;
        }
        if (c == '&' && t->at + 1 < t->n && t->p[t->at + 1] == '&')
            return REFUSE(t, "the intersection of classes is not supported");
        if (c == '[' && t->at + 1 < t->n && t->p[t->at + 1] == ':') {
            const char *end = memchr(t->p + t->at, ']', t->n - t->at);
            if (!end)
                return WRONG(t, "a class is not closed");
            QN_TRY(copy(t, (uint64_t)(end - (t->p + t->at)) + 1, err));
        } else if (c == '[') {
            if (t->at + 1 < t->n && t->p[t->at + 1] == '^')
                return REFUSE(t, "a negated class in a class is not supported");
            t->at++;
            QN_TRY(class_body(t, nest + 1, err));
        } else if (c == '\\') {
            QN_TRY(escape(t, true, err));
        } else if (c == ']') {
            t->at++;
            QN_TRY(put(t, "\\]", err));
        } else {
            QN_TRY(copy(t, 1, err));
        }
    }
}

static qn_code take_class(struct translator *t, qn_err *err)
{
    const bool negated = t->at + 1 < t->n && t->p[t->at + 1] == '^';
    t->at += negated ? 2 : 1;
    QN_TRY(put(t, negated ? "[^" : "[", err));
    QN_TRY(class_body(t, 0, err));
    return put(t, "]", err);
}

/* ( with its flags, of which one has another name; everything else is the same in both. */
static qn_code open_group(struct translator *t, qn_err *err)
{
    uint64_t i = t->at + 2;
    if (i >= t->n || t->p[i - 1] != '?' || !strchr("imx-", t->p[i]))
        return copy(t, 1, err);
    QN_TRY(copy(t, 2, err));
    for (; i < t->n && strchr("imx-", t->p[i]); i++)
        QN_TRY(qn_tok_buf_put(t->out, t->p[i] == 'm' ? "s" : t->p + i, 1, err));
    t->at = i;
    if (i == t->n || (t->p[i] != ':' && t->p[i] != ')'))
        return REFUSE(t, "this kind of group is not supported");
    return copy(t, 1, err);
}

static qn_code one(struct translator *t, qn_err *err)
{
    const char c = t->p[t->at];
    if (c == '\\')
        return escape(t, false, err);
    if (c == '[')
        return take_class(t, err);
    if (c == '(')
        return open_group(t, err);
    if (c == '{' && t->at + 1 < t->n && t->p[t->at + 1] == ',') {
        t->at++;
        return put(t, "{0", err);
    }
    return copy(t, 1, err);
}

qn_code qn_tok_regex_translate(const char *pattern, uint64_t n, qn_tok_buf *out, qn_err *err)
{
    struct translator t = {.p = pattern, .n = n, .out = out};
    if (memchr(pattern, 0, n))
        return WRONG(&t, "holds a NUL");
    while (t.at < n)
        QN_TRY(one(&t, err));
    return QN_OK;
}
