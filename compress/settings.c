/* settings.c: see settings.h. */
#include "compress/settings.h"
#include "base/err.h"
#include "compress/blocks/block.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const qn_setting qn_setting_tab[QN_N_SETTINGS] = {
#define QN_SETTING(field, name, kind, least, most, codecs, arg, help) \
    {name, QN_SETTING_##kind, offsetof(qn_quant_settings, field), least, most, codecs},
#include "compress/settings_tmpl.h"
#undef QN_SETTING
};

const qn_setting *qn_setting_find(const char *name)
{
    for (unsigned i = 0; i < QN_N_SETTINGS; i++)
        if (strcmp(qn_setting_tab[i].name, name) == 0)
            return &qn_setting_tab[i];
    return NULL;
}

static void *place(const qn_setting *s, qn_quant_settings *set)
{
    return (char *)set + s->at;
}

static double value_of(const qn_setting *s, const qn_quant_settings *set)
{
    const void *p = (const char *)set + s->at;
    switch (s->kind) {
    case QN_SETTING_REAL: return *(const double *)p;
    case QN_SETTING_FLAG: return *(const bool *)p;
    default: return *(const uint32_t *)p;
    }
}

static void put(const qn_setting *s, qn_quant_settings *set, double v)
{
    void *p = place(s, set);
    switch (s->kind) {
    case QN_SETTING_REAL: *(double *)p = v; break;
    case QN_SETTING_FLAG: *(bool *)p = v != 0; break;
    default: *(uint32_t *)p = (uint32_t)v; break;
    }
}

static qn_code refuse(const qn_setting *s, const char *text, qn_err *err)
{
    if (s->kind == QN_SETTING_FLAG)
        return QN_FAIL(err, QN_E_USAGE, QN_NO_OFFSET, "%s: found '%.40s', allowed are yes and no", s->name, text);
    return QN_FAIL(err, QN_E_USAGE, QN_NO_OFFSET, "%s: found '%.40s', allowed are %s%g to %g%s", s->name, text,
                   s->kind == QN_SETTING_REAL ? "" : "whole numbers from ", s->least, s->most,
                   s->kind == QN_SETTING_WIDTH ? ", or 'row'" : "");
}

static bool is_one_of(const char *text, const char *const *words)
{
    for (; *words; words++)
        if (strcmp(text, *words) == 0)
            return true;
    return false;
}

qn_code qn_setting_read(const qn_setting *s, const char *text, qn_quant_settings *set, qn_err *err)
{
    static const char *const yes[] = {"yes", "true", "on", "1", NULL}, *const no[] = {"no", "false", "off", "0", NULL};
    if (s->kind == QN_SETTING_FLAG) {
        if (!is_one_of(text, yes) && !is_one_of(text, no))
            return refuse(s, text, err);
        put(s, set, is_one_of(text, yes));
        return QN_OK;
    }
    if (s->kind == QN_SETTING_WIDTH && strcmp(text, "row") == 0) {
        put(s, set, UINT32_MAX);
        return QN_OK;
    }
    char *end = NULL;
    const bool plain = (*text >= '0' && *text <= '9') || *text == '.'; /* no blanks, signs or words */
    const double v = plain ? strtod(text, &end) : (double)NAN;
    if (!plain || *end || !(v >= s->least && v <= s->most) || (s->kind != QN_SETTING_REAL && v != floor(v)))
        return refuse(s, text, err);
    put(s, set, v);
    return QN_OK;
}

void qn_settings_merge(qn_quant_settings *set, const qn_quant_settings *over)
{
    for (unsigned i = 0; i < QN_N_SETTINGS; i++)
        if (value_of(&qn_setting_tab[i], over) != 0)
            put(&qn_setting_tab[i], set, value_of(&qn_setting_tab[i], over));
}

bool qn_settings_equal(const qn_quant_settings *a, const qn_quant_settings *b)
{
    for (unsigned i = 0; i < QN_N_SETTINGS; i++)
        if (value_of(&qn_setting_tab[i], a) != value_of(&qn_setting_tab[i], b))
            return false;
    return true;
}

static bool knows(const qn_setting *s, const char *codec)
{
    if (!*s->codecs)
        return true;
    if (qn_block_coder_find(codec))
        codec = "blocks"; /* whichever type it is */
    const size_t n = strlen(codec);
    for (const char *p = s->codecs; (p = strstr(p, codec)); p += n)
        if ((p == s->codecs || p[-1] == ' ') && (p[n] == 0 || p[n] == ' '))
            return true;
    return false;
}

qn_code qn_settings_check(const qn_quant_settings *set, const char *codec, qn_err *err)
{
    for (unsigned i = 0; i < QN_N_SETTINGS; i++) {
        const qn_setting *s = &qn_setting_tab[i];
        if (value_of(s, set) != 0 && !knows(s, codec))
            return QN_FAIL(err, QN_E_USAGE, QN_NO_OFFSET, "%s does not go with the codec %s, only with %s", s->name, codec, s->codecs);
    }
    return QN_OK;
}

void qn_settings_keep(qn_quant_settings *set, const char *codec)
{
    for (unsigned i = 0; i < QN_N_SETTINGS; i++)
        if (!knows(&qn_setting_tab[i], codec))
            put(&qn_setting_tab[i], set, 0);
}

size_t qn_settings_write(const qn_quant_settings *set, char *buf, size_t n_bytes)
{
    size_t n = 0;
    if (n_bytes)
        buf[0] = 0;
    for (unsigned i = 0; i < QN_N_SETTINGS; i++) {
        const qn_setting *s = &qn_setting_tab[i];
        const double v = value_of(s, set);
        char one[64];
        if (v == 0)
            continue;
        if (s->kind == QN_SETTING_FLAG)
            (void)snprintf(one, sizeof one, " %s", s->name);
        else if (s->kind == QN_SETTING_WIDTH && v >= UINT32_MAX)
            (void)snprintf(one, sizeof one, " %s=row", s->name);
        else
            (void)snprintf(one, sizeof one, " %s=%.9g", s->name, v);
        const size_t len = strlen(one);
        if (n + len < n_bytes)
            memcpy(buf + n, one, len + 1);
        n += len;
    }
    return n;
}
