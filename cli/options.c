/* options.c: see options.h. */
#include "cli/options.h"
#include "base/err.h"
#include "cli/suggest.h"
#include "base/sizes.h"
#include "cli/units.h"
#include <errno.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { OPTIONS_MAX = 64 }; /* in all tables of one command: bits of `seen` */

struct parse {
    const qn_option_table *tables;
    unsigned n_tables;
    const char *who;
    char **argv;
    int argc;
    qn_arena *arena;
    unsigned char *args;
    qn_operands *operands;
    qn_hint *hint;
    uint64_t seen;
};

void qn_hint_set(qn_hint *hint, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(hint->text, sizeof hint->text, fmt, ap);
    va_end(ap);
}

/* Row by name (or by letter when name is NULL); *bit is its place in all tables together. */
static const qn_option *find(const struct parse *p, const char *name, size_t n, char letter, unsigned *bit)
{
    unsigned at = 0;
    for (unsigned t = 0; t < p->n_tables; t++)
        for (unsigned i = 0; i < p->tables[t].n; i++, at++) {
            const qn_option *o = &p->tables[t].rows[i];
            const bool hit = name ? strlen(o->name) == n && memcmp(o->name, name, n) == 0 : o->letter == letter;
            if (hit) {
                *bit = at;
                return o;
            }
        }
    return NULL;
}

static qn_code unknown_option(struct parse *p, const char *arg, const char *name, size_t n, qn_err *err)
{
    qn_suggest s = qn_suggest_for(name, n);
    for (unsigned t = 0; t < p->n_tables; t++)
        for (unsigned i = 0; i < p->tables[t].n; i++)
            qn_suggest_try(&s, p->tables[t].rows[i].name);
    if (s.best)
        qn_hint_set(p->hint, "did you mean --%s?", s.best);
    else
        qn_hint_set(p->hint, "'quern help %s' lists the options", p->who);
    char shown[160];
    qn_printable(shown, sizeof shown, arg, strlen(arg));
    return QN_FAIL(err, QN_E_USAGE, QN_NO_OFFSET, "%s: unknown option '%s'", p->who, shown);
}

static qn_code bad_value(const struct parse *p, const qn_option *o, const char *value, const char *allowed, qn_err *err)
{
    char shown[160];
    qn_printable(shown, sizeof shown, value, strlen(value));
    return QN_FAIL(err, QN_E_USAGE, QN_NO_OFFSET, "%s: --%s: '%s' found, allowed is %s", p->who, o->name, shown, allowed);
}

static qn_code store_number(struct parse *p, const qn_option *o, const char *value, qn_err *err)
{
    const bool size = o->type == QN_OPT_SIZE;
    const uint64_t max = o->max ? o->max : UINT64_MAX;
    char allowed[160], lo[32], hi[32];
    uint64_t v;
    if (size) {
        qn_human_bytes(lo, sizeof lo, o->min);
        qn_human_bytes(hi, sizeof hi, max);
        snprintf(allowed, sizeof allowed, "a size from %s, such as 512M, 1.5G (powers of 1024) or 2GB (powers of 1000)", lo);
    } else if (o->max) {
        snprintf(allowed, sizeof allowed, "a whole number from %llu to %llu", (unsigned long long)o->min,
                 (unsigned long long)o->max);
    } else {
        snprintf(allowed, sizeof allowed, "a whole number from %llu", (unsigned long long)o->min);
    }
    if (!(size ? qn_parse_size(value, &v) : qn_parse_count(value, &v)) || v < o->min || v > max)
        return bad_value(p, o, value, allowed, err);
    memcpy(p->args + o->at, &v, sizeof v);
    return QN_OK;
}

static qn_code store_real(struct parse *p, const qn_option *o, const char *value, qn_err *err)
{
    char *end;
    char allowed[96];
    const double v = strtod(value, &end);
    if (o->max)
        snprintf(allowed, sizeof allowed, "a number from %llu to %llu", (unsigned long long)o->min,
                 (unsigned long long)o->max);
    else
        snprintf(allowed, sizeof allowed, "a number from %llu", (unsigned long long)o->min);
    if (end == value || *end || !isfinite(v) || v < (double)o->min || (o->max && v > (double)o->max))
        return bad_value(p, o, value, allowed, err);
    memcpy(p->args + o->at, &v, sizeof v);
    return QN_OK;
}

static qn_code store_choice(struct parse *p, const qn_option *o, const char *value, qn_err *err)
{
    char allowed[200] = "";
    size_t n = 0;
    for (int i = 0; o->choices[i]; i++) {
        if (strcmp(o->choices[i], value) == 0) {
            memcpy(p->args + o->at, &i, sizeof i);
            return QN_OK;
        }
        const char *sep = i == 0 ? "" : o->choices[i + 1] ? ", " : " or ";
        const int w = snprintf(allowed + n, sizeof allowed - n, "%s%s", sep, o->choices[i]);
        n += w > 0 && (size_t)w < sizeof allowed - n ? (size_t)w : 0;
    }
    return bad_value(p, o, value, allowed, err);
}

static qn_code store_list(struct parse *p, const qn_option *o, const char *value, qn_err *err)
{
    qn_texts list;
    memcpy(&list, p->args + o->at, sizeof list);
    if (!list.items) /* no line holds more values than words */
        list.items = qn_arena_get(p->arena, (uint64_t)p->argc * sizeof *list.items + sizeof *list.items, 8, err);
    if (!list.items)
        return QN_E_MEMORY;
    list.items[list.n++] = value;
    memcpy(p->args + o->at, &list, sizeof list);
    return QN_OK;
}

static qn_code store(struct parse *p, const qn_option *o, const char *value, qn_err *err)
{
    switch (o->type) {
    case QN_OPT_FLAG:
        memcpy(p->args + o->at, &(bool){true}, sizeof(bool));
        return QN_OK;
    case QN_OPT_COUNT:
    case QN_OPT_SIZE:
        return store_number(p, o, value, err);
    case QN_OPT_REAL:
        return store_real(p, o, value, err);
    case QN_OPT_CHOICE:
        return store_choice(p, o, value, err);
    case QN_OPT_TEXTS:
        return store_list(p, o, value, err);
    default:
        if (value[0] == '\0')
            return QN_FAIL(err, QN_E_USAGE, QN_NO_OFFSET, "%s: --%s: the %s is empty", p->who, o->name, o->arg);
        memcpy(p->args + o->at, &value, sizeof value);
        return QN_OK;
    }
}

static qn_code once(struct parse *p, const qn_option *o, unsigned bit, qn_err *err)
{
    if (bit >= OPTIONS_MAX)
        return QN_BUG(err, "%s has more than %d options", p->who, OPTIONS_MAX);
    const uint64_t mask = UINT64_C(1) << bit;
    if ((p->seen & mask) && o->type != QN_OPT_FLAG && o->type != QN_OPT_TEXTS)
        return QN_FAIL(err, QN_E_USAGE, QN_NO_OFFSET, "%s: --%s is given twice", p->who, o->name);
    p->seen |= mask;
    return QN_OK;
}

static qn_code missing_value(struct parse *p, const qn_option *o, qn_err *err)
{
    return QN_FAIL(err, QN_E_USAGE, QN_NO_OFFSET, "%s: --%s needs a value: --%s=%s", p->who, o->name, o->name, o->arg);
}

static qn_code long_option(struct parse *p, int *at, qn_err *err)
{
    const char *arg = p->argv[*at], *name = arg + 2, *eq = strchr(name, '=');
    const size_t n = eq ? (size_t)(eq - name) : strlen(name);
    unsigned bit = 0;
    const qn_option *o = find(p, name, n, 0, &bit);
    if (!o)
        return unknown_option(p, arg, name, n, err);
    QN_TRY(once(p, o, bit, err));
    if (o->type == QN_OPT_FLAG) {
        if (eq)
            return QN_FAIL(err, QN_E_USAGE, QN_NO_OFFSET, "%s: --%s takes no value", p->who, o->name);
        return store(p, o, NULL, err);
    }
    if (eq)
        return store(p, o, eq + 1, err);
    if (o->implied)
        return store(p, o, o->implied, err);
    if (*at + 1 >= p->argc)
        return missing_value(p, o, err);
    return store(p, o, p->argv[++*at], err);
}

/* `-qf`, `-oFILE`, `-o FILE` */
static qn_code short_options(struct parse *p, int *at, qn_err *err)
{
    const char *arg = p->argv[*at];
    for (const char *c = arg + 1; *c; c++) {
        unsigned bit = 0;
        const qn_option *o = find(p, NULL, 0, *c, &bit);
        if (!o)
            return unknown_option(p, arg, arg + 1, strlen(arg + 1), err);
        QN_TRY(once(p, o, bit, err));
        if (o->type == QN_OPT_FLAG) {
            QN_TRY(store(p, o, NULL, err));
            continue;
        }
        if (c[1])
            return store(p, o, c + 1, err);
        if (o->implied)
            return store(p, o, o->implied, err);
        if (*at + 1 >= p->argc)
            return missing_value(p, o, err);
        return store(p, o, p->argv[++*at], err);
    }
    return QN_OK;
}

static qn_code defaults(struct parse *p, qn_err *err)
{
    for (unsigned t = 0; t < p->n_tables; t++)
        for (unsigned i = 0; i < p->tables[t].n; i++)
            if (p->tables[t].rows[i].fallback)
                QN_TRY(store(p, &p->tables[t].rows[i], p->tables[t].rows[i].fallback, err));
    return QN_OK;
}

qn_code qn_options_parse(const qn_option_table *tables, unsigned n_tables, const char *who, int argc, char **argv,
                         qn_arena *arena, void *args, qn_operands *operands, qn_hint *hint, qn_err *err)
{
    struct parse p = {.tables = tables, .n_tables = n_tables, .who = who, .argv = argv, .argc = argc, .arena = arena,
                      .args = args, .operands = operands, .hint = hint};
    operands->n = 0;
    operands->items = qn_arena_get(arena, ((uint64_t)argc + 1) * sizeof *operands->items, 8, err);
    if (!operands->items)
        return QN_E_MEMORY;
    QN_TRY(defaults(&p, err));
    bool options = true;
    for (int i = 0; i < argc; i++) {
        const char *a = argv[i];
        if (!options || a[0] != '-' || a[1] == '\0')
            operands->items[operands->n++] = a;
        else if (strcmp(a, "--") == 0)
            options = false;
        else if (a[1] == '-')
            QN_TRY(long_option(&p, &i, err));
        else
            QN_TRY(short_options(&p, &i, err));
    }
    return QN_OK;
}

void qn_option_spelling(const qn_option *o, char *buf, size_t n_bytes)
{
    char letter[8] = "";
    if (o->letter)
        snprintf(letter, sizeof letter, "-%c, ", o->letter);
    if (!o->arg)
        snprintf(buf, n_bytes, "%s--%s", letter, o->name);
    else if (o->implied)
        snprintf(buf, n_bytes, "%s--%s[=%s]", letter, o->name, o->arg);
    else
        snprintf(buf, n_bytes, "%s--%s=%s", letter, o->name, o->arg);
}
